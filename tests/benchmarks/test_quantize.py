"""What the benchmark of quantization says of finished runs, and that it goes on where it was stopped."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import finished
import peers
import targets
from compared import compared, said
from jobs import JOBS
from quantize import lines, slow
from trimtab.evaluate.ratio import of_windows

SECONDS = {"ours": 10.0, "llmcompressor": 40.0, "gptqmodel": 25.0, "nncf": 100.0}
LOSS = {"ours": 3.0, "llmcompressor": 3.2, "gptqmodel": 3.1, "nncf": 3.4}
PEAK = {"ours": 8, "llmcompressor": 10, "gptqmodel": 16, "nncf": 4}


def runs(job: str, sides: Sequence[str], seeds: int = 3) -> list[dict[str, Any]]:
    """Runs whose windows differ by side, seed and window, one side's always by the same."""
    return [
        {"job": job, "side": side, "seed": seed, "fitted_s": SECONDS[side] + seed, "whole_s": 2 * SECONDS[side],
         "peak_bytes": PEAK[side], "weight_bytes": 100, "losses": [LOSS[side] + 0.1 * seed + i for i in range(4)]}
        for seed in range(seeds) for side in sides
    ]  # fmt: skip


def test_the_best_peer_is_the_best_by_each_figure() -> None:
    [row] = compared(runs("gptq4", list(SECONDS)), {})
    assert row["best"] == {"fitted_s": "gptqmodel", "ppl": "gptqmodel", "peak_bytes": "nncf"}
    told = said([row], [1.0, 1.0], 5.0)
    assert told["gptq4_speedup"] == pytest.approx(41 / 11)
    assert told["gptq4_speedup_nncf"] == pytest.approx(101 / 11)
    assert told["gptq4_speedup_best_peer"] == pytest.approx(26 / 11)
    assert told["gptq4_ppl"] == pytest.approx(math.exp(3.0 + 0.1 + 1.5))
    assert told["gptq4_ppl_best_peer"] == pytest.approx(math.exp(3.1 + 0.1 + 1.5))
    assert told["gptq4_ppl_ratio_high"] == pytest.approx(math.exp(-0.1))  # no spread between windows
    assert told["peak_memory_ratio"] == told["gptq4_peak_ratio"] == 2
    assert told["forwards"] == pytest.approx(11 / 5)
    assert told["forwards_whole"] == pytest.approx(20 / 5)
    assert told["not_run"] == {}


def test_a_peer_ten_times_as_slow_is_asked_once() -> None:
    rows = runs("gptq4", list(SECONDS), 1)
    assert not any(slow(rows, "gptq4", side) for side in SECONDS)  # nncf takes exactly ten times as long
    rows[-1]["fitted_s"] += 1
    assert [side for side in SECONDS if slow(rows, "gptq4", side)] == ["nncf"]
    assert not slow(rows, "gptq3", "nncf")
    [row] = compared(rows + runs("gptq4", ["ours"], 3)[1:], {})
    assert row["peers"]["nncf"]["seeds"] == 1
    assert [line[2] for line in lines([row])] == ["3", "1", "1", "1"]
    assert "(one draw)" in lines([row])[3][4]


def test_a_peer_that_did_not_run_is_named_and_never_beaten() -> None:
    reasons = {"gptq3": {"nncf": "it has no such thing"}}
    [row] = compared(runs("gptq3", ["ours", "gptqmodel"]), reasons)
    told = said([row], [1.0], 5.0)
    assert told["not_run"] == reasons
    assert told["gptq3_speedup"] is None  # against llm-compressor, which did not run
    assert not any("nncf" in key for key in told)
    assert told["gptq3_best"]["ppl"] == "gptqmodel"
    [alone] = compared(runs("gptq4", ["ours"]), {})
    told = said([alone], [1.0], 5.0)
    assert told["gptq4_ppl_best_peer"] is told["gptq4_speedup_best_peer"] is told["peak_memory_ratio"] is None


def test_the_whole_model_is_held_against_the_peers_four_bits() -> None:
    every = runs("gptq4", ["ours", "llmcompressor"]) + runs("full4", ["ours"])
    told = said(compared(every, {"gptq4": {"nncf": "failed"}}), [1.0], 5.0)
    assert told["folder_ratio"] == 1
    assert told["full4_ppl_best_peer"] == told["gptq4_ppl_best_peer"]
    assert told["not_run"]["full4"] == {"nncf": "failed"}


