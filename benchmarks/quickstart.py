"""``make bench-quickstart``: the quickstart on the whole test splits; prints one table and one JSON line.

9,673 easy-VQA questions and 4,000 on collages, before and after; the table is kept in docs/quickstart.md.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from rich.console import Console

from trimtab.cli.progress import shown
from trimtab.report.terminal import show
from trimtab.run.start import resolve, run

WHOLE = ["evaluate.limit=9673", "evaluate.after_step=2000", "evaluate.missing_image=1000", "also.0.limit=4000",
         "measure.repeats=21"]  # fmt: skip


def main() -> None:
    """Run, print the table, then one JSON line with the figures that the documentation quotes."""
    _, recipe = resolve("quickstart", WHOLE)
    with shown(quiet=False) as progress, tempfile.TemporaryDirectory() as folder:
        result = run(recipe, Path(folder) / "quickstart", progress=progress, name="quickstart")
        show(result.data, result.readings, Console(width=110))
        figures = {
            axis["figure"]: {key: axis[key] for key in ("before", "after", "status", "change", "bound")}
            for axis in result.data["axes"]
        }
        print(json.dumps({"verdict": result.verdict, "seconds": result.data["seconds"], "figures": figures}))


if __name__ == "__main__":
    main()
