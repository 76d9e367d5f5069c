"""``make bench-quickstart``, ``bench-gemma``, ``bench-heal-3bit``: a recipe on whole test splits; its table
is kept in docs/.

    python benchmarks/kept.py quickstart|gemma-270m-w4|heal-3bit

prints the table and, as the last line, one JSON object with the verdict and the figures, and writes the first part of
the run's report to docs/measured-<recipe>.md.
"""

from __future__ import annotations

import json
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import torch
from rich.console import Console

from trimtab.cli.progress import shown
from trimtab.measure.machine import facts
from trimtab.report.terminal import show
from trimtab.run.result import Result
from trimtab.run.start import resolve, run

DOCS = Path(__file__).resolve().parents[1] / "docs"
WHOLE = {
    "quickstart": (
        "bench-quickstart",
        "evaluate.limit=9673 evaluate.after_step=2000 evaluate.robust.limit=1000 also.0.limit=4000 "
        "evaluate.reuse=false",
    ),
    "gemma-270m-w4": ("bench-gemma", "evaluate.reuse=false"),
    "heal-3bit": ("bench-heal-3bit", "evaluate.reuse=false"),
}
"""By recipe: the target of ``make``, and what is set besides what the recipe says; both sides are asked in the run."""


def kept(name: str, result: Result) -> str:
    """The head of the report, with where it comes from."""
    target, settings = WHOLE[name]
    report = (result.folder / "report.md").read_text(encoding="utf-8")
    body = report.partition("\n## Quality against cost")[0].replace("# ", "## ", 1).replace("\n## ", "\n### ")
    robust = report.partition("\n## Robustness\n")[2].partition("\n## ")[0].strip()
    gains = [f"- Step {one['index']}, `{one['method']}`: {one['note']}" for one in result.data["steps"] if one["note"]]
    machine = facts()
    where = f"{machine.processor}, {', '.join(machine.flags)}, {machine.threads} threads, torch {torch.__version__}"
    return (
        f"# Measured: {name}\n\nWritten by `make {target}` on {datetime.now(UTC):%Y-%m-%d}: "
        f"`trimtab run {name}{''.join(f' --set {one}' for one in settings.split())}` on {where}, "
        f"{sum(result.data['seconds'].values()) / 60:.0f} minutes.\n\n{body.strip()}\n"
        + (f"\n### Robustness\n\n{robust}\n" if robust else "")
        + ("\n### Steps\n\n" + "\n".join(gains) + "\n" if gains else "")
    )


def main() -> None:
    """Run, print the table, keep it, then one JSON line."""
    name = sys.argv[1]
    _, recipe = resolve(name, WHOLE[name][1].split())
    with shown(quiet=False) as progress, tempfile.TemporaryDirectory() as folder:
        result = run(recipe, Path(folder) / name, progress=progress, name=name)
        show(result.data, result.readings, Console(width=110))
        (DOCS / f"measured-{name}.md").write_text(kept(name, result), encoding="utf-8")
        figures = {
            axis["figure"]: {key: axis[key] for key in ("before", "after", "status", "change", "bound")}
            for axis in result.data["axes"]
        }
        print(json.dumps({"verdict": result.verdict, "seconds": result.data["seconds"], "figures": figures}))


if __name__ == "__main__":
    main()
