"""``trimtab deploy vllm``: the command that serves an exported folder with vLLM, and nothing that vLLM does not know.

The folder says what it is, so every option comes from it or from the user: none is guessed. The command listens where
it is told, lets no page of another origin ask (vLLM's default lets all), sends no statistics and asks no hub. A token
is read by vLLM from VLLM_API_KEY, never from the command line, where every user of the machine could read it.
``make check-deploy`` gives the list to vLLM's own parser.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from math import gcd
from pathlib import Path

from trimtab.core.errors import BadInput, unknown
from trimtab.serve.deploy.exported import Exported, grouped, read, refuse_on_cpu, rounds_in_tower
from trimtab.serve.reach import is_loopback

DTYPES = ("bfloat16", "float16", "float32")
DEVICES = ("gpu", "cpu")
QUIET = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
EXACT = {"VLLM_CPU_INT4_W4A8": "0"}
"""On CPUs, else the inputs of 4-bit products are rounded to 8 bits, whatever the folder says (docs/export.md)."""
MARLIN = (32, 64, 128)
MOST = 64
"""Devices that are named where the folder does not say how many heads there are."""


@dataclass(frozen=True)
class Wanted:
    """What the user asks for; None: as the folder has it. ``length``: tokens of a sequence, pictures included.
    ``parts``: among how many devices each matrix is shared. ``items``: pictures (or sounds) in a prompt."""

    host: str = "127.0.0.1"
    port: int = 8000
    name: str | None = None
    dtype: str | None = None
    length: int | None = None
    items: int = 1
    parts: int = 1
    device: str = "gpu"


@dataclass(frozen=True)
class Command:
    """``arguments`` begin with ``vllm serve``. ``notes``: what a person should know before starting it. ``reached``:
    by others, so the script does not start without a token."""

    arguments: tuple[str, ...]
    environment: dict[str, str]
    notes: tuple[str, ...]
    reached: bool = False

    def script(self) -> str:
        """For a POSIX shell; what stands behind it goes to vLLM too."""
        head = ["#!/bin/sh", "# Written by trimtab deploy vllm. VLLM_API_KEY is the token that clients bring."]
        head += [f"# - {_line(note)}" for note in self.notes]
        shown = [f"export {name}={shlex.quote(value)}" for name, value in self.environment.items()]
        words = [shlex.quote(word) for word in self.arguments]
        start, rest = " ".join(words[:3]), words[3:]
        pairs = [" ".join(rest[at : at + 2]) for at in range(0, len(rest), 2)]
        key = [': "${VLLM_API_KEY:?others can reach the port}"'] if self.reached else []
        return "\n".join([*head, "set -eu", *key, *shown, " \\\n  ".join([f"exec {start}", *pairs, '"$@"']), ""])


def _line(text: str) -> str:
    """A comment may not end before its text does."""
    return " ".join(text.split())


def command(folder: Path, wanted: Wanted) -> Command:
    """The command for ``folder``. Raises as ``exported.read`` does; BadInput for a wish that the folder cannot meet,
    with what it can."""
    found = read(folder)
    if wanted.device not in DEVICES:
        raise unknown("--device", wanted.device, DEVICES)
    if wanted.device == "cpu":
        refuse_on_cpu(found)
    chosen = {
        "--host": wanted.host, "--port": str(wanted.port), "--allowed-origins": "[]",
        "--served-model-name": wanted.name or found.folder.resolve().name,
        "--dtype": dtype(found, wanted.dtype), "--max-model-len": str(length(found, wanted.length)),
    }  # fmt: skip
    if found.modality:
        chosen["--limit-mm-per-prompt"] = json.dumps({found.modality: wanted.items})
    if not found.generates:
        chosen["--runner"] = "pooling"
    chosen["--tensor-parallel-size"] = str(parts(found, wanted.parts))
    options = [word for pair in chosen.items() for word in pair]
    environment = QUIET | (EXACT if wanted.device == "cpu" else {})
    notes = (*found.notes, *_notes(found, wanted))
    return Command(("vllm", "serve", str(found.folder.resolve()), *options), environment, notes,
                   not is_loopback(wanted.host))  # fmt: skip


def dtype(found: Exported, asked: str | None) -> str:
    """What vLLM calculates in: as the folder says, unless ``asked``."""
    name = asked or found.dtype
    if name is None:
        raise BadInput(f"{found.folder / 'config.json'}: says no dtype; next: --dtype {' or '.join(DTYPES)}")
    if name not in DTYPES:
        raise unknown("--dtype", name, DTYPES)
    if name == "float32" and found.quantization:
        raise BadInput(f"--dtype: got {name}{'' if asked else ' (of config.json)'}, in which vLLM has no product with "
                       "codes; accepted: bfloat16, float16")  # fmt: skip
    return name


def length(found: Exported, asked: int | None) -> int:
    """Of the longest sequence: as the folder says, unless fewer are ``asked``."""
    most = found.context
    if most is None and asked is None:
        raise BadInput(f"{found.folder / 'config.json'}: says no longest sequence; next: --max-model-len N")
    if most is not None and asked is not None and asked > most:
        raise BadInput(f"--max-model-len: got {asked}; the model was made for {most}; accepted: 1 to {most}")
    return asked or most or 0


def parts(found: Exported, asked: int) -> int:
    """Among how many devices: vLLM shares heads, so these, and groups of codes along a row, have to come out even."""
    if not _divides(found, asked):
        group, text = grouped(found.quantization), found.text
        most = min(asked, int(text.get("num_attention_heads") or MOST))
        possible = [count for count in range(1, most + 1) if _divides(found, count)]
        why = f"{text.get('num_attention_heads')} heads or {text.get('intermediate_size')} inner features"
        why += f" in groups of {group}" if group else ""
        raise BadInput(f"--tensor-parallel-size: got {asked}, by which {why} do not come out even; accepted: "
                       f"{', '.join(map(str, possible))}")  # fmt: skip
    return asked


def _divides(found: Exported, count: int) -> bool:
    text, eyes = found.text, found.config.get("vision_config") or {}
    step = grouped(found.quantization) or 1
    inner = int(text.get("intermediate_size", count * step))
    heads = int(text.get("num_attention_heads", count))
    pairs = int(text.get("num_key_value_heads") or heads)
    looks = int(eyes.get("num_attention_heads") or eyes.get("num_heads") or count)
    shared = gcd(pairs, count) in (pairs, count)  # or each held by several, but nothing between
    return shared and heads % count == 0 and looks % count == 0 and inner % (count * step) == 0


def _notes(found: Exported, wanted: Wanted) -> list[str]:
    """What vLLM does not say before it fails, or at all."""
    notes, size, on_cpu = [], grouped(found.quantization), wanted.device == "cpu"
    if rounds_in_tower(found) and not on_cpu:
        notes.append("inputs are rounded in the vision tower, where vLLM's product fails on CPUs; GPUs were not tried")
    if size is not None and size not in MARLIN and not on_cpu:
        notes.append(f"groups of {size}: vLLM's Marlin kernels, by its source, take {', '.join(map(str, MARLIN))} and "
                     "whole rows; others are slower or not there")  # fmt: skip
    if found.generates and not found.chats:
        notes.append("no chat template: vLLM answers at /v1/completions, not at /v1/chat/completions")
    if not is_loopback(wanted.host):
        notes.append("others can reach the port: VLLM_API_KEY guards /v1 alone; put a proxy before the rest")
    return notes
