"""The end of ``trimtab run`` in a terminal, wide and narrow, and runs side by side."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from report.fixture import BREAKER, VARIANTS, make
from trimtab.core.errors import BadInput
from trimtab.report import terminal
from trimtab.report.compare import compare, show, to_markdown


def printed(run: Path, width: int, **options: Any) -> str:
    out = io.StringIO()
    rows = [json.loads(line) for line in (run / "readings.jsonl").read_text().splitlines()]
    result = json.loads((run / "result.json").read_text())
    terminal.show(result, rows, Console(file=out, width=width, **options))
    return out.getvalue()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_fits_its_width_and_has_no_colour_in_a_file(tmp_path: Path, variant: str, width: int) -> None:
    text = printed(make(tmp_path / "run", variant), width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "\x1b" not in text
    assert "\u2212" not in text


def test_wide_has_everything(tmp_path: Path) -> None:
    text = printed(make(tmp_path / "run"), 120)
    for words in ("Decode time per token, batch 1", "4.12 ms", "5.77 ms", "1.4x SLOWER", "3.96 to 4.33 ms", "timed",
                  "2,000", "ACCEPTED: quickstart", "(budget max 0.4x)", "19 became wrong"):  # fmt: skip
        assert words in text
    last = text.splitlines()
    assert next(i for i, line in enumerate(last) if "Before" in line) < next(
        i for i, line in enumerate(last) if "ACCEPTED: quickstart" in line
    )


def test_narrow_gives_up_how_then_n_then_intervals(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    assert "timed" in printed(run, 100)
    assert "timed" not in printed(run, 90)
    assert "2,000" in printed(run, 90)
    assert " n " not in printed(run, 76).splitlines()[1]
    assert "3.96 to" in printed(run, 76)
    assert "3.96 to" not in printed(run, 70)
    assert "SLOWER" in printed(run, 60)


def test_colour_where_there_is_a_terminal_and_none_where_refused(tmp_path: Path) -> None:
    run = make(tmp_path / "run", "regression")
    assert "\x1b[1;31m" in printed(run, 100, force_terminal=True, color_system="standard")
    refused = printed(run, 100, force_terminal=True, no_color=True)
    assert "\x1b[1;31m" not in refused
    assert "REGRESSION" in refused
    assert "text_only" in refused


def test_markup_in_names_is_text(tmp_path: Path) -> None:
    text = printed(make(tmp_path / "run", "hostile"), 200)
    assert BREAKER in text


def test_runs_side_by_side(tmp_path: Path) -> None:
    table = compare(
        [make(tmp_path / "first"), make(tmp_path / "second", "regression"), make(tmp_path / "third", "missing")]
    )
    assert [column.title for column in table.columns] == ["", "first", "second", "third"]
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}
    names = ["Accuracy, easyvqa", "Accuracy, easyvqa-grid", "Weights", "Prefill arithmetic", "Prefill time, batch 8"]
    assert list(rows) == ["Verdict", "Steps", *names, "Decode time per token, batch 1", "Peak memory",
                          "Answer energy, batch 1"]  # fmt: skip
    assert rows["Verdict"] == ["ACCEPTED", "REGRESSION", "ANOMALOUS"]
    assert rows["Accuracy, easyvqa"] == ["97.0 %", "85.5 %", "not finite"]
    assert rows["Weights"] == ["2.23 MB", "2.23 MB", "not measured"]
    assert "Machines differ: times are shown, and are in no ratio." in table.caption
    text = to_markdown(table)
    assert text.count("\n| ") == 2 + 10
    assert "**not finite**" in text
    out = io.StringIO()
    show(table, console=Console(file=out, width=160))
    assert "REGRESSION" in out.getvalue()


def test_equal_machines_are_not_warned_of(tmp_path: Path) -> None:
    table = compare([make(tmp_path / "first"), make(tmp_path / "second", "inconclusive")])
    assert table.caption == "Figures after trimming; ratios are to the first run."


def test_one_run_is_no_comparison(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="two or more"):
        compare([make(tmp_path / "first")])
