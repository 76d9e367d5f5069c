"""The lines of docs/measure.md run as they stand, one after the other."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "measure.md"


def test_the_lines_of_the_page_run_as_they_stand() -> None:
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 10
    names: dict[str, object] = {}
    for block in blocks:
        start = text[: text.index(block)].count("\n")
        exec(compile("\n" * start + block, str(PAGE), "exec"), names)
