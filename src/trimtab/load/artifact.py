"""What leaves Trimtab and comes back: a folder that plain transformers refuses and that carries its own proof."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import GenerationConfig, PreTrainedModel

import trimtab
from trimtab import anatomy as anatomies
from trimtab import methods
from trimtab.anatomy import Anatomy
from trimtab.core.acts import parted
from trimtab.core.build import build
from trimtab.core.errors import BadInput, Refused, nearest
from trimtab.core.evict import CacheMethod
from trimtab.core.files import write_atomic
from trimtab.core.firstcalls import settle_first_calls
from trimtab.core.keep import TokenMethod
from trimtab.core.linear import Host, Linear
from trimtab.core.reading import Reading
from trimtab.core.staticacts import activation
from trimtab.core.weight import Weight
from trimtab.load import synthetic, tensors
from trimtab.load.cache import new_folder, size
from trimtab.load.config import read_config
from trimtab.load.gate_samples import conditions, is_lowered, record
from trimtab.load.hashing import content_hash
from trimtab.load.license import papers
from trimtab.load.loaded import Loaded, Source
from trimtab.load.manifest import FILE, SAMPLES, SOURCE, WEIGHTS, Base, Manifest, Policy, read_manifest
from trimtab.load.model_card import model_card
from trimtab.load.processors import BACKEND, open_processors


@dataclass(frozen=True)
class ArtifactInfo:
    """``bytes``: of the weight file; ``folder_bytes``: of everything."""

    path: Path
    bytes: int
    content_hash: str
    folder_bytes: int


def write(folder: Path, loaded: Loaded, manifest: dict[str, Any], gate_samples: Path | None = None) -> ArtifactInfo:
    """Write the artifact as a whole or not at all; an older artifact at ``folder`` is replaced.

    ``manifest``: what the run adds (recipe, calibration, invariants, quality, modified, notes, timings).
    ``gate_samples``: a file from ``gate_samples.record``; private ones are not copied, synthetic ones stand in.
    Raises Refused where something else is at ``folder``, or the model needs its repository's code.
    """
    folder = Path(folder)
    if loaded.code:
        raise Refused(f"{loaded.source.id}: an artifact cannot carry the repository's own code")
    if folder.exists() and any(folder.iterdir()) and not (folder / FILE).is_file():
        raise Refused(f"{folder}: holds something that is no artifact; name a new folder")
    anatomy = loaded.anatomy
    shared = {other: first for first, other in anatomy.aliases()}
    specs = {name: {"alias": shared[name]} if name in shared else host.w.spec() for name, host in hosts(anatomy)}
    stored, aliases = tensors.collect(loaded.library)
    with new_folder(folder) as fresh:
        tensors.save(fresh / WEIGHTS, stored)
        _write_source(fresh / SOURCE, loaded)
        _write_samples(fresh / SAMPLES, loaded, gate_samples)
        for paper in papers(loaded.source.folder) if loaded.source.folder else []:
            shutil.copyfile(paper, fresh / paper.name)
        said = _manifest(loaded, manifest, specs, aliases, (fresh / WEIGHTS).stat().st_size)
        root = {"model_type": "trimtab", "format": said.format, "base_model": said.base.id, "load": said.load}
        (fresh / "config.json").write_text(json.dumps(root, indent=1) + "\n", encoding="utf-8")
        (fresh / FILE).write_text(said.dump(), encoding="utf-8")
        said = said.model_copy(update={"content_hash": content_hash(fresh)})
        (fresh / FILE).write_text(said.dump(), encoding="utf-8")
        (fresh / "README.md").write_text(model_card(said), encoding="utf-8")
    return ArtifactInfo(folder, said.bytes, said.content_hash, size(folder))


def seal(folder: Path, quality: Sequence[dict[str, Any]]) -> ArtifactInfo:
    """Add figures that were measured on the reloaded artifact; the card first, then the manifest with its new hash."""
    said = read_manifest(folder).model_copy(update={"quality": tuple(quality)})
    said = said.model_copy(update={"content_hash": content_hash(folder, said.model_dump(mode="json"))})
    write_atomic(folder / "README.md", model_card(said))
    write_atomic(folder / FILE, said.dump())
    return ArtifactInfo(folder, said.bytes, said.content_hash, size(folder))


def hosts(anatomy: Any) -> list[tuple[str, Host]]:
    """Every linear and embedding of a model by name."""
    return [*anatomy.linears(), *anatomy.embeddings()]


def _write_source(folder: Path, loaded: Loaded) -> None:
    """The library's own config, generation config and processor, as they were used."""
    folder.mkdir()
    loaded.library.config.to_json_file(folder / "config.json")
    if loaded.library.can_generate():
        loaded.library.generation_config.to_json_file(folder / "generation_config.json")
    if loaded.tokenizer is not None and loaded.tokenizer.is_fast:
        # Every call leaves its padding and truncation behind and the next one sets its own; they are no part of the
        # tokenizer, but would be saved with it, and the content hash would depend on what was asked last.
        loaded.tokenizer.backend_tokenizer.no_padding()
        loaded.tokenizer.backend_tokenizer.no_truncation()
    if loaded.processor is not None:
        loaded.processor.save_pretrained(folder)


def _write_samples(path: Path, loaded: Loaded, given: Path | None) -> None:
    if given is not None and not conditions(given).private:
        shutil.copyfile(given, path)
    elif loaded.processor is not None:
        dtype = loaded.library.dtype
        made = [{name: value.to(dtype) if value.is_floating_point() else value for name, value in batch.items()}
                for batch in synthetic.batches(loaded.processor)]  # fmt: skip
        record(loaded.model, made, path, private=False)


