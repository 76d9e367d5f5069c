"""``trimtab generate``, ``eval``, ``bench``, ``export``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import typer

from trimtab.cli.app import note, say
from trimtab.cli.progress import shown

JSON = typer.Option(False, "--json", help="Make the last line of standard output one JSON document.")
MODEL = typer.Argument(..., help="An artifact folder, builtin:NAME, hub id, local folder or .gguf file.")


def generate(
    model: str = MODEL,
    question: str = typer.Argument(..., help="What to ask, or how the text begins."),
    image: list[Path] = typer.Option([], "--image", help="A picture to look at (repeatable)."),
    max_new_tokens: int = typer.Option(64, "--max-new-tokens", min=1),
    engine: str = typer.Option(
        "auto", "--engine", help="auto (the fastest that 'trimtab doctor --engines' found, else plan), or one by name."
    ),
    as_json: bool = JSON,
) -> None:
    """Ask MODEL a question, about pictures where it sees."""
    from trimtab.engines.remembered import open_by
    from trimtab.evaluate.ask import ask

    loaded = open_by(model, engine)
    answer = ask(loaded, question, image, max_new_tokens)
    if as_json:
        say({"answer": answer})
    else:
        typer.echo(answer)


def evaluate(
    model: str = MODEL,
    dataset: str = typer.Option("easyvqa", "--dataset", help="A built-in data set (trimtab list data)."),
    data: Path = typer.Option(None, "--data", help="Your own file instead: csv, jsonl, parquet or a folder."),
    limit: int = typer.Option(500, "--limit", min=1),
    as_json: bool = JSON,
) -> None:
    """Measure the quality of MODEL on a test split."""
    from trimtab.run.verbs import quality

    with shown(as_json) as progress:
        reading = quality(model, dataset if data is None else None, data, limit, progress)
    low, high = reading.spread or (reading.value, reading.value)
    if as_json:
        say({"name": reading.name, "value": reading.value, "spread": [low, high], "n": reading.n})
    else:
        typer.echo(f"{reading.name}: {reading.value:.4f} (95 % interval {low:.4f} to {high:.4f}, n = {reading.n})")


def bench(
    model: str = MODEL,
    batch_size: int = typer.Option(8, "--batch-size", min=1),
    repeats: int = typer.Option(9, "--repeats", min=3),
    as_json: bool = JSON,
) -> None:
    """Time MODEL on this machine: vision, prefill and decode apart."""
    from trimtab.run.verbs import speed

    readings = speed(model, batch_size, repeats)
    if as_json:
        say({one.name: {"value": one.value, "spread": one.spread, "n": one.n} for one in readings})
    else:
        for one in readings:
            low, high = one.spread or (one.value, one.value)
            typer.echo(f"{one.name:24} {1e3 * one.value:9.2f} ms   ({1e3 * low:.2f} to {1e3 * high:.2f}, n = {one.n})")


def export(
    artifact: Path = typer.Argument(..., help="An artifact folder."),
    name: str = typer.Option("dense", "--format", help="What the folder is for (docs/export.md has the table)."),
    out: Path = typer.Option(..., "--out", help="A new folder."),
    without_policies: bool = typer.Option(
        False, "--without-policies", help="The matrices alone: no other engine follows token and cache policies."
    ),
    k_quants: bool = typer.Option(
        False, "--k-quants", help="GGUF: smaller, with weights rounded onto llama.cpp's k-quants where rows allow it."
    ),
    as_json: bool = JSON,
) -> None:
    """Write ARTIFACT in the form of another engine, and ask that. It has to answer as the artifact does."""
    from trimtab.export.deliver import deliver

    written = deliver(artifact, name, out, without_policies=without_policies, k_quants=k_quants)
    note(f"Wrote {out} ({written.bytes / 1e6:.1f} MB). Checked by {written.engine} in a process of its own:")
    note(f"- {written.found.text()}")
    for line in written.notes:
        note(f"- {line}")
    if as_json:
        found = {key: value for key, value in asdict(written.found).items() if value is not None}
        say({"folder": str(out), "format": name, "bytes": written.bytes, "notes": list(written.notes), "found": found})


def register(app: typer.Typer) -> None:
    """Add this room's commands."""
    app.command()(generate)
    app.command("eval")(evaluate)
    app.command()(bench)
    app.command()(export)
