"""What ``make bench-quantize`` says of finished runs: ours against each peer that ran, and against the best of them.

A run is a mapping with job, side, seed, fitted_s, whole_s, peak_bytes, weight_bytes and losses (by window). A peer that
did not run a job is named with its reason, has no figures and is in no "best".
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jobs import AGAINST
from targets import judged
from trimtab.evaluate.ratio import of_repeats, of_windows

OURS = "ours"
FIGURES = ("fitted_s", "whole_s", "peak_bytes", "weight_bytes")
BEST = ("fitted_s", "ppl", "peak_bytes")
Runs = Sequence[Mapping[str, Any]]
NotRun = Mapping[str, Mapping[str, str]]
"""By job and peer: why not."""


def perplexity(nll: Sequence[float]) -> float:
    return math.exp(statistics.fmean(nll))


def figures(runs: Runs) -> dict[str, Any]:
    """Medians over seeds."""
    made: dict[str, Any] = {key: statistics.median(run[key] for run in runs) for key in FIGURES}
    return made | {"seeds": len(runs), "ppl": statistics.median(perplexity(run["losses"]) for run in runs)}


def against(ours: Runs, theirs: Runs) -> dict[str, Any]:
    """A peer's figures beside ours: how many times as fast ours is by both clocks, and our perplexity over theirs by
    pairs of windows, the loss of each being its mean over the seeds that both ran."""
    made = figures(theirs)
    for clock, name in (("fitted_s", "speedup"), ("whole_s", "speedup_whole")):
        ratio = of_repeats([run[clock] for run in ours], [run[clock] for run in theirs])
        made |= {name: ratio.value, f"{name}_low": ratio.low}
    mine, other = ({run["seed"]: run["losses"] for run in runs} for runs in (ours, theirs))
    if both := sorted(mine.keys() & other.keys()):
        ratio = of_windows(means(other[seed] for seed in both), means(mine[seed] for seed in both))
        made |= {"ppl_ratio": ratio.value, "ppl_ratio_high": ratio.high}
    return made


def means(losses: Iterable[Sequence[float]]) -> list[float]:
    """Each window's mean."""
    return [statistics.fmean(window) for window in zip(*losses, strict=True)]


def compared(runs: Runs, not_run: NotRun) -> list[dict[str, Any]]:
    """A row for each of our jobs: its figures, each peer's under ``peers``, the best peer by figure under ``best``."""
    rows = []
    for name in dict.fromkeys(run["job"] for run in runs if run["side"] == OURS):
        ours = [run for run in runs if (run["job"], run["side"]) == (name, OURS)]
        other = AGAINST[name]
        sides = dict.fromkeys(run["side"] for run in runs if run["job"] == other and run["side"] != OURS)
        peers = {side: against(ours, [run for run in runs if (run["job"], run["side"]) == (other, side)])
                 for side in sides}  # fmt: skip
        best = {key: min(peers, key=lambda peer: peers[peer][key]) for key in BEST} if peers else {}
        rows.append({"job": name, **figures(ours), "peers": peers, "best": best,
                     "not_run": dict(not_run.get(other, {}))})  # fmt: skip
    return rows


def said(rows: Sequence[Mapping[str, Any]], dense: Sequence[float], forward_s: float) -> dict[str, Any]:
    """The last line. A figure is null where the peer that it is held against did not run."""
    by = {row["job"]: row for row in rows}
    made: dict[str, Any] = {"dense_ppl": perplexity(dense), "forward_s": forward_s}
    for name, row in by.items():
        made |= beside(name, row)
    full, four = by.get("full4"), by.get("gptq4")
    if full is not None:
        made["folder_ratio"] = over(full, "weight_bytes", "llmcompressor")
    if four is not None:
        made["peak_memory_ratio"] = over(four, "peak_bytes", four["best"].get("peak_bytes"))
        made |= {"forwards": four["fitted_s"] / forward_s, "forwards_whole": four["whole_s"] / forward_s}
    made |= {"not_run": {name: row["not_run"] for name, row in by.items() if row["not_run"]}}
    return made | {"targets": judged(made)}


def beside(name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """Speed against llm-compressor, each peer and the fastest; perplexity against the best."""
    peers, best = row["peers"], row["best"]
    first = peers.get("llmcompressor", {})
    made = {f"{name}_ppl": row["ppl"], f"{name}_speedup": first.get("speedup"),
            f"{name}_speedup_low": first.get("speedup_low"),
            f"{name}_speedup_whole": first.get("speedup_whole")}  # fmt: skip
    for peer, figure in peers.items():
        made |= {f"{name}_speedup_{peer}": figure["speedup"], f"{name}_ppl_{peer}": figure["ppl"],
                 f"{name}_peak_{peer}": figure["peak_bytes"]}  # fmt: skip
    fastest, lowest = peers.get(best.get("fitted_s"), {}), peers.get(best.get("ppl"), {})
    return made | {
        f"{name}_speedup_best_peer": fastest.get("speedup"),
        f"{name}_speedup_best_peer_low": fastest.get("speedup_low"), f"{name}_ppl_best_peer": lowest.get("ppl"),
        f"{name}_ppl_ratio": lowest.get("ppl_ratio"),
        f"{name}_ppl_ratio_high": lowest.get("ppl_ratio_high"), f"{name}_best": dict(best),
        f"{name}_peak_ratio": over(row, "peak_bytes", best.get("peak_bytes")),
    }  # fmt: skip


def over(row: Mapping[str, Any], key: str, peer: str | None) -> float | None:
    """Our figure over that peer's; None where it did not run."""
    return None if peer not in row["peers"] else row[key] / row["peers"][peer][key]
