"""What ``make soak`` says: a verdict for every promise of docs/serve.md, and the kept page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from typing import Any

import torch

from trimtab.measure.machine import facts

FLAT = 0.05
WINDOW = 10.0
"""Seconds of which a median of resident memory is taken: a bomb that is being refused is no leak."""


@dataclass(frozen=True)
class Verdict:
    """``held``: None where it was not tried."""

    promise: str
    held: bool | None
    found: str

    @property
    def text(self) -> str:
        return {None: "not tried", True: "held", False: "**NOT HELD**"}[self.held]


def windows(memory: Sequence[tuple[float, int]], warm: float) -> list[float]:
    """Medians of resident bytes of every ``WINDOW`` after ``warm`` seconds, in order; a last short one is left out."""
    rows: dict[int, list[int]] = {}
    for at, size in memory:
        if at >= warm:
            rows.setdefault(int((at - warm) // WINDOW), []).append(size)
    least = WINDOW / 2
    return [median(sizes) for _, sizes in sorted(rows.items()) if len(sizes) >= least]


def flat(promise: str, memory: Sequence[tuple[float, int]], warm: float) -> Verdict:
    """Every window within 5 % of the first after the warm-up."""
    rows = windows(memory, warm)
    if len(rows) < 2:
        return Verdict(promise, None, f"{len(memory)} samples are too few after {warm:.0f} s of warm-up")
    grown = max(abs(size / rows[0] - 1) for size in rows)
    peak = max(size for _, size in memory)
    return Verdict(promise, grown <= FLAT, f"{rows[0] / 2**20:.0f} MiB behind {warm:.0f} s of warm-up, at most "
                   f"{100 * grown:.1f} % away in {len(rows) - 1} windows of {WINDOW:.0f} s after, "
                   f"{rows[-1] / 2**20:.0f} MiB in the last; peak {peak / 2**20:.0f} MiB")  # fmt: skip


def percentile(values: Sequence[float], share: float) -> float:
    """The value at that share of the sorted ones."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def load_verdicts(found: Mapping[str, Any]) -> list[Verdict]:
    """Of the part under load."""
    said, seen, sum_of = found["after"]["requests"], found["seen"], found["sent"]
    queue = found["after"]["queue"]
    settled = queue["waiting"] == queue["running"] == 0 and not seen["lost"]
    asked = f"{sum_of:,} requests of {found['clients']} clients in {found['seconds']:.0f} s"
    first = seen["first"]
    times = f"under load {_times(first)}; one client alone {_times(found['alone'])}"
    fives = sum(n for row in seen["counts"].values() for status, n in row.items() if status.startswith("5"))
    return [
        Verdict("no crash", found["alive"], f"{asked}; the process of the beginning answered at the end and left with "
                f"status {found['status']} when told to"),
        flat("resident memory flat within 5 % after warm-up", found["memory"], found["warm"]),
        Verdict("every accepted request answered or cancelled", settled and said["failed"] == 0
                and said["answered"] >= seen["whole"],
                f"the server: {said['answered']:,} answered, {said['cancelled']:,} cancelled, {said['failed']:,} "
                f"failed, {said['refused']:,} refused, then {queue['waiting']} waiting and {queue['running']} running; "
                f"the clients: {seen['whole']:,} whole answers, {len(seen['lost'])} lost"),
        Verdict("no 5xx", fives == 0, f"{fives} of {sum_of:,}"),
        Verdict("every status as it should be", not seen["wrong"], f"{len(seen['wrong'])} others"),
        Verdict("time to first token under load beside the unloaded one", bool(first), times),
    ]  # fmt: skip


def _times(values: Sequence[float]) -> str:
    if not values:
        return "none"
    return (
        f"median {1e3 * median(values):.0f} ms, p95 {1e3 * percentile(values, 0.95):.0f} ms ({len(values):,} streams)"
    )


def schema_verdicts(found: Mapping[str, Any]) -> list[Verdict]:
    """Of the requests from the OpenAPI description."""
    told = f"{found['sent']:,} requests at {len(found['operations'])} paths in {found['seconds']:.0f} s"
    return [
        Verdict("requests of schemathesis: no crash, no 5xx, none lost", found["alive"] and not found["failed"]
                and not found["lost"] and found["sent"] >= found["wanted"],
                f"{told}; {len(found['failed'])} 5xx, {len(found['lost'])} lost, {found['wanted']:,} wanted"),
        flat("the same: resident memory flat within 5 % after warm-up", found["memory"], found["warm"]),
    ]  # fmt: skip


def kill_verdicts(found: Mapping[str, Any]) -> list[Verdict]:
    """Of kills in the middle of requests."""
    return [Verdict("kill -9 and restart lose no artifact", found["equal"] and found["same"],
                    f"{found['times']} kills, each with {found['running']} requests under way: every byte of "
                    f"{found['files']} files as before, and after each restart the same answer as before")]  # fmt: skip


def table(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Rows of what was sent and what came of it."""
    lines = ["| what was sent | answers by status |", "| --- | --- |"]
    for name, row in counts.items():
        said = ", ".join(f"{status}: {count:,}" for status, count in sorted(row.items()))
        lines.append(f"| {name} | {said} |")
    return lines


def page(verdicts: Sequence[Verdict], load: Mapping[str, Any], drawn: Mapping[str, Any], size: int) -> str:
    """The kept file."""
    machine = facts()
    by_path: dict[str, dict[str, int]] = {}
    for name, count in drawn["counts"].items():
        path, _, status = name.rpartition(" ")
        by_path.setdefault(path, {})[status] = count
    return "\n".join([
        "# Measured: the server under load", "",
        f"Written by `make soak` on {datetime.now(UTC):%Y-%m-%d} on {machine.processor}, {machine.threads} threads, "
        f"torch {torch.__version__}. The server is `trimtab serve` on loopback with a token; its artifact is the "
        f"built-in VLM at 4 bits with half of the visual tokens (DivPrune), {size / 1e6:.1f} MB. Clients and server "
        "share the machine, so times are those of a machine that does both. Warm-up: the first third; `--remember 16`, "
        "so that what is remembered on purpose has reached its bound by then. Clients that are told to come later "
        "(429) do. The drawn requests are sent to a server that has met these clients for twenty seconds.", "",
        "| promise | verdict | found |", "| --- | --- | --- |",
        *(f"| {one.promise} | {one.text} | {one.found} |" for one in verdicts), "",
        f"## What {load['clients']} clients sent", "", *table(load["seen"]["counts"]), "",
        "`left`: the client hung up before the answer's end, as it had set out to.", "",
        "## Requests made of the OpenAPI description", "", *table(by_path), "",
    ])  # fmt: skip
