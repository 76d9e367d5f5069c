"""Operations, memory, times and joules of a model's parts, named by part, operator and rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from trimtab import anatomy as anatomies
from trimtab.anatomy import tiny
from trimtab.anatomy.trimmed import Trimmed
from trimtab.core.reading import Reading
from trimtab.measure.flops import count, flops
from trimtab.measure.layers import macs
from trimtab.measure.parts import activations, arithmetic, calls, energies, operators, speeds
from trimtab.measure.vlm import Parts, parts
from trimtab.tokens.divprune import DivPrune


def operations(found: Parts) -> list[Reading]:
    """``flops.vision`` and ``flops.prefill``, each counted by itself."""
    return [flops(f"flops.{name}", call) for name, call in calls(found) if name != "decode"]


@pytest.fixture
def found() -> Parts:
    model, batch = tiny.make("llava")
    return parts(model, batch)


def test_operators_of_a_part_sum_to_its_operations(found: Parts) -> None:
    by_operator: dict[str, float] = {}
    for one in operators(found):
        _, part, operator = one.name.split(".", 2)
        assert operator.startswith("aten.")
        assert (one.unit, one.how) == ("flop", "counted")
        by_operator[part] = by_operator.get(part, 0) + one.value
    whole = {one.name.split(".")[1]: one.value for one in operations(found)}
    assert {part: by_operator[part] for part in whole} == whole
    found.prefill()
    assert by_operator["decode"] == count(found.decode)
    assert by_operator["decode"] < by_operator["prefill"]
    found.prefill()
    assert macs("m", found.decode).value == by_operator["decode"] / 2


@pytest.mark.parametrize("by", ["library", "loop"])
def test_every_operation_is_of_a_part_and_of_an_operator(by: str) -> None:
    """The sums are those of ``operations``; the linears of the language model do what their shapes say, and what no
    module does (the distances by which a policy picks tokens) is the language model's."""
    model, batch = tiny.make("llava")
    anatomy = anatomies.of(model)
    runs = Trimmed(anatomy, [DivPrune(0.5).policy()]) if by == "loop" else model
    found = parts(runs, batch)
    counted = arithmetic(model, found, anatomy.part_of)
    assert list(counted) == ["vision", "prefill", "decode"]
    whole = {one.name.split(".")[1]: one.value for one in operations(parts(runs, batch))}
    for name, row in counted.items():
        assert sum(row["parts"].values()) == sum(row["operators"].values())
        assert whole.get(name, sum(row["parts"].values())) == sum(row["parts"].values())
    tokens = batch["input_ids"].numel()
    by_hand = {part: 2 * tokens * sum(host.w.shape[0] * host.w.shape[1] for name, host in anatomy.linears()
                                      if anatomy.part_of(name) == part) for part in ("language",)}  # fmt: skip
    if by == "library":
        assert counted["prefill"]["parts"]["language"] > by_hand["language"]
    products = sum(n for name, n in counted["prefill"]["operators"].items() if "attention" not in name)
    head = counted["prefill"]["parts"]["head"]
    assert by == "loop" or products >= by_hand["language"] + head
    assert set(counted["vision"]["parts"]) <= {"vision", "projector"}


def test_memory_of_the_parts(found: Parts) -> None:
    memory = {one.name: one.value for one in activations(found)}
    assert list(memory) == [f"memory.activations.{part}" for part in ("vision", "prefill", "decode")]
    found.prefill()
    assert memory["memory.activations.prefill"] > found.cache()  # its cache is among what it makes
    assert memory["memory.activations.decode"] < memory["memory.activations.prefill"]


def test_times_and_throughput_are_by_part_and_rows() -> None:
    """A stub: a picture takes 3 s for a row, a prompt 2 s and one more a row, a token 0.5 s whatever the rows."""
    now = [0.0]

    def make(rows: int) -> Parts:
        def takes(seconds: float) -> Callable[[], object]:
            def run() -> None:
                now[0] += seconds

            return run

        return Parts(takes(3.0 * rows), takes(2.0 + rows), takes(0.5), lambda: 0, rows)

    found = {one.name: one for one in speeds(make, (1, 4), repeats=7, tokens=2, clock=lambda: now[0])}
    assert len(found) == 2 * 3 * 3
    assert [found[f"latency.{part}.b4"].value for part in ("vision", "prefill", "decode")] == [12.0, 6.0, 0.5]
    assert [found[f"throughput.{part}.b4"].value for part in ("vision", "prefill", "decode")] == [1 / 3, 4 / 6, 8.0]
    assert found["throughput.vision.b1"].value == found["throughput.vision.b4"].value
    assert found["latency.prefill.b1.p95"].value == 3.0
    assert all(one.how == "timed" and one.n == 7 for one in found.values())


def test_joules_are_of_each_part_in_turn() -> None:
    said: list[str] = []

    class Ten:
        """Ten joules more for every call that was made meanwhile."""

        how: Any = "estimated"
        source = "modelled: ten"
        joules = 0.0

        def __enter__(self) -> object:
            self.before = len(said)
            return self

        def __exit__(self, *_: object) -> None:
            self.joules = 10.0 * (len(said) - self.before)

    stub = Parts(None, lambda: said.append("prefill"), lambda: said.append("decode"), lambda: 0, 1)
    found = energies(stub, Ten(), seconds=0.0)
    assert {part: one.joules for part, one in found.items()} == {"prefill": 10.0, "decode": 10.0}
    assert said == ["prefill"] * 2 + ["decode"] * 2
    assert found["decode"].source == "modelled: ten"


def test_a_language_model_has_no_pictures() -> None:
    model, batch = tiny.make("llama")
    assert [part for part, _ in calls(parts(model, batch))] == ["prefill", "decode"]
    with torch.no_grad():
        assert len(activations(parts(model, batch))) == 2
