"""The commands in docs/data.md print the hashes that stand beside them."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "data.md"
SECTIONS = {
    part.split("\n", 1)[0]: part for part in PAGE.read_text(encoding="utf-8").split("\n## ")[1:] if "```sh" in part
}


@pytest.mark.parametrize("title", sorted(SECTIONS))
def test_hash_is_what_its_command_prints(title: str) -> None:
    code = re.search(r'```sh\npython -c "\n(.*?)"\n```', SECTIONS[title], re.S)
    assert code
    done = subprocess.run([sys.executable, "-c", code[1]], capture_output=True, text=True, check=True,
                          env={"PYTHONPATH": str(PAGE.parents[1] / "src"), "PYTHONIOENCODING": "utf-8"})  # fmt: skip
    printed = done.stdout.split()
    if title == "text":
        version = re.search(r"With CPython ([\d.]+):", SECTIONS[title])
        assert version
        assert all(len(one) == 64 for one in printed)
        if platform.python_version() != version[1]:
            return  # the texts are those of another Python, as the page says
    assert printed == re.findall(r"`([0-9a-f]{64})`", SECTIONS[title])


def test_every_data_set_and_model_has_its_hash() -> None:
    assert set(SECTIONS) == {"easyvqa", "easyvqa-grid", "text", "Gemma 3 270M", "MiniLM"}
