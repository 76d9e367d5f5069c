"""Killed at 20 seeded moments, writes, evaluation and the resume itself included, a run ends in the same hash."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from kill import DIED, start
from small import SMALL

KILLS, CHAINS = 20, 2
"""Two chains of runs at once, each with half of the kills; a run has one thread."""
# The language model in a setting that ends in a minute; a table of 262,144 rows is a block like any other.
GEMMA = [
    "gemma-270m-w4", "task.limit=3", "evaluate.reuse=false", "calibrate.num_samples=8", "calibrate.max_seq_length=256",
    "measure.repeats=3", "measure.batch_size=2", "threads=1",
]  # fmt: skip


def chain(folder: Path, seed: int, kills: int, within: int, settings: list[str]) -> list[str]:
    """Runs killed before one of their next ``within`` syncs, and again on resuming, until ``kills`` died; what the runs
    that came through."""
    rng, hashes = random.Random(seed), list[str]()
    while kills:
        out = folder / f"{seed}-{len(hashes)}"
        status, found = start(out, rng.randint(1, within), settings)
        while status == DIED:
            kills -= 1
            status, found = start(out, rng.randint(1, within) if kills else 0, settings)
        assert status == 0, found
        hashes.append(found)
    return hashes


def killed(folder: Path, within: int, settings: list[str]) -> tuple[str, list[str]]:
    """The hash of an unbroken run, and those of the runs that were killed."""
    status, whole = start(folder / "whole", 0, settings)
    assert status == 0, whole
    with ThreadPoolExecutor(CHAINS) as pool:
        chains = [pool.submit(chain, folder, seed, KILLS // CHAINS, within, settings) for seed in range(CHAINS)]
    hashes = [found for one in chains for found in one.result()]
    return whole, hashes


def test_killed_and_resumed_runs_end_in_the_same_artifact(model_folder: Path, tmp_path: Path) -> None:
    whole, hashes = killed(tmp_path, 25, ["quickstart", *SMALL, "evaluate.reuse=false", f"model={model_folder}"])
    assert len(hashes) >= CHAINS
    assert set(hashes) == {whole}


@pytest.mark.slow
def test_a_killed_language_model_ends_in_the_same_artifact(tmp_path: Path) -> None:
    """``make bench-kill``."""
    whole, hashes = killed(tmp_path, 25, GEMMA)
    assert len(hashes) >= CHAINS
    assert set(hashes) == {whole}
