"""``trimtab search``: one budget across bits, sparsity, rank, visual tokens, cache and adapter rank."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from trimtab.cli.app import note, say
from trimtab.cli.progress import shown
from trimtab.cli.runs import JSON, SET
from trimtab.core.errors import BadInput, Infeasible

if TYPE_CHECKING:
    from rich.table import Table

    from trimtab.run.recipe import Step
    from trimtab.run.search.final import Read
    from trimtab.run.search.place import Wanted
    from trimtab.run.search.write import Found

WIDE = 120
"""Columns of a terminal from which on the table shows steps."""


def search(
    recipe: str = typer.Argument(None, metavar="[RECIPE]", help="A ready recipe's name or a YAML file; none with the "
                                 "--out of a search to go on with."),
    out: Path = typer.Option(None, "--out", help="The search's folder (default: runs/search-<recipe>-<time>)."),
    minutes: float = typer.Option(20.0, "--minutes", min=0.1, help="In all, the reading of the test split included."),
    seed: int = typer.Option(0, "--seed", help="Of the folds and of what is drawn."),
    space: Path = typer.Option(None, "--space", help="A YAML file of knobs and lists of choices, in place of the "
                               "model's own."),
    settings: list[str] = SET,
    as_json: bool = JSON,
) -> None:  # fmt: skip
    """Search all axes together under RECIPE's budget. Each point that nothing beats becomes a recipe; exit status 5
    where no point meets the budget."""
    installed()
    from trimtab.run.folder import default
    from trimtab.run.search.drive import search as go

    if recipe is None and out is None:
        raise BadInput("search: got neither a recipe nor --out; accepted: a recipe to begin with, or the folder of a "
                       "search to go on with")  # fmt: skip
    if recipe is None and (settings or space is not None):
        raise BadInput("search: --set and --space belong to a search that begins; accepted with --out alone: --minutes")
    wanted = None if recipe is None else asked_for(recipe, seed, space, settings)
    folder = out or default(f"search-{wanted.name if wanted else ''}")
    try:
        with shown(as_json) as progress:
            found = go(wanted, folder, minutes, progress)
    except KeyboardInterrupt:
        note(f"\nStopped. Go on with: trimtab search --out {folder} --minutes {minutes:g}")
        raise
    finish(found, folder, as_json)


def asked_for(recipe: str, seed: int, space: Path | None, settings: list[str]) -> Wanted:
    """What the command line asks for."""
    from trimtab.run.search.folds import QUESTIONS
    from trimtab.run.search.place import Wanted
    from trimtab.run.search.space import read
    from trimtab.run.start import resolve

    name, resolved = resolve(recipe, settings)
    given = {} if space is None else read(space)
    return Wanted(name=name, seed=seed, questions=QUESTIONS, space=given, recipe=resolved)


def installed() -> None:
    """Raises BadInput, with the next command, where Optuna is not."""
    if find_spec("optuna") is None:
        raise BadInput("search: needs Optuna, which is not installed; next: pip install 'trimtab[search]'")


def finish(found: Found, folder: Path, as_json: bool) -> None:
    """The page, the front as a table, and the exit status."""
    from rich.console import Console

    from trimtab.report.pareto import write

    write(folder)
    binds = found.binds()
    if as_json:
        say({"folder": str(folder), **json.loads((folder / "search.json").read_text(encoding="utf-8"))})
    else:
        console = Console()
        console.print(table(found, console.width))
        for line in summary(found, folder):
            note(line)
    if binds is not None:
        note(f"error: no point meets the budget. {binds}")
        raise typer.Exit(Infeasible.exit_status)


def summary(found: Found, folder: Path) -> list[str]:
    """What was found, in sentences."""
    able, won = found.able(), found.dominating()
    lines = [f"{len(found.points)} points in {found.seconds / 60:.1f} minutes, {len(able)} meet the budget, "
             f"{len(found.front())} are beaten by none."]  # fmt: skip
    if found.tested:
        names = ", ".join(str(one.point.number) for one in won) or "none"
        lines.append(f"On the test split, which was read once for {len(found.tested)} points: {names} meets the budget "
                     "and dominates every reference.")  # fmt: skip
    lines += list(found.notes)
    return [*lines, f"Page: {folder / 'search.html'}. Recipes: {folder / 'recipes'}"]


def table(found: Found, width: int) -> Table:
    """References and the front, the least bytes first; what was read on the test split beside what the folds said. A
    narrow terminal has no room for the steps, which are in the recipes."""
    from rich import box
    from rich.table import Table

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    prefill = found.objectives[1].name.rpartition(".b")[2]
    names = ["point", "weights", f"prefill of {prefill}", "right", "lost at most", "on the test split", "steps"]
    shown = len(names) - (width < WIDE)
    for name in names[:shown]:
        drawn.add_column(name, overflow="fold")
    tested = {one.point.number: one for one in found.tested}
    references = [one for one in found.points if one.reference is not None and one.outcome.state == "complete"]
    every = {one.number: one for one in (*references, *found.front())}
    for one in sorted(every.values(), key=lambda one: one.outcome.values["bytes.weights"].value):
        read = tested.get(one.number)
        cells = [one.reference or str(one.number),
                 *(figure(one.outcome.values[o.name].value, o.unit) for o in found.objectives),
                 figure(one.outcome.lost.high, "share") if one.outcome.lost else "",
                 "" if read is None else _test(read, found), said(one.steps)]  # fmt: skip
        drawn.add_row(*cells[:shown])
    return drawn


def _test(read: Read, found: Found) -> str:
    quality = read.outcome.values[found.objectives[-1].name].value
    word = "meets the budget" if read.meets else "misses the budget"
    if read.against:
        word += f", dominates {sum(one['dominates'] for one in read.against.values())} of {len(read.against)}"
    return f"{figure(quality, 'share')}, {word}"


def figure(value: float, unit: str) -> str:
    """As a person says it."""
    if unit == "bytes":
        return f"{value / 1e6:.2f} MB"
    return f"{1000 * value:.1f} ms" if unit == "s" else f"{100 * value:.2f} %"


def said(steps: Sequence[Step]) -> str:
    """The steps, shortly."""
    from trimtab.report.search import said as words

    return words(one.model_dump(mode="json") for one in steps)


def register(app: typer.Typer) -> None:
    """Add this room's command."""
    app.command()(search)
