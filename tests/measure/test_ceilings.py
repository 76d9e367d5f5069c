"""Curves over sizes, and seconds of operations from ceilings that are known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from trimtab import anatomy as anatomies
from trimtab.anatomy import tiny
from trimtab.core.errors import BadInput
from trimtab.measure.ceilings import Attention, Ceilings, Curve, Products
from trimtab.measure.phases import phases, words
from trimtab.measure.predict import library, passing, planned, product
from trimtab.measure.roofline import Operation

FLAT = Curve((1.0,), (1e18,))
FREE = Products((1.0,), (FLAT,))
INSTANT = Attention(FLAT, Curve((1e18,), (0.0,)))
NOTHING = Ceilings(
    reading=FLAT, products={"bfloat16": FREE, "float32": FREE}, attention={"library": INSTANT, "masked": INSTANT},
    elements={"float32": 1e18, "bfloat16": 1e18}, curves={"float32": 1e18}, operator=0.0, host=0.0, call=0.0,
)  # fmt: skip


def linear(rows: int, form: str = "bfloat16", size: int = 64) -> Operation:
    return Operation("x", "language", 2.0 * rows * size * size, 2.0 * size * size, 4.0 * rows * size, rows=rows,
                     shape=(size, size), form=form)  # fmt: skip


def test_a_curve_is_straight_in_logarithms_and_ends_level() -> None:
    curve = Curve((1.0, 100.0), (1.0, 10000.0))
    assert curve.at(10.0) == pytest.approx(100.0)
    assert curve.at(1.0) == 1.0
    assert curve.at(0.5) == 1.0
    assert curve.at(1e9) == 10000.0
    with pytest.raises(BadInput, match="a curve without a point; next: trimtab doctor"):
        Curve((), ()).at(1.0)


def test_products_are_interpolated_by_rows_and_by_size() -> None:
    found = Products((1.0, 16.0), (Curve((64.0, 256.0), (1.0, 4.0)), Curve((64.0, 256.0), (100.0, 400.0))))
    assert found.at(4, (128, 128)) == pytest.approx(20.0)
    assert found.at(4, (32, 512)) == pytest.approx(20.0)
    assert found.at(1000, (64, 64)) == 100.0


def test_attention_beyond_what_was_measured_takes_as_many_times_longer() -> None:
    found = Attention(FLAT, Curve((10.0, 100.0), (1.0, 2.0)))
    assert found.reading(100.0) == 2.0
    assert found.reading(300.0) == pytest.approx(6.0)
    assert found.reading(1.0) == 1.0


def test_every_operator_of_the_library_is_started_once() -> None:
    model, batch = tiny.make("llama")
    operations = phases(anatomies.of(model), batch)["prefill"]
    assert library(operations, replace(NOTHING, operator=1.0)) == pytest.approx(len(operations), rel=1e-6)


def test_a_plan_costs_its_call_its_layers_and_what_passes() -> None:
    model, _ = tiny.make("llama")
    operations = phases(anatomies.of(model), words(8))["decode"]
    known = replace(NOTHING, attention={**NOTHING.attention, "compiled": INSTANT}, plan_call=5.0, plan_layer=1.0)
    layers = model.config.num_hidden_layers
    assert planned(operations, known) == pytest.approx(5.0 + layers, rel=1e-6)
    stream = sum(map(passing, operations))
    assert stream > 0
    assert planned(operations, replace(known, plan_row=1.0)) == pytest.approx(5.0 + layers + stream, rel=1e-6)
    assert all(passing(one) == 0 for one in operations if one.kind in ("product", "attention", "aten.cat"))


def test_few_rows_take_the_longer_of_both_and_many_take_both() -> None:
    known = replace(NOTHING, reading=Curve((1.0,), (1000.0,)), products={"bfloat16": Products((1.0,), (Curve((1.0,), (
        1000.0,)),), stream=500.0), "float32": FREE})  # fmt: skip
    few, many = linear(1), linear(32)
    assert product(few, known, 1.0, False) == pytest.approx(max(few.flops / 1000, few.weights / 500))
    assert product(many, known, 1.0, False) == pytest.approx(many.flops / 1000 + many.weights / 1000)


def test_a_matrix_starts_cold_only_where_the_caches_do_not_hold_the_call() -> None:
    started = replace(FREE, cold=7.0)
    known = replace(NOTHING, reading=Curve((1e3, 1e6), (1e18, 1e17)), products={"bfloat16": started, "float32": FREE})
    assert product(linear(1), known, 1e3, False) < 1.0
    assert product(linear(1), known, 1e6, False) == pytest.approx(7.0)
    assert product(linear(32), known, 1e6, False) < 1.0


def test_our_products_are_taken_where_the_form_has_one() -> None:
    slow = Products((1.0,), (Curve((1.0,), (1.0,)),))
    known = replace(NOTHING, products={**NOTHING.products, "compiled 4 bits": slow})
    coded = linear(1, "4 bits")
    assert product(coded, known, 1.0, True) == pytest.approx(coded.flops)
    assert product(coded, known, 1.0, False) < 1e-9


def test_ceilings_go_through_json_and_others_are_refused() -> None:
    file = Path(__file__).parents[1] / "data" / "ceilings.json"
    row = json.loads(file.read_text(encoding="utf-8"))
    found = Ceilings.parse(row)
    assert json.loads(json.dumps(found.row())) == row
    assert found.compiled
    with pytest.raises(BadInput, match="ceilings: not as this version writes them"):
        Ceilings.parse({**row, "speed": 1})
    with pytest.raises(BadInput, match="'products'"):
        Ceilings.parse({name: value for name, value in row.items() if name != "products"})


@pytest.mark.parametrize(("rates", "times", "said"), [((5e10, 5.5e10, 5e10), 1, True), ((5e10, 9e10, 5e10), 3, False)])
def test_a_machine_that_changes_is_looked_at_again_and_then_called_unsteady(
    rates: tuple[float, ...], times: int, said: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trimtab.measure import limits

    looked: list[int] = []

    def measured(reads: list[dict[int, float]]) -> Ceilings:
        looked.append(len(reads))
        reads += [{1 << 28: rate} for rate in rates[1:]]
        return NOTHING

    monkeypatch.setattr(limits, "_measured", measured)
    monkeypatch.setattr(limits, "read_bandwidth", lambda of: {1 << 28: rates[0]})
    found = limits.ceilings()
    assert len(looked) == times
    assert found.steady is said
    assert Ceilings.parse(found.row()).steady is said
