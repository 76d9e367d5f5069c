"""``make bench-search``: one search on the built-in model against recipes, and searches against random ones.

    python benchmarks/search.py [--minutes 20] [--seed-minutes 6] [--seeds 3]

First one search of ``MINUTES`` over all six axes under the quickstart's budget and one for the cache: does a point of
its front dominate the quickstart, 4 bits alone and a quarter of the tokens alone on the test split, in bytes and
language-prefill seconds, by the paired bounds? Then for each seed two searches of ``SEED_MINUTES``, one with the
sampler and one that draws at random, in turn: the same space, the same references and likely points first, the same
folds, early stops and clock. Compared is the hypervolume of the points that meet the budget, below the untouched model
with 10 points of accuracy lost, each cost as a share of the untouched model's: (1, 1, 1) is the reference point. How
much more that is than what the points that both begin with come to is beside it. Seeds have fewer minutes than the one
search, since a sampler that needs longer to be better than chance would not be worth having, and the test split is not
read for them.

Goes on where it was stopped. Writes docs/measured-search.md, and prints as the last line one JSON object.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean

import torch

from trimtab.cli.progress import shown
from trimtab.cli.search import figure, said
from trimtab.measure.machine import facts
from trimtab.run.search import starts
from trimtab.run.search.drive import search
from trimtab.run.search.folds import QUESTIONS
from trimtab.run.search.place import Wanted
from trimtab.run.search.write import Found
from trimtab.run.start import resolve

OUT = Path(__file__).resolve().parents[1] / "docs" / "measured-search.md"
ONE = Path("runs/bench-search/one")
"""Where the one search stands, which ``make bench-plan`` asks for as well."""
NAME, SETTINGS = "quickstart", ["budget.cache={max: 0.6x}"]
SAMPLERS = ("tpe", "random")


def begun(found: Found) -> float:
    """The hypervolume of the points that every search begins with."""
    count = len(starts.LIKELY) + sum(one.reference is not None for one in found.points)
    return replace(found, points=[one for one in found.points if one.number < count]).volume()


def wanted(seed: int, sampler: str) -> Wanted:
    """A search of the quickstart."""
    _, recipe = resolve(NAME, SETTINGS)
    return Wanted(name=NAME, seed=seed, sampler=sampler, questions=QUESTIONS, recipe=recipe)


def pairs(out: Path, seeds: int, minutes: float) -> list[dict[str, Found]]:
    """By seed, both samplers."""
    found = []
    for seed in range(seeds):
        row = {}
        for sampler in SAMPLERS if seed % 2 == 0 else SAMPLERS[::-1]:
            with shown(quiet=False) as progress:
                row[sampler] = search(wanted(seed, sampler), out / f"{sampler}-{seed}", minutes, progress, last=False)
            print(
                f"seed {seed}, {sampler}: {row[sampler].volume():.4f} of {len(row[sampler].points)} points", flush=True
            )
        found.append(row)
    return found


def tested(found: Found) -> list[str]:
    """A table of the reading of the test split."""
    others = [str(one.point.reference) for one in found.tested if one.point.reference is not None]
    head = ["point", "bytes", "prefill", "right", *(f"against {one}" for one in others), "dominates all", "steps"]
    lines = [head, ["---"] * len(head)]
    for one in found.tested:
        values = [figure(one.outcome.values[o.name].value, o.unit) for o in found.objectives]
        against = [_against(one.against[other]) if other in one.against else "" for other in others]
        won = "" if one.point.reference else "yes" if one.dominates and one.meets else "no"
        name = str(one.point.number) if one.point.reference is None else f"{one.point.reference}"
        lines.append([name, *values, *against, won, said(one.point.steps)])
    return ["| " + " | ".join(line) + " |" for line in lines]


def _against(row: dict[str, object]) -> str:
    prefill, lost = row["prefill"], row["lost"]
    assert isinstance(prefill, dict)
    assert isinstance(lost, dict)
    return (f"{row['bytes']:.2f}x bytes, {prefill['value']:.2f}x time (at most {prefill['high']:.2f}x), lost "
            f"{100 * lost['value']:.2f} (at most {100 * lost['high']:.2f}) points")  # fmt: skip


def page(one: Found, rows: Sequence[dict[str, Found]], minutes: float) -> str:
    """The kept file."""
    machine = facts()
    able = len(one.able())
    lines = [
        "# Measured: search", "",
        f"Written by `make bench-search` on {datetime.now(UTC):%Y-%m-%d} on {machine.processor}, {machine.threads} "
        f"threads, torch {torch.__version__}: `trimtab search {NAME}{''.join(f' --set {x!r}' for x in SETTINGS)} "
        f"--minutes {one.budget_seconds / 60:g}`.", "",
        f"{len(one.points)} points in {one.seconds / 60:.1f} minutes, {able} of them meet the budget, "
        f"{len(one.front())} are beaten by none. On the test split, read once; bounds of 5 % divided among the points "
        "that were chosen, each against the same rounds and the same questions:", "", *tested(one), "",
        f"Hypervolume after {minutes:g} minutes, and of it what is more than the points that both begin with come to. "
        "Each search times those anew, so two that found nothing else differ by what timing does.", "",
        "| seed | search | gained | points | random | gained | points |", "| --- | --- | --- | --- | --- | --- | --- |",
        *(f"| {seed} | " + " | ".join(f"{row[name].volume():.4f} | {row[name].volume() - begun(row[name]):.4f} | "
                                      f"{len(row[name].points)}" for name in SAMPLERS) + " |"
          for seed, row in enumerate(rows)), "",
    ]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed-minutes", type=float, default=6)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    with shown(quiet=False) as progress:
        one = search(wanted(0, "tpe"), ONE, given.minutes, progress)
    rows = pairs(ONE.parent, given.seeds, given.seed_minutes)
    text = page(one, rows, given.seed_minutes)
    OUT.write_text(text, encoding="utf-8")
    print(text)
    volumes = {name: [row[name].volume() for row in rows] for name in SAMPLERS}
    print(json.dumps({
        "search_dominates": [x.point.number for x in one.dominating()] != [], "minutes": given.minutes,
        "points": len(one.points), "seed_minutes": given.seed_minutes,
        "hypervolume": fmean(volumes["tpe"]) if rows else None,
        "hypervolume_random": fmean(volumes["random"]) if rows else None, "by_seed": volumes,
        "reference_point": "(1, 1, 1): the untouched model's bytes in 16 bits, its seconds, 10 points of accuracy lost",
    }))  # fmt: skip


if __name__ == "__main__":
    main()
