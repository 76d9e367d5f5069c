"""The library's config of a folder, and the class that it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from trimtab.core.errors import BadInput, Refused, nearest

TASKS = ("AutoModelForImageTextToText", "AutoModelForCausalLM", "AutoModel")  # entries of auto_map, best first


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
