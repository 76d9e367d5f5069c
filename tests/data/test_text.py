"""The two built-in texts share no sentence, and windows follow the perplexity protocol."""

from __future__ import annotations

from pathlib import Path
from pydoc_data.topics import topics

import pytest
import torch

from trimtab.core.errors import BadInput
from trimtab.data import text
from trimtab.data.task import Task


def _bytes(value: str, *, add_special_tokens: bool) -> dict[str, list[int]]:
    assert not add_special_tokens
    return {"input_ids": list(value.encode())}


def test_evaluation_is_the_protocols_text() -> None:
    assert text.evaluation() == "\n".join(topics[key] for key in sorted(topics))
    assert len(text.digest(text.evaluation())) == 64


def test_no_eight_words_in_common() -> None:
    def shingles(value: str) -> set[str]:
        words = value.lower().split()
        return {" ".join(words[i : i + 8]) for i in range(len(words) - 7)}

    one, other = text.calibration(), shingles(text.evaluation())
    assert len(one) > 300_000
    assert not any(shingles(paragraph) & other for paragraph in one.split("\n\n"))


def test_windows_are_the_first_tokens() -> None:
    value = text.evaluation()
    found = text.windows(value, _bytes)
    assert found.shape == (24, 512)
    assert found.flatten().tolist() == list(value.encode())[: 24 * 512]
    every = text.windows("ab" * 700, _bytes, None, 64)
    assert torch.equal(every.flatten(), torch.tensor(list(b"ab" * 700)[: 21 * 64]))


def test_windows_where_tokens_are_long() -> None:
    found = text.windows("x" * 40 * 100, lambda value, **_: {"input_ids": [1] * (len(value) // 40)}, 5, 20)
    assert found.shape == (5, 20)


def test_too_short_is_said_with_numbers() -> None:
    with pytest.raises(BadInput, match="100 tokens make 0 windows of 512; 24 are needed"):
        text.windows("a" * 100, _bytes)


def test_own_file_is_cut_in_two(tmp_path: Path) -> None:
    lines = [f"line {i}" for i in range(100)]
    (tmp_path / "t.txt").write_text("\n".join(lines))
    task = Task(type="text", data=str(tmp_path / "t.txt"))
    train, test = text.text_of(task, "train"), text.text_of(task, "test")
    assert (train + test).split("\n") == lines
    assert 40 < len(train.split("\n")) < 60
    assert text.text_of(Task(dataset="text"), "test") == text.evaluation()
    with pytest.raises(BadInput, match=r"no text file .*nearest: 't\.txt'"):
        text.text_of(Task(type="text", data=str(tmp_path / "s.txt")), "test")
    (tmp_path / "bad.txt").write_bytes(b"ok\n\xff")
    with pytest.raises(BadInput, match="file 1, line 2: not UTF-8"):
        text.text_of(Task(type="text", data=str(tmp_path / "bad.txt")), "test")
