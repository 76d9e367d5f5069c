"""A page's Markdown twin: every expression of its template is escaped unless it is ``Ready``."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from trimtab.report.table import Table, escape, fence, markdown


class Ready(str):
    """Markdown that is escaped already."""


def twin(template: str, **given: Any) -> str:
    """The Markdown of a template of this package, no two empty lines in a row."""
    env = Environment(
        loader=PackageLoader("trimtab.report"), autoescape=False, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, finalize=lambda value: value if isinstance(value, Ready) else escape(value),
    )  # fmt: skip
    text = env.get_template(template).render(table=_table, fence=lambda *words: Ready(fence(*words)), **given)
    lines = [line.rstrip() for line in text.splitlines()]
    return "\n".join(line for line, last in zip(lines, ["", *lines], strict=False) if line or last) + "\n"


def _table(one: Table) -> Ready:
    return Ready(markdown(one))
