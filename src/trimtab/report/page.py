"""A page that asks for nothing: styles, scripts, drawings and data are in it.

Its content policy allows no request at all, and only the styles and scripts whose hashes it names, so that even text
that escaped escaping could not run. Plotly's script, which the ``plotly`` package brings (4.8 MB), is in each page
once. Plots are drawn from one block of JSON; until that is done, in print and without scripts their plain SVG is shown.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from trimtab.report import svg
from trimtab.report.chart import Chart, Plot
from trimtab.report.live import live
from trimtab.report.scale import label, scales
from trimtab.report.still import still

EMPTY = "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
"""The hash of nothing: plotly adds a style element that is empty, and fills it by script, which a policy allows."""
GUARD = re.compile(r'getElementById\("([0-9a-f]{64})"\)')
"""How plotly's script asks whether the styles of its maps are there already. No map is drawn, and the policy forbids
them: an empty element of that name keeps them away."""


def page(template: str, plots: Iterable[Plot], **given: Any) -> str:
    """The HTML of a template of this package. Every expression in it is escaped unless it is Markup of our drawings."""
    env = Environment(
        loader=PackageLoader("trimtab.report"), autoescape=select_autoescape(["html", "html.j2"]),
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    env.globals |= {"still": still, "key": svg.key, "labels": labels}
    style, script, plotly = _own("style.css"), _own("script.js"), bundle()
    policy = (
        f"default-src 'none'; style-src {_hash(style)} {EMPTY}; script-src {_hash(plotly)} {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    return env.get_template(template).render(
        style=Markup(style), script=Markup(script), plotly=Markup(plotly), policy=policy,
        away=sorted(set(GUARD.findall(plotly))),
        data=Markup(block(plots)), **given,
    )  # fmt: skip


def labels(chart: Chart) -> tuple[str, str]:
    """What stands beside the axes."""
    x, y = scales(chart)
    return label(chart.x, x), label(chart.y, y)


def block(plots: Iterable[Plot]) -> str:
    """The figures of all plots by their charts' keys, as JSON that nothing inside can end."""
    found = {chart.key: live(chart) for plot in plots for chart in plot.charts}
    text = json.dumps(found, allow_nan=False, separators=(",", ":"))  # ASCII only
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def bundle() -> str:
    """Plotly's script as its package has it, imported only where a page is written."""
    from plotly.offline import get_plotlyjs

    text: str = get_plotlyjs()
    return text.replace("\r\n", "\n")  # as a browser reads it, which the hash is of


def _own(name: str) -> str:
    """A file of this package, safe to stand in the page as it is."""
    return resources.files("trimtab.report").joinpath("templates", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"
