"""What a run gives back: the verdict, the figures and where everything is. Shows itself in a notebook."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trimtab.core.errors import BadInput
from trimtab.run.journal import whole_lines


@dataclass(frozen=True)
class Result:
    """``data`` is ``result.json``; ``readings`` the rows of ``readings.jsonl``."""

    folder: Path
    data: dict[str, Any]
    readings: list[dict[str, Any]]

    @classmethod
    def open(cls, folder: Path) -> Result:
        """The result of a finished run. Raises BadInput where the run has not ended."""
        path = folder / "result.json"
        if not path.is_file():
            raise BadInput(f"{folder}: no finished run here (no result.json); go on with: trimtab resume {folder}")
        return cls(folder, json.loads(path.read_text(encoding="utf-8")), whole_lines(folder / "readings.jsonl"))

    @property
    def verdict(self) -> str:
        return str(self.data["verdict"])

    @property
    def exit_status(self) -> int:
        return int(self.data["exit_status"])

    @property
    def artifact(self) -> Path:
        return self.folder / "artifact"

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    def reading(self, when: str, name: str) -> float | None:
        """The value of a figure, None where it was not taken."""
        return next((row["value"] for row in self.readings if (row["when"], row["name"]) == (when, name)), None)

    def __repr__(self) -> str:
        axes = "; ".join(f"{axis['axis']}: {axis['change']}" for axis in self.data["axes"])
        return f"Result({self.verdict}, {axes}, report={str(self.report)!r})"

    def _repr_html_(self) -> str:
        cells = ("axis", "status", "change", "text")
        rows = "".join(
            "<tr>" + "".join(f"<td>{html.escape(str(axis[cell]))}</td>" for cell in cells) + "</tr>"
            for axis in self.data["axes"]
        )
        head = "".join(f"<th>{cell}</th>" for cell in cells)
        where = html.escape(str(self.report))
        return f"<p><b>{html.escape(self.verdict)}</b> <code>{where}</code></p><table><tr>{head}</tr>{rows}</table>"
