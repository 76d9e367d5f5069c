"""``trimtab list``, ``doctor``, ``cache``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from trimtab.cli.app import note, say
from trimtab.core.errors import BadInput, unknown

JSON = typer.Option(False, "--json", help="Make the last line of standard output one JSON document.")


def _table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 120).print(table, markup=False)


def _methods() -> list[dict[str, Any]]:
    from trimtab import evidence, methods

    stored = evidence.stored()
    return [
        {"name": name, "family": card.family, "saves": card.saves, "needs": card.needs, "year": card.year,
         "status": evidence.status(card, stored), "paper": card.title, "where": card.where}
        for name, card in methods.cards().items()
    ]  # fmt: skip


def _models() -> list[dict[str, Any]]:
    from trimtab.load.builtin import listed

    return [dict(row) for row in listed()]


def _data() -> list[dict[str, Any]]:
    from trimtab.data.builtin import BUILTIN

    return [
        {"name": name, "type": row.type, "what": row.title, "license": row.license, "source": row.source}
        for name, row in BUILTIN.items()
    ]


def _recipes() -> list[dict[str, Any]]:
    from trimtab.run.start import ready

    return [{"name": name, "what": path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")}
            for name, path in ready().items()]  # fmt: skip


LISTS = {"methods": _methods, "models": _models, "data": _data, "recipes": _recipes}


def listing(
    what: str = typer.Argument(..., help="methods, models, data or recipes."),
    after: str = typer.Option(None, "--after", help="What may follow this method on the same layers, and why not."),
    as_json: bool = JSON,
) -> None:
    """List what there is: methods, models, data or recipes."""
    if what not in LISTS:
        raise unknown("list", what, LISTS)
    rows = LISTS[what]()
    if after is not None:
        if what != "methods":
            raise BadInput(f"--after: goes with 'trimtab list methods', not {what!r}")
        from trimtab import order

        rows = order.following(after)
    if as_json:
        say({what: rows})
    elif rows:
        _table(what, list(rows[0]), [[str(value) for value in row.values()] for row in rows])


def doctor(
    engines: Path = typer.Option(
        None, "--engines", metavar="ARTIFACT", help="Time the installed engines on this artifact instead, and remember."
    ),
    as_json: bool = JSON,
) -> None:
    """Say what this machine has and reaches. Versions, threads, kernels, bandwidth, products, attention, operators.
    What it reaches is measured and remembered, for plans."""
    from dataclasses import asdict

    if engines is not None:
        return _engines(engines, as_json)

    from trimtab.measure.machine import doctor as examine
    from trimtab.run.limits import examined

    facts, reached = asdict(examine()), examined()
    if as_json:
        return say(facts | {"ceilings": reached.row()})
    shown = {key: SHOWN.get(key, _short)(value) for key, value in facts.items()}
    _table("doctor", ["fact", "value"], [[key, value] for key, value in shown.items()])
    _table("what plans reckon with", ["ceiling", "value"], [list(row) for row in _ceilings(reached)])
    if not reached.steady:
        note(UNSTEADY)


UNSTEADY = """Memory was not read at one rate while this was measured, three times over: something else runs, or the
machine is shared. Plans reckon with these figures; run trimtab doctor again when it is idle."""


def _ceilings(reached: Any) -> list[tuple[str, str]]:
    rows = []
    for form, one in reached.products.items():
        few, many = one.at(1, (1536, 1536)) / 1e9, one.at(1024, (1536, 1536)) / 1e9
        rows.append((f"products, {form}", f"{few:.0f} GFLOP/s by one row, {many:.0f} by 1,024; large matrices at "
                                          f"{one.stream / 1e9:.0f} GB/s"))  # fmt: skip
    for name, one in reached.attention.items():
        longest = one.prompt.sizes[-1]
        rows.append((f"attention, {name}", f"{one.prompt.values[-1] / 1e9:.0f} GFLOP/s at {longest:.0f} tokens"))
    times = {"an operator of torch": "operator", "a compiled product from Python": "host", "a plan's call": "plan_call",
             "a plan's layer": "plan_layer", "generate, a word": "generated"}  # fmt: skip
    rows += [(what, f"{1e6 * getattr(reached, name):.1f} us") for what, name in times.items()]
    rows.append(("a fresh process", f"{reached.start:.1f} s, {reached.resident / 1e6:.0f} MB"))
    return [*rows, ("disk", f"{reached.disk / 1e9:.1f} GB/s")]


def _engines(artifact: Path, as_json: bool) -> None:
    from dataclasses import asdict

    from trimtab.engines.arbiter import TYPICAL
    from trimtab.engines.remembered import timed

    note(f"timing engines on {artifact}, each in a process of its own; this takes minutes")
    found = timed(artifact)
    if as_json:
        return say(asdict(found))
    rows = [[f"{one.engine} {one.version}", *_figures(one), _roles(one.engine, found)]
            for one in found.trials if not one.why]  # fmt: skip
    tokens = max(one.tokens for one in found.trials)
    _table(f"engines on {artifact}", ["engine", f"{tokens} tokens, ms", "a word, ms", "words/s", "off", "resident, MB",
                                      "timing took, s", "chosen for"], rows)  # fmt: skip
    for one in found.trials:
        if one.why:
            note(f"not {one.engine} ({one.spent:.0f} s): {one.why}")
    spent = sum(one.spent for one in found.trials)
    note(f"An answer of {TYPICAL} words takes {found.seconds:.2f} s so. The timing took {spent:.0f} s; what it found "
         "is remembered for these weights, engines and threads (trimtab cache).")  # fmt: skip


def _figures(one: Any) -> list[str]:
    return [f"{1e3 * one.first:.0f}", f"{1e3 * one.word:.2f}", f"{1 / one.word:.1f}", f"{one.off:.4f}",
            f"{one.resident / 1e6:.0f}", f"{one.spent:.0f}"]  # fmt: skip


def _roles(engine: str, found: Any) -> str:
    chosen = {"prompts": found.prompts, "words": found.words}
    return ", ".join(phase for phase, name in chosen.items() if name == engine)


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{key}: {_short(one)}" for key, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_short(one) for one in value)
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _gigabytes(value: int) -> str:
    return f"{value / 1e9:.1f} GB"


def _bandwidth(found: dict[int, float]) -> str:
    return "\n".join(f"reading {_size(size)}: {rate / 1e9:.1f} GB/s" for size, rate in found.items())


def _size(count: int) -> str:
    return f"{count >> 10} KiB" if count < 1 << 20 else f"{count >> 20} MiB"


def _arithmetic(found: dict[str, float]) -> str:
    return "\n".join(f"{name}: {rate / 1e9:.0f} G{'' if name == 'int8' else 'FL'}OP/s" for name, rate in found.items())


SHOWN: dict[str, Callable[[Any], str]] = {
    "memory": _gigabytes, "available": _gigabytes, "bandwidth": _bandwidth, "arithmetic": _arithmetic,
}  # fmt: skip
"""How ``doctor`` writes a fact that is no plain word."""


def cache(
    remove: str = typer.Option(None, "--remove", help="Remove this entry."),
    clear: bool = typer.Option(False, "--clear", help="Remove everything."),
    as_json: bool = JSON,
) -> None:
    """List or remove what Trimtab wrote outside run folders."""
    from trimtab.load import cache as store

    gone = store.remove(remove) if remove is not None else store.remove() if clear else []
    left = store.entries()
    if as_json:
        say({"root": str(store.root()), "removed": [one.name for one in gone],
             "entries": [{"name": one.name, "bytes": one.bytes} for one in left]})  # fmt: skip
        return
    for one in gone:
        note(f"removed {one.name} ({one.bytes / 1e6:.1f} MB)")
    _table(str(store.root()), ["entry", "MB"], [[one.name, f"{one.bytes / 1e6:.1f}"] for one in left])


def register(app: typer.Typer) -> None:
    """Add this room's commands."""
    app.command("list")(listing)
    app.command()(doctor)
    app.command()(cache)
