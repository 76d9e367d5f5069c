"""A Hugging Face folder becomes a library model: the class its config names, every tensor accounted for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from trimtab.core.errors import BadInput, Refused, nearest
from trimtab.load.checkpoint import check_folder, read_json

TASKS = ("AutoModelForImageTextToText", "AutoModelForCausalLM", "AutoModel")  # entries of auto_map, best first


def open_library(
    folder: Path, dtype: torch.dtype | None = None, trust_remote_code: bool = False
) -> tuple[PreTrainedModel, list[str]]:
    """The model in ``folder`` in the checkpoint's own dtype or ``dtype``, and notes on what was left unused.

    Raises Refused for pickles, quantized checkpoints and code that was not allowed; BadInput for missing tensors
    (the library would fill them with random numbers), damaged files and classes that the library does not have.
    """
    raw = read_json(folder / "config.json")
    _refuse(folder, raw)
    kind, code = model_class(folder, raw, trust_remote_code)
    check_folder(folder)
    if (folder / "adapter_config.json").exists():
        raise BadInput(f"{folder}: an adapter beside a model; accepted: a whole model (merge the adapter first)")
    try:
        with _no_bars():
            model, info = kind.from_pretrained(
                folder, dtype=dtype or "auto", use_safetensors=True, local_files_only=True,
                output_loading_info=True, trust_remote_code=code,
            )  # fmt: skip
    except (OSError, ValueError, RuntimeError, LookupError, TypeError, ImportError, AttributeError) as error:
        raise BadInput(f"{folder}: {kind.__name__} cannot be loaded from it: {error}") from error
    missing = sorted(info["missing_keys"]) + list(info["error_msgs"])
    if missing:
        shown = ", ".join(missing[:12]) + (", ..." if len(missing) > 12 else "")
        raise BadInput(f"{folder}: {len(missing)} tensors of {kind.__name__} are missing from the checkpoint: {shown}")
    align(model)
    unused = sorted(info["unexpected_keys"])
    return model, [f"{len(unused)} tensors are not used by {kind.__name__}: {', '.join(unused[:8])}"] if unused else []


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


def model_class(folder: Path, raw: dict[str, Any], trust_remote_code: bool) -> tuple[Any, bool]:
    """The class that ``architectures`` names, and whether code from the folder has to run for it."""
    names = raw.get("architectures") or []
    found = getattr(transformers, names[0], None) if names else None
    if isinstance(found, type) and issubclass(found, PreTrainedModel):
        return found, False
    automatic = raw.get("auto_map") or {}
    tasks = [task for task in TASKS if task in automatic]
    if not tasks:
        known = [name for name in dir(transformers) if names and name[:4] == names[0][:4]]
        got = repr(names[0]) + nearest(names[0], known) if names else "none"
        raise BadInput(f"{folder / 'config.json'}: architectures: got {got}; accepted: a model class of transformers")
    if not trust_remote_code:
        raise Refused(
            f"{folder}: {names} needs Python code from the model's repository ({automatic[tasks[0]]}), which can do "
            "anything on this machine. Read it, then allow it with trust_remote_code: true"
        )
    return getattr(transformers, tasks[0]), True


def read_config(folder: Path) -> PreTrainedConfig:
    """The library's config object. Raises BadInput for a model type that the library does not know."""
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise BadInput(f"{folder / 'config.json'}: {error}") from error


def align(model: nn.Module) -> None:
    """Copy tensors that lie at odd addresses (views into a mapped file) to fresh memory.

    Kernels may add in another order there, so logits would not be bit-equal in another process; and a file that
    changes under a running model could change the model.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.data_ptr() % 64:
            tensor.data = tensor.data.clone(memory_format=torch.contiguous_format)
