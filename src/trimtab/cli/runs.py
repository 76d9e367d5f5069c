"""``trimtab run``, ``resume``, ``init``, ``plan``, ``report``, ``compare``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import typer

from trimtab.cli.app import full, note, say
from trimtab.cli.progress import shown
from trimtab.core.errors import BadInput, Infeasible

LAUNCH = 5e-6
"""Seconds that an accelerator takes to be given an operation; what data sheets do not say."""
OUT = typer.Option(None, "--out", help="The run's folder (default: runs/<recipe>-<time>).")
SET = typer.Option([], "--set", help="Override a recipe key: --set calibrate.num_samples=64 (repeatable).")
JSON = typer.Option(False, "--json", help="Make the last line of standard output one JSON document.")
SAMPLES = typer.Option(False, "--with-samples", help="Show changed answers in the report, which is then stamped.")


def run(recipe: str, out: Path | None = OUT, settings: list[str] = SET, as_json: bool = JSON,
        with_samples: bool = SAMPLES) -> None:  # fmt: skip
    """Do what RECIPE says. It is a ready recipe's name (trimtab list recipes) or a YAML file."""
    from trimtab.run import start
    from trimtab.run.folder import default

    name, resolved = start.resolve(recipe, settings)
    folder = out or default(name)
    with _resumable(folder), shown(as_json) as progress:
        result = start.run(resolved, folder, progress=progress, name=name)
    _finish(result, as_json, with_samples)


def resume(folder: Path, as_json: bool = JSON, with_samples: bool = SAMPLES) -> None:
    """Go on with a run that was stopped; it ends in the same artifact."""
    from trimtab.run import start

    with _resumable(folder), shown(as_json) as progress:
        result = start.resume(folder, progress)
    _finish(result, as_json, with_samples)


class _resumable:
    """On Ctrl-C and on a full disk, print the line that goes on with the run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *_: object) -> None:
        if kind is KeyboardInterrupt or full(error):
            note(f"\nStopped. Go on with: trimtab resume {self.folder}")


def _finish(result: object, as_json: bool, with_samples: bool) -> None:
    from trimtab.report import render
    from trimtab.report.terminal import show
    from trimtab.run.result import Result

    assert isinstance(result, Result)
    if with_samples or not result.report.exists():
        render(result.folder, with_samples=with_samples)
    if as_json:
        say({"folder": str(result.folder), **result.data})
    else:
        show(result.data, result.readings)
        note(f"Report: {result.report}\nArtifact: {result.artifact}")
    raise typer.Exit(result.exit_status)


def init(
    named: str = typer.Argument(None, metavar="[MODEL]", help="builtin:NAME, hub id, folder or .gguf file."),
    data: Path = typer.Option(
        None, "--data", help="A CSV, JSONL or Parquet file, or a folder of pictures; without it a built-in data set."
    ),
    model: str = typer.Option(None, "--model", help="The same as MODEL (default: builtin:easyvqa-llava)."),
    tier: str = typer.Option(
        "balanced", "--tier", help="fast (8 bits, no calibration), balanced (GPTQ, 4 bits) or best (QuantEase, 4 bits)."
    ),
    out: Path = typer.Option(Path("recipe.yaml"), "--out", help="Where to write the recipe."),
    as_json: bool = JSON,
) -> None:
    """Look at a model and your data and write a recipe for them."""
    from trimtab.run.init import write

    if named and model and named != model:
        raise BadInput(f"--model: got {model!r} beside {named!r}; name one model")
    path, reasons = write(named or model or "builtin:easyvqa-llava", data, out, tier)
    for reason in reasons:
        note(reason)
    note(f"Wrote {path}. Read it, then: trimtab run {path}")
    if as_json:
        say({"recipe": str(path), "reasons": reasons})


def plan(
    recipe: str,
    settings: list[str] = SET,
    on: str = typer.Option(None, "--on", metavar="NAME", help="Foresee forward passes on an accelerator, as in H100."),
    rehearse: bool = typer.Option(False, "--rehearse", help="Then run it in small: two samples, saved and gated."),
    as_json: bool = JSON,
) -> None:
    """Say what RECIPE needs and how long it takes, without doing it. Exit status 5 where its shapes do not fit."""
    from trimtab.measure.accelerators import accelerator
    from trimtab.run import start
    from trimtab.run.limits import known, limits
    from trimtab.run.plan import plan as make
    from trimtab.run.plan import show

    _, resolved = start.resolve(recipe, settings)
    roof = None if on is None else replace(accelerator(on).roof(), start=LAUNCH)
    if known() is None:
        note("looking at this machine, which takes some seconds, once")
    found = make(resolved, limits(), roof)
    rehearsed = start.rehearse(resolved) if rehearse and not found.problems else None
    if as_json:
        say(found.row() | ({"rehearsal": rehearsed} if rehearsed else {}))
    else:
        typer.echo(show(found))
        if rehearsed:
            seconds = rehearsed["seconds"]
            note(f"rehearsal: {rehearsed['layers']} layers fitted, saved, reloaded and the same, in {seconds:.0f} s")
    if found.problems:
        raise typer.Exit(Infeasible.exit_status)


def report(folder: Path, with_samples: bool = SAMPLES, as_json: bool = JSON) -> None:
    """Write a run's report and its artifact's model card again. That is report.html, .md and .json."""
    from trimtab.report import render
    from trimtab.run.result import Result

    result = Result.open(folder)
    render(folder, with_samples=with_samples)
    note(f"Report: {result.report}")
    if as_json:
        say({"report": str(result.report)})


def compare(
    folders: list[Path],
    out: Path = typer.Option(Path("compare.html"), "--out", help="The page; its twins .md and .json go beside it."),
    as_json: bool = JSON,
) -> None:
    """Put several runs side by side. Figures, plots, and differences of accuracy answer by answer."""
    from trimtab.report.compare import show, write

    found = write(folders, out)
    show(*(table for table in (found.table, found.paired) if table))
    note(f"Page: {out}")
    if as_json:
        from trimtab.run.result import Result

        runs = [{"folder": str(one), **Result.open(one).data} for one in folders]
        say({"page": str(out), "runs": runs})


def register(app: typer.Typer) -> None:
    """Add this room's commands."""
    for command in (init, plan, run, resume, report, compare):
        app.command()(command)
