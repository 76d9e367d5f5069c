"""A folder of pictures with a table beside it, as a user would have."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

Row = dict[str, str]


@pytest.fixture
def rows() -> list[Row]:
    """24 rows about 12 pictures of 6 patients."""
    return [
        {"scan": f"p{i // 2}.png", "ask": f"is finding {i % 3} there?", "said": "yes" if i % 4 else "no",
         "patient": f"patient {i // 4}"}
        for i in range(24)
    ]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the pictures p0.png to p11.png."""
    for i in range(12):
        Image.new("RGB", (8, 8), (20 * i, 0, 0)).save(tmp_path / f"p{i}.png")
    return tmp_path


@pytest.fixture
def table(folder: Path) -> Callable[[list[Row]], Path]:
    """Writes rows to a CSV file beside the pictures."""

    def write(rows: list[Row], name: str = "table.csv") -> Path:
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return folder / name

    return write
