"""A Hugging Face folder becomes a library model: the class its config names, every tensor accounted for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import logging

from trimtab.core.errors import BadInput, Refused
from trimtab.core.place import places
from trimtab.load.checkpoint import check_folder, read_json
from trimtab.load.config import model_class
from trimtab.load.stream import Blanks, Lazy, choose


@dataclass(frozen=True)
class Opened:
    """``notes``: on what was left unused or in the files; ``made``: the blanks that stand for matrices there."""

    model: PreTrainedModel
    notes: list[str]
    made: Blanks


def open_library(
    folder: Path, dtype: torch.dtype | None = None, trust_remote_code: bool = False, stream: bool | None = None
) -> Opened:
    """The model in ``folder`` in the checkpoint's own dtype or ``dtype``. ``stream``: see ``load/stream.py``.

    Raises Refused for pickles, quantized checkpoints and code that was not allowed; BadInput for missing tensors
    (the library would fill them with random numbers), damaged files and classes that the library does not have.
    """
    raw = read_json(folder / "config.json")
    _refuse(folder, raw)
    kind, code = model_class(folder, raw, trust_remote_code)
    files = check_folder(folder)
    if (folder / "adapter_config.json").exists():
        raise BadInput(f"{folder}: an adapter beside a model; accepted: a whole model (merge the adapter first)")
    held = {key: one for file in files for key, one in places(file).items()}
    try:
        streaming = choose(folder, kind, held, dtype, stream, code)
        with _no_bars():
            if code or kind.config_class.extra_files:
                model, info = _by_folder(kind, folder, dtype, code)
            else:
                model, info = _by_state(kind, folder, dtype, streaming.state(held))
    except (OSError, ValueError, RuntimeError, LookupError, TypeError, ImportError, AttributeError) as error:
        raise BadInput(f"{folder}: {kind.__name__} cannot be loaded from it: {error}") from error
    missing = sorted(info["missing_keys"]) + list(info["error_msgs"])
    if missing:
        shown = ", ".join(missing[:12]) + (", ..." if len(missing) > 12 else "")
        raise BadInput(f"{folder}: {len(missing)} tensors of {kind.__name__} are missing from the checkpoint: {shown}")
    notes, unused = list(streaming.notes), sorted(info["unexpected_keys"])
    if unused:
        notes.append(f"{len(unused)} tensors are not used by {kind.__name__}: {', '.join(unused[:8])}")
    return Opened(model, notes, streaming.made)


def _by_state(kind: Any, folder: Path, dtype: torch.dtype | None, state: dict[str, Lazy]) -> tuple[Any, dict[str, Any]]:
    """By plain reads of one tensor after the other: the library maps whole files, and what it then copies out of them
    is in memory twice. It takes a state dict or a folder, so the folder's two configs are given apart."""
    model, info = kind.from_pretrained(
        None, config=folder, dtype=dtype or "auto", state_dict=state, local_files_only=True, output_loading_info=True
    )
    model.config.name_or_path = str(folder)
    if model.can_generate():
        model.adjust_generation_fn(
            None, False, None, folder, cache_dir=None, force_download=False, proxies=None, local_files_only=True,
            token=None, revision="main", subfolder="", trust_remote_code=False,
        )  # fmt: skip
    align(model)
    return model, info


def _by_folder(kind: Any, folder: Path, dtype: torch.dtype | None, code: bool) -> tuple[Any, dict[str, Any]]:
    """Of a class of the folder's own code, which only the library's Auto classes can find (they take no state dict), or
    one whose tensors are also in files of other names. The files are mapped while they are copied out of."""
    model, info = kind.from_pretrained(
        folder, dtype=dtype or "auto", use_safetensors=True, local_files_only=True, output_loading_info=True,
        trust_remote_code=code,
    )  # fmt: skip
    align(model, all_of_them=True)
    return model, info


@contextmanager
def _no_bars() -> Iterator[None]:
    """Without the library's own progress bars, which would stand among ours; as they were afterwards."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _refuse(folder: Path, raw: dict[str, Any]) -> None:
    if raw.get("model_type") == "trimtab":
        raise BadInput(f"{folder}: the config of an artifact of Trimtab, but trimtab.json is missing")
    for key in ("quantization_config", "compression_config"):
        for config in (raw, *(value for value in raw.values() if isinstance(value, dict))):
            if config.get(key):
                method = config[key].get("quant_method", "unknown") if isinstance(config[key], dict) else config[key]
                raise Refused(
                    f"{folder}: quantized already (quant_method {method!r}); accepted: the model it was made from, in "
                    "16 or 32 bits, or a GGUF file"
                )


def align(model: nn.Module, all_of_them: bool = False) -> None:
    """Copy tensors that lie at odd addresses (parts of a fused matrix) to fresh memory; ``all_of_them``, where some may
    be views into a mapped file.

    Kernels may add in another order there, so logits would not be bit-equal in another process; and a file that
    changes under a running model could change the model.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if all_of_them or tensor.data_ptr() % 64:
            tensor.data = tensor.data.clone(memory_format=torch.contiguous_format)
