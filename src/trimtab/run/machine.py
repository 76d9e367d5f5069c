"""What must be equal for a resumed run to end in the same artifact: versions, processor, threads."""

from __future__ import annotations

import platform
from typing import Any

import torch

from trimtab import __version__
from trimtab.core.errors import BadInput
from trimtab.core.native import amx, library


def conditions() -> dict[str, Any]:
    """The facts on which the content hash depends besides the recipe."""
    import transformers

    return {
        "trimtab": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "compiled": library() is not None,
        "tiles": amx(),
    }


def same(recorded: dict[str, Any]) -> None:
    """Restore the recorded number of threads. Raises BadInput where anything else differs from when the run began."""
    torch.set_num_threads(int(recorded["threads"]))
    now = conditions()
    changed = [f"{key} {recorded[key]!r} then, {now[key]!r} now" for key in recorded if recorded[key] != now.get(key)]
    if changed:
        raise BadInput(f"resume: {'; '.join(changed)}. The rest of the run would not fit what was done; start anew")
