"""The example in docs/adding-an-architecture.md is the code that is there."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def added() -> list[tuple[str, str]]:
    """(file, line) of every line that the diff in the page adds."""
    lines = (ROOT / "docs" / "adding-an-architecture.md").read_text().splitlines()
    block = lines[lines.index("```diff") + 1 :]
    found, file = [], ""
    for line in block[: block.index("```")]:
        if line.startswith("+++ b/"):
            file = line.removeprefix("+++ b/")
        elif line.startswith("+") and line[1:].strip():
            found.append((file, line[1:]))
    return found


def test_there_is_an_example_over_several_files() -> None:
    assert len({file for file, _ in added()}) >= 3
    assert len(added()) > 25


@pytest.mark.parametrize("file", sorted({file for file, _ in added()}))
def test_every_line_of_the_example_is_in_the_code(file: str) -> None:
    code = (ROOT / file).read_text().splitlines()
    assert [line for name, line in added() if name == file and line not in code] == []


def test_the_page_is_short() -> None:
    assert len((ROOT / "docs" / "adding-an-architecture.md").read_text().splitlines()) <= 120
