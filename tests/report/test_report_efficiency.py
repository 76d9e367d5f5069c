"""The tables of operations, joules, idealized runtime and the six figures say what the run found."""

from __future__ import annotations

from typing import Any

from report import fixture
from trimtab.report import efficiency
from trimtab.report.folder import Run, figures


def run(**more: Any) -> Run:
    return Run(fixture.result() | more, figures(fixture.readings()))


def texts(row: Any) -> list[str]:
    return [cell.text for cell in row]


def test_operations_by_part_then_by_operator_and_multiply_adds_are_half() -> None:
    table = efficiency.arithmetic(run())
    rows = {row[0].text: row for row in table.rows if len(row) > 1}
    assert [row[0].text for row in table.rows if len(row) == 1] == ["Vision", "Prefill"]
    assert texts(rows["vision"]) == ["vision", "1.00 GFLOP", "1.00 GFLOP", "same", "500 MMAC"]
    assert rows["mm"][2].value == 1.0424e9
    assert rows["mm"][4].value == 1.0424e9 / 2
    assert rows["mm"][3].text == "0.53x"
    assert not efficiency.arithmetic(run(arithmetic={"before": None, "after": None}))


def test_energy_says_who_says_so() -> None:
    said, table = efficiency.energy(run())
    assert "modelled: CPU time at a share of 65 W" in said
    assert "8 words" in said
    rows = {row[0].text: texts(row) for row in table.rows}
    assert rows["Answer energy, batch 1"][1:3] == ["2.40 J", "2.70 J"]
    assert rows["Prefill energy, batch 1"][1:3] == ["770 mJ", "580 mJ"]


def test_the_idealized_runtime_has_both_fits_and_their_queries() -> None:
    rows = {row[0].text: texts(row) for row in efficiency.idealized(run()).rows}
    assert rows["One word more"][1:] == ["4.10 ms", "5.80 ms", "1.4x SLOWER"]
    assert rows["Picture and prompt of 544 tokens"][1:3] == ["58.0 ms", "58.0 ms"]
    assert rows["Energy: prompt of 272 tokens and answers of 8, 32, 128 words, mean"][1:3] == ["9.00 J", "12.2 J"]
    assert not efficiency.idealized(run(efficiency={"idealized": None, "six": None}))


def test_the_six_figures_say_which_side_is_beaten() -> None:
    found = fixture.efficiency()
    rows = {row[0].text: texts(row) for row in efficiency.six(run()).rows}
    assert len(rows) == 8
    assert rows["Compression times quality kept"][1:3] == ["1 x", "3.49 x"]
    assert rows["Words a second"][3] == "0.90x LOWER"
    assert rows["Beaten in all by the other"][1:3] == ["no", "no"]
    found["six"][0] |= {"pareto": False, "dominated_by": "after"}
    found["six"][1] |= {"pareto": None}
    rows = {row[0].text: texts(row) for row in efficiency.six(run(efficiency=found)).rows}
    assert rows["Beaten in all by the other"][1:3] == ["yes", "not known"]


def test_the_tail_and_the_throughput_stand_beside_the_median_and_not_in_the_first_table() -> None:
    from trimtab.report.plots.time import time
    from trimtab.report.tables import before_after

    table = time(run()).table
    row = next(row for row in table.rows if row[0].text == "Decode time per token, batch 8")
    assert texts(row)[1:4] == ["10.1 ms", "13.1 ms", "792 items/s"]
    shown = [row[0].text for row in before_after(run()).rows]
    assert "Prefill activation memory" in shown
    assert not [one for one in shown if "throughput" in one or "p95" in one or "energy" in one]
