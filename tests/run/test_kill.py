"""Killed at 20 seeded moments, writes, evaluation and the resume itself included, a run ends in the same hash."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

from small import SMALL

KILLS = 20


def start(out: Path, at: int, settings: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(Path(__file__).with_name("kill.py")), str(out), str(at), "--", *settings]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)


def test_killed_and_resumed_runs_end_in_the_same_artifact(model_folder: Path, tmp_path: Path) -> None:
    settings = ["quickstart", *SMALL, f"model={model_folder}"]
    whole = start(tmp_path / "whole", 0, settings)
    assert whole.returncode == 0, whole.stderr
    expected = whole.stdout.split()[-1]
    rng, kills, ended = random.Random(0), 0, 0
    while kills < KILLS:
        out = tmp_path / f"cut{ended}"
        done = start(out, rng.randint(1, 25), settings)
        while done.returncode == 137:  # several kills of one run: the resume is killed too
            kills += 1
            at = rng.randint(1, 25) if kills < KILLS else 0
            done = start(out, at, settings)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split()[-1] == expected
        ended += 1
    assert kills >= KILLS
    assert ended >= 1
