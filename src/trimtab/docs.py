"""``python -m trimtab.docs``: write the tables of README.md, docs/methods.md and docs/factorize.md from the methods'
cards and knobs, and the table of families in docs/models.md, with what is stored of them, from the tests' tiny models.

``--check`` writes nothing and fails where a file is not what would be written. Run in the root of the repository.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from inspect import getdoc, getmodule
from pathlib import Path

from trimtab import evidence, methods, order
from trimtab.anatomy import evidence as families
from trimtab.core.card import Card
from trimtab.core.files import write_atomic

START, END = "<!-- methods -->", "<!-- /methods -->"
RANK_MARKS = "<!-- ranks -->", "<!-- /ranks -->"
RANKS = (1, 8, 16, 32, 64)
SHAPES = ((64, 64), (192, 192), (768, 192), (640, 640), (2048, 640), (4096, 4096), (11008, 4096))
NOTE = "<!-- Written by `make docs` from the methods' cards; a test compares. -->"
MODELS_NOTE = "<!-- Written by `make docs` from src/trimtab/anatomy/evidence.tsv; a test compares. -->"


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _needs(card: Card) -> str:
    data = {"nothing": "no data", "data": "calibration data", "gradients": "data and gradients"}[card.needs]
    return f"{data}, the original weights" if card.wants_source else data


def overview(prefix: str = "") -> str:
    """One line per published method; links go to ``prefix`` + methods.md."""
    stored = evidence.stored()
    rows = [
        (f"[`{name}`]({prefix}methods.md#{name})", card.family, f"{card.title} ({card.where})", card.saves,
         _needs(card), f"`{card.baseline}`" if card.baseline else "", evidence.status(card, stored))
        for name, card in methods.cards().items()
    ]  # fmt: skip
    return _table(("method", "family", "paper", "saves", "needs", "must beat", "status"), rows)


def section(name: str, card: Card) -> str:
    """All that is known of one method: its module's own words, knobs, departures, evidence."""
    kind = methods.get(name)
    words = getdoc(getmodule(kind)) or ""
    knobs = [(f"`{f.name}`", f"`{f.type}`", "" if f.default is MISSING else f"`{f.default}`") for f in fields(kind)]
    rows = [(e.kind, f"`{e.what}`", e.figure, e.date) for e in evidence.stored() if e.method == name]
    parts = [
        f"## {name}",
        f"{card.title}, {card.year}, {card.where}. Status: **{evidence.status(card, evidence.stored())}**.",
        f"```text\n{words}\n```",
        _table(("knob", "type", "default"), knobs),
        (getdoc(kind) or "").replace("``", "`"),
        f"Departures: {card.departures or 'none'}",
        _place(name, card),
        _table(("evidence", "test or command", "figure", "date"), rows) if rows else "No evidence stored yet.",
    ]
    return "\n\n".join(parts)


def _place(name: str, card: Card) -> str:
    """What a step does to what stands before it, or where a method that is no step is named."""
    if card.family not in methods.STEPS:
        return "Measures and changes nothing, so it is no step: it is named under `evaluate.robust`."
    return (f"Establishes {_listed(card.establishes)}; preserves {_listed(card.preserves)}; consumes "
            f"{_listed(card.consumes)}. May be followed by {_listed(order.after(name))}; on the same layers "
            "only by what preserves it.")  # fmt: skip


def _listed(words: tuple[str, ...]) -> str:
    return ", ".join(f"`{word}`" for word in words) or "nothing"


def page() -> str:
    """docs/methods.md."""
    words = (
        "A status is computed from the evidence listed below each method: *reference* passes the proof in its "
        "catalogue row, *checked* also equals an independent implementation on random inputs, *proven* also holds "
        "on real pretrained weights and held-out data, with an interval, a gated artifact and, where speed is "
        "claimed, a real kernel."
    )
    sections = [section(name, card) for name, card in methods.cards().items()]
    return "\n\n".join([NOTE, "# Methods", words, overview(), *sections]) + "\n"


def models(rows: Sequence[families.Row]) -> str:
    """docs/models.md."""
    words = (
        "A family is a `model_type` of transformers with an anatomy "
        "([how to add one](adding-an-architecture.md)); what else is loaded says so and stops.\n\n"
        "- *logits equal*: on a tiny model at random weights our loop gives what the library's forward gives, to 1e-5, "
        f"with padding on both sides (`{families.LOGITS}`).\n"
        "- *trimmed and gated*: all its layers at 4 bits, written as an artifact, read again, bit-equal, and through "
        f"the gate (`{families.ARTIFACT}`).\n"
        "- *run on real weights*: the test or command that does it. An empty cell: nobody has shown it."
    )
    table = _table(
        ("family", "class", "logits equal", "trimmed and gated", "run on real weights"),
        [(f"`{r.family}`", r.kind and f"`{r.kind}`", r.logits, r.artifact, r.weights and f"`{r.weights}`")
         for r in rows],
    )  # fmt: skip
    return "\n\n".join([MODELS_NOTE, "# Models", words, table]) + "\n"


def between_markers(text: str, start: str = START, end: str = END, table: Callable[[], str] | None = None) -> str:
    """``text`` with a table between its markers, by default that of the methods; unchanged where it has none."""
    head, begun, rest = text.partition(start)
    _, ended, tail = rest.partition(end)
    made = table() if table else overview("docs/")
    return f"{head}{start}\n{made}\n{end}{tail}" if begun and ended else text


def ranks() -> str:
    """What a rank costs: bits for each weight of a matrix, by its shape."""
    made = [methods.make("eora", {"r": r}) for r in RANKS]
    rows = [
        (f"{out} x {width}", *(f"{one.stored(out, width, 0) / (out * width):.2f}" for one in made))
        for out, width in SHAPES
    ]
    return _table(("matrix", *(f"r = {r}" for r in RANKS)), rows)


def outdated(root: Path) -> dict[Path, str]:
    """The files of the repository at ``root`` that differ from what cards and tests say, with what they should hold."""
    rows = families.current()
    wanted = {
        root / "docs" / "methods.md": page(),
        root / "docs" / "models.md": models(rows),
        root / "src" / "trimtab" / "anatomy" / families.FILE: families.table(rows),
    }
    readme, factorize = root / "README.md", root / "docs" / "factorize.md"
    if readme.is_file():
        wanted[readme] = between_markers(readme.read_text(encoding="utf-8"))
    if factorize.is_file():
        wanted[factorize] = between_markers(factorize.read_text(encoding="utf-8"), *RANK_MARKS, ranks)
    return {p: text for p, text in wanted.items() if not p.is_file() or p.read_text(encoding="utf-8") != text}


def main() -> int:
    """0 when all is written or up to date, 2 outside a repository, 1 where ``--check`` finds a difference."""
    parser = argparse.ArgumentParser(prog="python -m trimtab.docs", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file would change")
    check = parser.parse_args().check
    root = Path.cwd()
    if not (root / "docs").is_dir():
        print("docs: got a folder without docs/; run this in the root of the repository", file=sys.stderr)
        return 2
    changed = outdated(root)
    for path, text in changed.items():
        print(f"{path.relative_to(root)}: {'is out of date; run: make docs' if check else 'written'}")
        if not check:
            write_atomic(path, text)
    return 1 if check and changed else 0


if __name__ == "__main__":
    raise SystemExit(main())
