"""The example in docs/adding-a-method.md is the code that is there."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "adding-a-method.md").read_text(encoding="utf-8").splitlines()


def added() -> list[tuple[str, str]]:
    """(file, line) of every line that the page's diff adds."""
    block = PAGE[PAGE.index("```diff") + 1 :]
    found, file = [], ""
    for line in block[: block.index("```")]:
        if line.startswith("+++ b/"):
            file = line.removeprefix("+++ b/")
        elif line.startswith("+"):
            found.append((file, line[1:]))
    return found


def test_the_example_touches_every_place_that_a_method_needs() -> None:
    assert {file for file, _ in added()} == {
        "src/trimtab/tokens/fastv.py",
        "src/trimtab/tokens/__init__.py",
        "tests/laws/test_keep.py",
        "tests/tokens/test_fastv.py",
        "tests/mutants.py",
    }


@pytest.mark.parametrize("file", sorted({file for file, _ in added()}))
def test_every_line_of_the_example_is_in_the_code(file: str) -> None:
    code = (ROOT / file).read_text(encoding="utf-8").splitlines()
    assert [line for name, line in added() if name == file and line not in code] == []
