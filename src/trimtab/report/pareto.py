"""The page of a search under a budget, ``search.html``, and its Markdown twin; ``search.json`` is its JSON twin."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from trimtab.core.files import write_atomic
from trimtab.report.chart import Plot
from trimtab.report.markdown import twin
from trimtab.report.page import page
from trimtab.report.plots.pairs import pairs, trials
from trimtab.report.say import say
from trimtab.report.search import Search, read
from trimtab.report.table import Table


@dataclass(frozen=True)
class SearchView:
    """All that the page shows; ``test`` is empty where nothing was measured on the test split."""

    name: str
    model: str
    words: str
    binding: str
    pairs: Plot
    test: Table


def build(search: Search) -> SearchView:
    """The view of a search."""
    test = trials("On the test split", search.test, search)
    return SearchView(search.name, search.model, _words(search), search.binding, pairs(search), test)


def write(folder: Path) -> Path:
    """Write ``search.html`` and ``search.md`` beside the ``search.json`` in ``folder``; the path of the page.

    Raises BadInput on a missing or damaged file, Refused on a newer format. Paths, prompts and names of the user's
    files that its recipes hold are withheld.
    """
    view = build(read(folder))
    html, markdown = page("search.html.j2", [view.pairs], view=view), twin("search.md.j2", view=view)
    write_atomic(Path(folder) / "search.html", html)
    write_atomic(Path(folder) / "search.md", markdown)
    return Path(folder) / "search.html"


def _words(search: Search) -> str:
    states = Counter(one.state for one in search.points)
    counted = ", ".join(f"{count} {state}" for state, count in states.items())
    budget = f", of {say(search.budget, 's')} that it was given" if search.budget else ""
    front = sum(one.pareto for one in search.points)
    return f"{len(search.points)} trials in {say(search.seconds, 's')}{budget}: {counted}. On the front: {front}."
