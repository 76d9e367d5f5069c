"""The journal survives a kill in the middle of a line; a stage that ended is not done again."""

from __future__ import annotations

import pytest

from trimtab.core.errors import BadInput
from trimtab.run.journal import Journal, append, whole_lines


def test_a_stage_is_done_once(tmp_path) -> None:
    calls: list[int] = []

    def work() -> dict:
        calls.append(1)
        return {"figure": 3, "pair": [1, 2]}

    assert Journal(tmp_path).stage("a", work) == {"figure": 3, "pair": [1, 2]}
    again = Journal(tmp_path)
    assert again.stage("a", work) == {"figure": 3, "pair": [1, 2]}
    assert calls == [1]
    assert set(again.seconds()) == {"a"}


def test_a_failed_stage_leaves_no_line(tmp_path) -> None:
    def fails() -> dict:
        raise ValueError("disk")

    with pytest.raises(ValueError, match="disk"):
        Journal(tmp_path).stage("a", fails)
    assert Journal(tmp_path).ended == {}


def test_every_cut_of_the_file_leaves_whole_stages(tmp_path) -> None:
    journal = Journal(tmp_path)
    for name in ("a", "b", "c"):
        journal.stage(name, lambda name=name: {"name": name})
    data = journal.path.read_bytes()
    for cut in range(len(data) + 1):
        journal.path.write_bytes(data[:cut])
        ended = list(Journal(tmp_path).ended)
        assert ended == ["a", "b", "c"][: data[:cut].count(b"\n")]
        append(journal.path, [{"stage": "z", "result": {}}])  # a torn line must not spoil the next one
        assert [row["stage"] for row in whole_lines(journal.path)] == [*ended, "z"]


def test_a_damaged_line_is_named(tmp_path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text('{"stage": "a", "result": {}}\nrubbish\n{"stage": "b", "result": {}}\n')
    with pytest.raises(BadInput, match="line 2"):
        Journal(tmp_path)


def test_figures_that_are_no_numbers_are_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        append(tmp_path / "readings.jsonl", [{"value": float("nan")}])
