"""What an exported folder is to vLLM, read from its files alone: nothing of it is loaded, vLLM is not asked.

What is refused here would start, use minutes and memory, and then end in a traceback of another project; or, which is
worse, serve something else than was measured. What vLLM reads is in docs/export.md, most of it measured by
``make bench-vllm``, the rest read in its source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trimtab.core.errors import BadInput, Refused
from trimtab.load.checkpoint import check_folder, read_json
from trimtab.load.manifest import FILE, read_manifest
from trimtab.load.processors import IMAGES, WORDS

SAID = "trimtab-export.json"
READS = ("dense", "compressed-tensors", "gptq", "awq")
OTHERS = {
    "gguf": "llama-server -m {0}/model.gguf reads it",
    "onnx": "onnxruntime reads it",
    "openvino": "openvino-genai reads it",
}
LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_target_positions")
"""Where families keep the longest sequence that they were made for."""
SPEAKS = ("ForCausalLM", "ForConditionalGeneration", "LMHeadModel")


@dataclass(frozen=True)
class Exported:
    """``config``: the folder's own. ``format``: as ``trimtab export`` calls it, "" for a folder that it did not write.
    ``notes``: what stands in its record, and what is missing."""

    folder: Path
    config: Mapping[str, Any]
    format: str
    notes: tuple[str, ...]

    @property
    def text(self) -> Mapping[str, Any]:
        """The config of the part that reads words."""
        inner: Mapping[str, Any] = self.config.get("text_config") or self.config
        return inner

    @property
    def dtype(self) -> str | None:
        """Of the weights that are no codes; None where the config does not say."""
        said = (one.get(key) for one in (self.config, self.text) for key in ("dtype", "torch_dtype"))
        return next((str(name) for name in said if name), None)

    @property
    def context(self) -> int | None:
        """Tokens of the longest sequence, pictures included; None where the config does not say."""
        found = (self.text.get(key) for key in LENGTHS)
        return next((int(length) for length in found if length), None)

    @property
    def modality(self) -> str | None:
        """What it takes beside words: "image", "audio" or None."""
        if self.config.get("model_type") == "whisper":
            return "audio"
        return "image" if self.config.get("vision_config") else None

    @property
    def generates(self) -> bool:
        """Whether it writes words; what does not, is asked for vectors."""
        return str((self.config.get("architectures") or [""])[0]).endswith(SPEAKS)

    @property
    def quantization(self) -> Mapping[str, Any]:
        """Of the config; empty for dense weights."""
        said: Mapping[str, Any] = self.config.get("quantization_config") or {}
        return said

    @property
    def chats(self) -> bool:
        """Whether a chat template comes with it."""
        if (self.folder / "chat_template.jinja").is_file() or (self.folder / "chat_template.json").is_file():
            return True
        words = self.folder / "tokenizer_config.json"
        return words.is_file() and bool(read_json(words).get("chat_template"))


def read(folder: Path) -> Exported:
    """Raises Refused for an artifact of ours and for what vLLM cannot read, naming the command or form that it can;
    BadInput for a folder that is no model's."""
    folder = Path(folder)
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such folder; accepted: a folder that trimtab export has written")
    if (folder / FILE).is_file():
        _refuse_artifact(folder)
    said = read_json(folder / SAID) if (folder / SAID).is_file() else {}
    name = str(said.get("format", ""))
    if said and name not in READS:
        other = f": {OTHERS[name].format(folder)}" if name in OTHERS else ""
        raise Refused(f"{folder}: written as {name!r}, which vLLM does not read{other}; accepted: --format "
                      f"{', '.join(READS)}")  # fmt: skip
    config = read_json(folder / "config.json")
    check_folder(folder)
    if not any((folder / name).is_file() for name in WORDS):
        raise Refused(f"{folder}: has no tokenizer ({', '.join(WORDS[:3])} ...); accepted: a model that takes words")
    notes = [str(line) for line in said.get("notes", ())]
    if not said:
        notes.append(f"no {SAID}: trimtab export did not write this folder, so nobody has compared it with anything")
    found = Exported(folder, config, name, tuple(notes))
    if found.modality == "image" and not any((folder / name).is_file() for name in IMAGES):
        raise BadInput(f"{folder}: sees, but has no {' or '.join(IMAGES)}")
    _refuse_codes(found)
    return found


def _refuse_artifact(folder: Path) -> None:
    said = read_manifest(folder)
    grids = '"kind": "quantized"' in said.dump()
    more = " --without-policies" if said.policies else ""
    lost = ", ".join(policy.method for policy in said.policies)
    why = f", and its policies {lost} are followed by Trimtab alone" if lost else ""
    raise Refused(
        f"{folder}: an artifact in Trimtab's own format, which vLLM cannot read{why}; next: trimtab export {folder} "
        f"--format {'compressed-tensors' if grids else 'dense'}{more} --out {folder}-vllm, or trimtab serve {folder}"
    )


def _refuse_codes(found: Exported) -> None:
    """Raises Refused for codes that vLLM has no reader or kernel for."""
    about = found.quantization
    method = about.get("quant_method")
    where = f"{found.folder / 'config.json'}: quantization_config"
    if not about:
        return
    if method not in READS:
        raise Refused(f"{where}: quant_method: got {method!r}; accepted here: {', '.join(READS[1:])}")
    if method == "gptq" and not about.get("sym", True):
        raise Refused(f"{where}: sym: false, and vLLM reads zeros in this layout with sym: true only; next: trimtab "
                      "export ARTIFACT --format compressed-tensors, or awq at 4 bits")  # fmt: skip
    taken = {"awq": (4,)}.get(method, (4, 8))
    for bits in bits_of(about):
        if bits not in taken:
            raise Refused(f"{where}: codes of {bits} bits; vLLM's kernels take {' and '.join(map(str, taken))} in this "
                          "layout; next: a recipe of 4 bits, or trimtab export ARTIFACT --format dense")  # fmt: skip


def bits_of(about: Mapping[str, Any]) -> list[int]:
    """Of every group of a ``quantization_config``, in order, each once."""
    if "config_groups" in about:
        bits = [int(one["weights"]["num_bits"]) for one in about["config_groups"].values()]
    else:
        bits = [int(about.get("bits", 4))]
    return sorted(set(bits))


def grouped(about: Mapping[str, Any]) -> int | None:
    """The widest group of inputs with one scale; None where every scale is a whole row's."""
    if "config_groups" in about:
        found = [one["weights"].get("group_size") for one in about["config_groups"].values()]
    else:
        found = [about.get("group_size")]
    return max((int(size) for size in found if size and int(size) > 0), default=None)


def rounds_in_tower(found: Exported) -> bool:
    """Whether a linear that sees rounds its input."""
    groups = (found.quantization.get("config_groups") or {}).values()
    return any("vision" in name for one in groups if one.get("input_activations") for name in one["targets"])


def refuse_on_cpu(found: Exported) -> None:
    """Raises Refused for what ``make bench-vllm`` saw fail there."""
    if rounds_in_tower(found):
        raise Refused(f"{found.folder}: inputs are rounded in the vision tower, where vLLM's product fails on CPUs; "
                      "next: a recipe with targets: [language]")  # fmt: skip
    about = found.quantization
    groups = about.get("config_groups")
    kept = {name: one for name, one in (groups or {}).items() if not one.get("input_activations")}
    if about and 8 in bits_of({"config_groups": kept} if groups else about):
        raise Refused(f"{found.folder}: codes of 8 bits whose inputs stay as they are, for which vLLM has no kernel on "
                      "CPUs; next: --device gpu, or a recipe of 4 bits or w8a8")  # fmt: skip