def _manifest(
    loaded: Loaded, added: dict[str, Any], specs: dict[str, Any], aliases: dict[str, str], weight_bytes: int
) -> Manifest:
    packages = ("torch", "transformers", "tokenizers", "safetensors", "pillow")
    versions = {"trimtab": trimtab.__version__, **{name: version(name) for name in packages}}
    versions |= {"python": platform.python_version(), "cpu": torch.backends.cpu.get_cpu_capability()}
    source = {key: value for key, value in asdict(loaded.source).items() if key != "folder"}
    return Manifest(
        base=loaded.manifest.base if loaded.manifest else Base(**source),
        architecture=type(loaded.library).__name__, dtype=str(loaded.library.dtype).removeprefix("torch."),
        image_backend=loaded.image_backend, threads=torch.get_num_threads(),
        lowered=is_lowered(loaded.model), versions=versions, bytes=weight_bytes, weights=specs,
        activations={name: host.acts.spec() for name, host in loaded.anatomy.linears() if host.acts is not None},
        aliases=aliases, policies=tuple(Policy(method=m.CARD.name, knobs=methods.knobs(m)) for m in loaded.policies),
        **added,
    )  # fmt: skip


def read(folder: Path, *, lowered: bool | None = None, verify: bool = True) -> Loaded:
    """The model of an artifact, rebuilt without random weights: hosts from their specs, tensors assigned, ties re-made.

    ``verify``: compare the content hash first. ``lowered``: with the runtime's kernels, None for as it was measured.
    Raises Refused for a newer format or another image backend; BadInput for anything missing, left over or changed.
    """
    settle_first_calls()
    folder = Path(folder)
    said = read_manifest(folder)
    if said.image_backend not in (None, BACKEND):
        raise Refused(f"{folder}: made with the image backend {said.image_backend!r}; accepted: {BACKEND!r}")
    if verify and content_hash(folder) != said.content_hash:
        raise BadInput(
            f"{folder}: changed or damaged since it was written: the content hash is not {said.content_hash}"
        )
    policies = [methods.make(policy.method, policy.knobs) for policy in said.policies]
    found = open_processors(folder / SOURCE)
    source = Source(**said.base.model_dump(exclude={"kind"}), kind="artifact", folder=folder)
    loaded = Loaded(_skeleton(folder, said), found.processor, found.tokenizer, source, found.backend, policies, said,
                    [_reading(row) for row in said.quality])  # fmt: skip
    _fill(loaded, said, folder)
    if said.lowered if lowered is None else lowered:
        loaded.lower()
    return loaded


def _skeleton(folder: Path, said: Manifest) -> PreTrainedModel:
    from trimtab.load.skeleton import skeleton

    kind = getattr(transformers, said.architecture, None)
    if not (isinstance(kind, type) and issubclass(kind, PreTrainedModel)):
        raise BadInput(f"{folder / FILE}: architecture: got {said.architecture!r}; accepted: a class of transformers")
    model = skeleton(kind, read_config(folder / SOURCE), getattr(torch, said.dtype))
    if (folder / SOURCE / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder / SOURCE, local_files_only=True)
    return model


def bare(folder: Path) -> tuple[Anatomy, Sequence[TokenMethod | CacheMethod]]:
    """An artifact's model with weights of the right form on the meta device, no tensor read, and its policies. Raises
    as ``read`` does."""
    said = read_manifest(folder)
    anatomy = anatomies.of(_skeleton(folder, said))
    _hosted(anatomy, said, folder)
    return anatomy, [methods.make(policy.method, policy.knobs) for policy in said.policies]


def _fill(loaded: Loaded, said: Manifest, folder: Path) -> None:
    made = _hosted(loaded.anatomy, said, folder)
    tensors.assign(loaded.library, tensors.load(folder / WEIGHTS), said.aliases, str(folder / WEIGHTS))
    for name, weight in made.items():
        if weight.spec() != said.weights[name]:
            raise BadInput(f"{folder / WEIGHTS}: {name} is {weight.spec()}, but trimtab.json says {said.weights[name]}")


def _hosted(anatomy: Anatomy, said: Manifest, folder: Path) -> dict[str, Weight]:
    """Weights by their specs at every host of ``anatomy``, on the meta device, with what linears do to their input."""
    here: dict[str, Host] = dict(hosts(anatomy))
    if set(here) != set(said.weights):
        lost, over = sorted(set(here) - set(said.weights)), sorted(set(said.weights) - set(here))
        raise BadInput(f"{folder / FILE}: weights: {len(lost)} of the model's linears have no entry ({lost[:4]}), "
                       f"{len(over)} entries have no linear ({over[:4]})")  # fmt: skip
    made: dict[str, Weight] = {}
    with torch.device("meta"):
        for name, spec in said.weights.items():
            if "alias" not in spec:
                made[name] = _build(spec, f"{folder / FILE}: weights.{name}")
    for name, host in here.items():
        host.w = made[said.weights[name].get("alias", name)]
    for name, spec in said.activations.items():
        _round_input(here, name, spec, f"{folder / FILE}: activations.{name}")
    return made


def _build(spec: dict[str, Any], where: str) -> Weight:
    try:
        return build(spec)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{where}: {error}") from error


def _round_input(here: dict[str, Host], name: str, spec: dict[str, Any], where: str) -> None:
    host = here.get(name)
    if not isinstance(host, Linear):
        raise BadInput(f"{where}: the model has no such linear layer{nearest(name, here)}")
    try:
        host.acts = activation(spec)
        parted(host.w)
    except (ValueError, TypeError) as error:
        raise BadInput(f"{where}: {error}") from error


def _reading(row: dict[str, Any]) -> Reading:
    spread = row.get("spread")
    return Reading(row["name"], row["value"], row["unit"], tuple(spread) if spread else None, row.get("n", 1),
                   row.get("how", "counted"))  # fmt: skip
