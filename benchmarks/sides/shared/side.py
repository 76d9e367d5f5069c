"""What the peers' sides share. It runs in their environments: torch, safetensors and the standard library only."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file


def asked() -> dict[str, Any]:
    """The job whose file is the command's argument; torch gets its threads."""
    job: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(job["threads"])
    return job


def rows(job: dict[str, Any]) -> list[list[int]]:
    """The calibration windows."""
    found: list[list[int]] = load_file(job["tokens"])["input_ids"].tolist()
    return found


def peak() -> int:
    """VmHWM of this process in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


def keep_dense(job: dict[str, Any], dense: dict[str, torch.Tensor]) -> None:
    """The matrices in bfloat16 by their names in the checkpoint, for the common evaluation. Raises ValueError where
    names or shapes are not the checkpoint's."""
    wanted = {name: value.shape for name, value in load_file(f"{job['model']}/model.safetensors").items()}
    given = {name: value.shape for name, value in dense.items()}
    if given != wanted:
        raise ValueError(f"dense: {sorted(set(given.items()) ^ set(wanted.items()))[:6]} differ from the checkpoint's")
    save_file({name: value.detach().to(torch.bfloat16).contiguous() for name, value in dense.items()}, job["dense"],
              {"format": "pt"})  # fmt: skip


def weight_bytes(folder: str, *endings: str) -> int:
    """Bytes of the files below ``folder`` that hold weights."""
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.name.endswith(endings))