def test_the_last_line_has_every_key_and_says_which_targets_were_met() -> None:
    sides = ["ours", "llmcompressor"]
    every = [run for job in ("gptq4", "gptq3", "awq4", "wanda") for run in runs(job, sides)] + runs("full4", ["ours"])
    told = said(compared(every, {}), [1.0], 5.0)
    keys = ("gptq4_speedup", "gptq4_ppl", "full4_ppl", "gptq4_ppl_best_peer", "gptq3_speedup", "gptq3_ppl",
            "gptq3_ppl_best_peer", "awq4_speedup", "wanda_speedup", "folder_ratio", "peak_memory_ratio")  # fmt: skip
    assert all(isinstance(told[key], float | int) for key in keys)
    by = {row["target"]: row for row in told["targets"]}
    assert len(by) == len(targets.TARGETS)
    fast = by["gptq4: times as fast as llm-compressor"]
    assert (fast["figure"], fast["met"], fast["met_at_bound"]) == (pytest.approx(41 / 11), False, False)
    assert by["awq4: times as fast as llm-compressor"]["met"] is False
    wanda = by["wanda: times as fast as llm-compressor"]
    assert wanda["met"] is wanda["met_at_bound"] is True
    assert by["full4: weight files over llm-compressor's"]["met"] is False  # 1 of them
    assert by["full4: peak memory over the lowest peer's"] | {"bound": None} == {
        "target": "full4: peak memory over the lowest peer's", "wanted": 1.0, "at_least": False, "figure": 0.8,
        "bound": None, "met": True, "met_at_bound": None,
    }  # fmt: skip
    assert len(targets.lines(told["targets"])) == len(by)


def test_without_peers_no_target_is_met() -> None:
    told = said(compared(runs("gptq4", ["ours"]), {}), [1.0], 5.0)
    assert [row["met"] for row in told["targets"] if row["figure"] is None] == [None] * (len(targets.TARGETS) - 1)
    assert [line[0] for line in targets.lines(told["targets"])] == [
        "gptq4: the whole job over one forward of the library"
    ]


def test_a_seed_that_a_peer_lost_is_not_paired_with_another() -> None:
    every = [run for run in runs("gptq4", ["ours", "nncf"]) if (run["side"], run["seed"]) != ("nncf", 0)]
    [row] = compared(every, {})
    assert (row["seeds"], row["peers"]["nncf"]["seeds"]) == (3, 2)
    assert row["peers"]["nncf"]["ppl_ratio"] == pytest.approx(math.exp(LOSS["ours"] - LOSS["nncf"]))


def test_windows_are_paired_by_their_means_over_seeds() -> None:
    """Two windows; what seeds differ by takes no part in the bound."""
    every = [run | {"losses": [1.0 + 0.3 * run["seed"], 2.0 - 0.3 * run["seed"]]} for run in runs("gptq4", ["ours"])]
    every += [run | {"losses": [1.4, 1.8]} for run in runs("gptq4", ["nncf"])]
    [row] = compared(every, {})
    seeds = {run["seed"] for run in every}
    middle = 0.3 * sum(seeds) / len(seeds)
    expected = of_windows([1.4, 1.8], [1.0 + middle, 2.0 - middle])
    found = row["peers"]["nncf"]
    assert (found["ppl_ratio"], found["ppl_ratio_high"]) == pytest.approx((expected.value, expected.high))


def test_every_peer_does_a_job_or_says_why_not() -> None:
    for peer in peers.PEERS.values():
        assert set(peer.jobs).isdisjoint(peer.cannot)
        assert set(peer.jobs) | set(peer.cannot) == set(JOBS) - {"full4"}
        assert peer.pins[0] == peers.TORCH


def test_a_peer_that_does_not_install_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(home: Path, **given: Any) -> None:
        (home / "bin").mkdir(parents=True)
        (home / "bin" / "python").write_text("#!/bin/sh\nexit 3\n", encoding="utf-8")
        (home / "bin" / "python").chmod(0o755)

    monkeypatch.setattr(peers.venv, "create", fails)
    assert peers.ready(["nncf"], tmp_path) == ({}, {"nncf": "does not install: pip ended with status 3"})


def test_rows_are_found_again_by_what_they_depend_on(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("one", encoding="utf-8")
    files = finished.digest_of_files([tmp_path / "a.py"])
    kept = finished.Finished(tmp_path / "found.json")
    assert kept.get(files) is None
    assert kept.put(finished.digest(files, "gptq4", 0), {"x": 1}) == {"x": 1}
    again = finished.Finished(tmp_path / "found.json")
    assert again.get(finished.digest(files, "gptq4", 0)) == {"x": 1}
    assert again.get(finished.digest(files, "gptq4", 1)) is None
    (tmp_path / "a.py").write_text("two", encoding="utf-8")
    assert finished.digest_of_files([tmp_path / "a.py"]) != files
    assert list(json.loads((tmp_path / "found.json").read_text(encoding="utf-8")).values()) == [{"x": 1}]
