"""GGUF for llama.cpp: a decoder as ``model.gguf``, and a LLaVA's tower and projector beside it as
``mmproj-model.gguf``. Our codes and scales as they are, in the block types that hold them exactly; what is rounded onto
k-quants before (``trimtab.export.gguf.coarse``) is given by the address of the weight that it stands for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from trimtab.core.linear import Host, Recast
from trimtab.core.weight import Quantized
from trimtab.export.files import carry, refuse_policies, refuse_rounding
from trimtab.export.gguf import language, vision, vocabulary
from trimtab.export.gguf.entry import Entry, Value
from trimtab.export.gguf.families import family_of, window
from trimtab.export.gguf.file import save
from trimtab.export.gguf.kquant import KQuant
from trimtab.export.state import dense_state
from trimtab.load.loaded import Loaded

ENGINE = "gguf"
KQuants = Mapping[int, KQuant]
NONE: KQuants = MappingProxyType({})
MODEL, EYES = "model.gguf", "mmproj-model.gguf"
DECODER, SEEING = "model.language_model.", ("model.vision_tower.", "model.multi_modal_projector.")


def refuse(loaded: Loaded) -> None:
    """Raises Refused for policies, an architecture or a config that llama.cpp's graphs do not run, or a weight whose
    form no block type holds: by name, with the nearest that can be."""
    refuse_policies(loaded, "gguf")
    refuse_rounding(loaded, "gguf")
    for _ in _files(loaded):
        pass


def write(loaded: Loaded, folder: Path, k_quants: KQuants = NONE) -> None:
    """The GGUF files, and the library's config, tokenizer and processor files."""
    config = loaded.library.config
    text = config.get_text_config()
    for name, entries in _files(loaded, k_quants):
        with save(folder / name, "clip" if name == EYES else family_of(text).arch, loaded.source, entries) as writer:
            if name == EYES:
                vision.describe(writer, config, loaded.processor)
            else:
                language.describe(writer, text)
                vocabulary.describe(writer, loaded.tokenizer, _template(loaded), text.vocab_size)
    carry(loaded, folder)


def notes(loaded: Loaded, k_quants: KQuants = NONE) -> Sequence[str]:
    """What takes another room than in the artifact, and what a reader of the files should know."""
    config = loaded.library.config.get_text_config()
    forms: dict[str, list[float]] = {}
    for _, entries in _files(loaded, k_quants):
        for entry in entries:
            if entry.form:
                forms.setdefault(entry.said, []).append(entry.off)
    found = [_said(form, offs) for form, offs in sorted(forms.items())]
    found += [f"{path} as dense float32: llama.cpp has no other form for it" for path, module in _recast(loaded)
              if any(isinstance(inner, Quantized) for inner in module.modules())]  # fmt: skip
    if (reach := window(config)) is not None:
        found.append(f"context_length is {reach}, the model's window of attention, which llama.cpp's graph lacks")
    words = vocabulary.vocabulary(loaded.tokenizer, config.vocab_size)
    if isinstance(words, str):
        found.append(f"no tokenizer in the file ({words}): llama.cpp can be given token ids only")
    return found


def _said(form: str, offs: Sequence[float]) -> str:
    worst = max(offs)
    more = f": these weights are not the artifact's to the last bit (relative error of a matrix up to {worst:.2g})"
    return f"{len(offs)} matrices of {form}{more if worst else ''}"


def _template(loaded: Loaded) -> Any:
    return getattr(loaded.processor, "chat_template", None) or getattr(loaded.tokenizer, "chat_template", None)


def _files(loaded: Loaded, k_quants: KQuants = NONE) -> Iterator[tuple[str, list[Entry]]]:
    """File name and tensors, the decoder's first. Raises Refused as ``refuse`` does."""
    config = loaded.library.config
    text = config.get_text_config()
    if text is not config:
        vision.check(config)
    family_of(text)
    values = _values(loaded, k_quants)
    if text is config:
        yield MODEL, language.entries(text, {name.removeprefix("model."): value for name, value in values.items()})
        return
    seen = {name.removeprefix("model."): value for name, value in values.items() if name.startswith(SEEING)}
    read = {name.removeprefix(DECODER): value for name, value in values.items() if not name.startswith(SEEING)}
    yield MODEL, language.entries(text, read)
    yield EYES, vision.entries(config, seen)


def _values(loaded: Loaded, k_quants: KQuants) -> dict[str, Value]:
    """Tensors and weights by the library's names, a shared matrix once."""
    hosts: dict[str, Host] = {}
    recast = {id(inner) for _, module in _recast(loaded) for inner in module.modules()}
    seen: set[int] = set()
    for path, module in loaded.library.named_modules():
        if isinstance(module, Host) and id(module) not in recast:
            if id(module.w) not in seen:
                hosts[path] = module
            seen.add(id(module.w))
    weights = {f"{path}.weight": k_quants.get(id(host.w), host.w) for path, host in hosts.items()}
    return {**dense_state(loaded.library, hosts), **weights}


def _recast(loaded: Loaded) -> list[tuple[str, Recast]]:
    return [(path, module) for path, module in loaded.anatomy.model.named_modules() if isinstance(module, Recast)]
