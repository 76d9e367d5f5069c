"""Operations under a roof."""

from __future__ import annotations

import pytest

from trimtab.core.errors import BadInput
from trimtab.measure.roofline import Operation, Roof, place, seconds


def linear(rows: int, width: int, out: int, bits: int = 16) -> Operation:
    return Operation("linear", "language", 2.0 * rows * width * out, width * out * bits / 8, 2.0 * rows * (width + out))


def test_one_row_is_bound_by_memory_and_many_by_compute_with_the_ridge_between() -> None:
    roof = Roof("toy", {"bfloat16": 100e12}, lambda _: 1e12)  # the ridge: 100 operations for a byte
    one, many = place(linear(1, 4096, 4096), roof), place(linear(4096, 4096, 4096), roof)
    assert one.bound == "memory"
    assert many.bound == "compute"
    assert one.seconds == pytest.approx((2 * 4096**2 + 4 * 4096) / 1e12)
    assert many.seconds == pytest.approx(2 * 4096**3 / 100e12)
    ridge = Operation("ridge", "language", 100.0, 1.0, 0.0)
    assert place(ridge, roof).bound == "compute"
    assert place(Operation("below", "language", 99.0, 1.0, 0.0), roof).bound == "memory"


def test_four_bits_shorten_a_word_almost_fourfold_and_a_prompt_not_at_all() -> None:
    roof = Roof("A100", {"bfloat16": 312e12}, lambda _: 2.039e12)
    words = [place(linear(1, 4096, 4096, bits), roof).seconds for bits in (16, 4)]
    prompts = [place(linear(2048, 4096, 4096, bits), roof).seconds for bits in (16, 4)]
    assert 3.9 < words[0] / words[1] < 4.0
    assert prompts[0] == prompts[1]


def test_every_operation_costs_its_start_and_all_are_summed() -> None:
    roof = Roof("toy", {"float32": 1e9}, lambda _: 1e9, start=1e-3)
    some = [Operation("a", "vision", 1e6, 0.0, 0.0, dtype="float32"), Operation("b", "vision", 0.0, 2e6, 1e6, 1e6)]
    assert seconds(some, Roof("toy", {"float32": 1e9, "bfloat16": 1e9}, roof.bandwidth, 1e-3)) == pytest.approx(
        1e-3 + 1e-3 + 4e-3 + 1e-3
    )
    assert some[0].intensity == float("inf")
    assert some[1].intensity == 0.0


def test_the_bandwidth_is_that_of_what_is_worked_on() -> None:
    roof = Roof("caches", {"bfloat16": 1e15}, lambda size: 4e9 if size < 1e6 else 1e9)
    assert place(Operation("small", "language", 1.0, 5e5, 0.0), roof).seconds == pytest.approx(5e5 / 4e9)
    assert place(Operation("large", "language", 1.0, 5e6, 0.0), roof).seconds == pytest.approx(5e6 / 1e9)


def test_what_has_no_arithmetic_of_a_dtype_computes_in_a_wider_one() -> None:
    roof = Roof("old", {"float32": 1e12, "bfloat16": 4e12}, lambda _: 1e12)
    assert roof.peak("int4") == 4e12
    assert roof.peak("bfloat16") == 4e12
    with pytest.raises(BadInput, match="integers: no arithmetic of float32; it has int8"):
        Roof("integers", {"int8": 1e12}, lambda _: 1e12).peak("float32")
