"""The gate: a fresh process loads an artifact and must find exactly what was written.

``python -I -m trimtab.gate DIR [--samples FILE] [--json]`` checks the bytes on disk, the content hash, every weight's
spec, and that the logits for the recorded samples are the same bit for bit with the same threads. Exit status: 0 the
artifact passes, 3 it does not, 2 there is nothing to check (no artifact, no samples, a newer format).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from trimtab.load.loaded import Loaded
    from trimtab.load.manifest import Manifest

PASSED, UNUSABLE, FAILED = 0, 2, 3


class Check(TypedDict):
    """One question to the artifact. ``holds`` None: it could not be asked, because an earlier one failed."""

    name: str
    holds: bool | None
    detail: str


@dataclass(frozen=True)
class GateResult:
    """``samples``: how many batches were compared; ``exit_status``: 0, 2 or 3, as the process ended."""

    passed: bool
    exit_status: int
    checks: tuple[Check, ...]
    samples: int = 0
    threads: int = 0

    @property
    def reasons(self) -> list[str]:
        """Why the artifact does not pass."""
        return [f"{check['name']}: {check['detail']}" for check in self.checks if check["holds"] is False]

    def row(self) -> dict[str, Any]:
        """Plain data, for result.json."""
        return asdict(self)

    def text(self) -> str:
        """One line for each check."""
        marks = {True: "ok", False: "FAILED", None: "not reached"}
        lines = [f"{marks[check['holds']]:>11}  {check['name']}: {check['detail']}" for check in self.checks]
        return "\n".join([*lines, "the artifact passes" if self.passed else "the artifact does NOT pass"])


def check(folder: Path, samples: Path | None = None) -> GateResult:
    """All checks, in this process; sets the thread count to the recorded one.

    Raises BadInput and Refused where there is nothing to check.
    """
    import torch

    from trimtab.core.errors import BadInput
    from trimtab.load.gate_samples import conditions
    from trimtab.load.manifest import SAMPLES, read_manifest

    said = read_manifest(folder)
    path = samples or folder / SAMPLES
    if not path.is_file():
        raise BadInput(f"{path}: no gate samples; next: python -I -m trimtab.gate {folder} --samples FILE")
    recorded = conditions(path)
    torch.set_num_threads(recorded.threads)
    checks = [_bytes(folder, said), _hash(folder, said)]
    loaded, found = _loads(folder, recorded.lowered)
    checks += [found, _logits(loaded, path, recorded.count)]
    passed = all(check["holds"] for check in checks)
    return GateResult(passed, PASSED if passed else FAILED, tuple(checks), recorded.count, recorded.threads)


def _say(name: str, holds: bool | None, detail: str) -> Check:
    return {"name": name, "holds": holds, "detail": detail}


def _bytes(folder: Path, said: Manifest) -> Check:
    from trimtab.load.manifest import WEIGHTS

    path = folder / WEIGHTS
    size = path.stat().st_size if path.is_file() else 0
    return _say("bytes on disk", size == said.bytes, f"{size:,}, claimed {said.bytes:,}")


def _hash(folder: Path, said: Manifest) -> Check:
    from trimtab.core.errors import BadInput
    from trimtab.load.hashing import content_hash

    try:
        found = content_hash(folder)
    except BadInput as error:
        return _say("content hash", False, str(error))
    return _say("content hash", found == said.content_hash, f"{found[:23]}, claimed {said.content_hash[:23]}")


def _loads(folder: Path, lowered: bool) -> tuple[Loaded | None, Check]:
    from trimtab.core.errors import TrimtabError
    from trimtab.load.artifact import hosts, read

    try:
        loaded = read(folder, lowered=lowered, verify=False)
    except TrimtabError as error:
        return None, _say("loads", False, str(error))
    found = hosts(loaded.anatomy)
    kinds = sorted({str(host.w.spec()["kind"]) for _, host in found})
    return loaded, _say("loads", True, f"{len(found)} weights as their specs say ({', '.join(kinds)}), none on meta")


def _logits(loaded: Loaded | None, path: Path, count: int) -> Check:
    from trimtab.load.gate_samples import compare

    if loaded is None:
        return _say("logits", None, "the artifact did not load")
    different = compare(loaded.model, path)
    if not different:
        return _say("logits", True, f"bit-equal on {count} batches, NaN only at dropped tokens")
    first = different[0]
    return _say("logits", False, f"{len(different)} answers differ; batch {first.batch}, {first.output}: "
                                  f"{first.reason}, {first.tokens:.1%} of greedy tokens equal")  # fmt: skip


def run_gate(folder: Path, samples: Path | None = None) -> GateResult:
    """``check`` in a fresh process, isolated, offline, in an empty working directory.

    Raises BadInput where it says that there is nothing to check, Anomaly where it ends otherwise than a gate ends.
    """
    from trimtab.core.errors import Anomaly, BadInput

    command = [sys.executable, "-I", "-m", "trimtab.gate", str(Path(folder).resolve()), "--json"]
    command += ["--samples", str(Path(samples).resolve())] if samples is not None else []
    with tempfile.TemporaryDirectory() as empty:
        done = subprocess.run(
            command, cwd=empty, env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=False
        )
    if done.returncode not in (PASSED, FAILED, UNUSABLE) or not done.stdout.strip():
        raise Anomaly(f"gate: the process ended with status {done.returncode}: {done.stderr.strip()[-2000:]}")
    row = json.loads(done.stdout.strip().splitlines()[-1])
    if done.returncode == UNUSABLE:
        raise BadInput(row["error"])
    return GateResult(**{**row, "checks": tuple(row["checks"])})


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -I -m trimtab.gate", description="Checks that an artifact reloads.")
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--samples", type=Path, help="recorded answers; by default those in the artifact")
    parser.add_argument("--json", action="store_true", help="one JSON document as the last line")
    given = parser.parse_args(arguments)
    from trimtab.core.errors import BadInput

    try:
        result = check(given.folder, given.samples)
    except BadInput as error:
        print(json.dumps({"error": str(error)}) if given.json else f"error: {error}")
        return UNUSABLE
    print(json.dumps(result.row()) if given.json else result.text())
    return result.exit_status


if __name__ == "__main__":
    sys.exit(main())
