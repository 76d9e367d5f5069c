"""The pass before a mixed step: it changes nothing, weighs errors as they are, and what it gives is what is stored."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from trimtab import anatomy as anatomies
from trimtab.anatomy import tiny
from trimtab.core.errors import Anomaly, BadInput, Infeasible, Refused
from trimtab.core.fit import Site
from trimtab.core.joins import leaves
from trimtab.core.sensitivity import Sensitivity
from trimtab.core.stats import IMAGE, KINDS, TEXT, Gram
from trimtab.core.weight import Quantized, bits
from trimtab.quantize import RTN, Mixed
from trimtab.quantize.allocate import Choice
from trimtab.run import allocate
from trimtab.run.allocate import allotted, said, sense, solved
from trimtab.run.journal import Journal
from trimtab.run.recipe import Recipe
from trimtab.run.trial import Allotted, Trial, weight
from trimtab.run.walk import walk

TARGETS = ["language", "vision", "projector"]
MIXED = {"bits": 8.0, "group_size": 8, "choices": [2, 3, 4]}


def made() -> tuple[Any, dict[str, Tensor]]:
    model, batch = tiny.make("llava")
    return anatomies.of(model), batch


def sensed(anatomy: Any) -> Sensitivity:
    """Numbers that tell every point and kind apart."""
    names = tuple(anatomy.blocks()[index].name for index in anatomy.layers())
    g = torch.Generator().manual_seed(0)
    square = torch.rand(len(names) + 1, len(KINDS), generator=g, dtype=torch.float64) + 0.1
    return Sensitivity(names, square.sqrt(), square, (1,) * len(KINDS))


def inputs(anatomy: Any, batch: dict[str, Tensor]) -> dict[str, list[Tensor]]:
    """What reaches each linear in the library's own forward, tokens and all."""
    found: dict[str, list[Tensor]] = {}
    for name, host in anatomy.linears():
        host.tap = lambda one, x, name=name: found.setdefault(name, []).append(x.detach().double().clone())
    with torch.no_grad():
        anatomy.model(**batch)
    for _, host in anatomy.linears():
        host.tap = None
    return found


def tried(anatomy: Any, batch: dict[str, Tensor], mixed: Mixed) -> dict[str, list[Choice]]:
    found: dict[str, list[Choice]] = {}
    walk(anatomy, [batch], Trial(mixed, sensed(anatomy), found.__setitem__), TARGETS)
    return found


def test_the_pass_changes_nothing_and_names_every_layer() -> None:
    anatomy, batch = made()
    before = {name: host.w for name, host in anatomy.linears()}
    with torch.no_grad():
        answers = anatomy.model(**batch).logits
    found = tried(anatomy, batch, Mixed(bits=4.0, group_size=8))
    with torch.no_grad():
        assert torch.equal(anatomy.model(**batch).logits, answers)
    assert all(host.w is before[name] for name, host in anatomy.linears())
    assert set(found) == {name for name, _ in anatomy.linears() if anatomy.part_of(name) in TARGETS}
    assert all(len(row) == 4 for row in found.values())


def test_a_loss_is_the_error_of_the_layers_own_output_weighed_by_the_gradients_behind_its_block() -> None:
    """In float64, on what the library's forward shows, token by token of its kind."""
    anatomy, batch = made()
    mixed = Mixed(bits=4.0, group_size=8, choices=(2, 4))
    known, seen = sensed(anatomy), inputs(anatomy, batch)
    grams: dict[str, Gram] = {}

    class Look(Trial):
        def __call__(self, w: Any, site: Any) -> Any:
            grams[site.name] = site.gram
            return super().__call__(w, site)

    found: dict[str, list[Choice]] = {}
    walk(anatomy, [batch], Look(mixed, known, found.__setitem__), TARGETS)
    mask = batch["attention_mask"].bool()
    for name, host in anatomy.linears():
        if name not in found:
            continue
        x = torch.cat([one[mask] if one.shape[:2] == mask.shape else one.flatten(0, -2) for one in seen[name]])
        index = known.block(name)
        point = known.square[0 if index is None else min(index + 1, len(known.blocks) - 1)]
        counts = grams[name].seen.double()
        if index is None:
            assert counts.nonzero().flatten().tolist() == [IMAGE]
            assert weight(known, name, grams[name]) == pytest.approx(float(known.square[0, IMAGE]))
        else:
            pictures = int((batch["input_ids"][mask] == anatomy.model.config.image_token_id).sum())
            assert counts[[TEXT, IMAGE]].tolist() == [int(mask.sum()) - pictures, pictures]
        counts, point = counts[[TEXT, IMAGE]], point[[TEXT, IMAGE]]
        mean = (point @ counts / counts.sum()).item()
        for number, choice in zip((2, 4), found[name], strict=True):
            d = host.w.dense().double() - RTN(number, 8)(host.w, Site("", host.w.dense)).dense().double()
            assert choice.loss == pytest.approx(mean / 2 * (x @ d.T).square().sum().item(), rel=2e-3)


@pytest.mark.parametrize("method", ["rtn", "gptq", "awq"])
@pytest.mark.parametrize("budget", [{"bits": 8.7}, {"budget": "0.5x"}])
def test_what_is_stored_is_what_was_given_and_within_the_budget_to_the_bit(method: Any, budget: dict) -> None:
    anatomy, batch = made()
    mixed = Mixed(**budget, method=method, group_size=8, symmetric=True)
    found = tried(anatomy, batch, mixed)
    hosts = dict(anatomy.linears())
    weights = sum(math.prod(hosts[name].w.shape) for name in found)
    row = solved(mixed, found, weights)
    walk(anatomy, [batch], Allotted(mixed, row["bits"]), TARGETS)
    for name, number in row["bits"].items():
        (q,) = (leaf for leaf in leaves(hosts[name].w) if isinstance(leaf, Quantized))
        assert q.bits == number
    assert sum(bits(hosts[name].w) for name in found) == row["stored_bits"] <= row["most_bits"]
    assert row["most_bits"] == math.floor(weights * budget.get("bits", 8.0))
    assert len(set(row["bits"].values())) > 1
    assert row["loss"] <= row["equal"]["loss"]
    assert row["equal"]["stored_bits"] <= row["most_bits"]
    losses = (found[name][mixed.choices.index(number)].loss for name, number in row["bits"].items())
    assert row["loss"] == pytest.approx(sum(losses))


def fake(anatomy: Any, folder: Path, steps: list[Any], **calibrate: Any) -> Any:
    recipe = Recipe.parse({"model": "x", "task": {"dataset": "easyvqa"}, "steps": steps, "calibrate": calibrate})
    return SimpleNamespace(loaded=SimpleNamespace(anatomy=anatomy), recipe=recipe, arm=None,
                           journal=Journal(folder), progress=lambda *_: None)  # fmt: skip


def test_a_resumed_run_takes_the_bits_that_were_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    anatomy, batch = made()
    known, measured = sensed(anatomy), []
    monkeypatch.setattr(allocate.sensitivity, "taught", lambda context: iter(()))
    monkeypatch.setattr(allocate.sensitivity, "measure", lambda *_: measured.append(1) or known)
    context = fake(anatomy, tmp_path, [{"mixed": MIXED}])
    (step,) = context.recipe.steps
    mixed = Mixed(bits=8.0, group_size=8, choices=(2, 3, 4))
    first = allotted(context, "step 1 mixed", step, mixed, [batch])
    rows = Journal(tmp_path).ended
    assert rows["step 1 mixed allocation"]["result"]["bits"] == first.bits
    assert Sensitivity.of(rows["sensitivity"]["result"]).blocks == known.blocks
    again = fake(anatomy, tmp_path, [{"mixed": MIXED}])
    monkeypatch.setattr(allocate, "walk", None)
    assert allotted(again, "step 1 mixed", step, mixed, [batch]) == first
    assert measured == [1]
    assert sense(fake(anatomy, tmp_path / "none", [{"rtn": {"bits": 4, "group_size": 8}}])) is None


def test_layers_behind_which_no_gradient_is_are_refused_by_name_before_any_work(tmp_path: Path) -> None:
    anatomy, _ = made()
    for target in ("embedding", "head"):
        context = fake(anatomy, tmp_path, [{"mixed": MIXED | {"targets": ["language", target]}}])
        name = next(n for n, _ in (*anatomy.linears(), *anatomy.embeddings()) if anatomy.part_of(n) == target)
        with pytest.raises(BadInput, match=rf"steps\.0\.mixed: {name}: behind an embedding or a head"):
            sense(context)
    assert not (tmp_path / "journal.jsonl").exists()


def test_a_layer_that_no_sample_reached_is_refused_whatever_is_allowed() -> None:
    anatomy, batch = made()
    words = {key: value for key, value in batch.items() if key != "pixel_values"}
    words["input_ids"] = words["input_ids"].where(words["input_ids"] != anatomy.model.config.image_token_id, 5)
    trial = Trial(Mixed(bits=4.0, group_size=8), sensed(anatomy), lambda *_: None)
    with pytest.raises(Refused, match="no calibration sample reached it"):
        walk(anatomy, [words], trial, TARGETS)
    with pytest.raises(BadInput, match=r"mixed: has no data-free form, which .* needs; put it under ignore"):
        walk(anatomy, [words], trial, TARGETS, unseen="round")


def test_an_error_that_is_no_number_names_its_layer() -> None:
    anatomy, batch = made()
    known = sensed(anatomy)
    known.square[1] = torch.nan
    with pytest.raises(Anomaly, match=r"layers\.0\..* at 2 bits the error of its output is nan"):
        walk(anatomy, [batch], Trial(Mixed(bits=4.0, group_size=8), known, lambda *_: None), ["language"])


def test_a_budget_below_all_is_infeasible_with_the_least_possible(tmp_path: Path) -> None:
    anatomy, batch = made()
    found = tried(anatomy, batch, Mixed(bits=4.0, group_size=8))
    weights = sum(math.prod(dict(anatomy.linears())[name].w.shape) for name in found)
    least = sum(min(choice.bits for choice in row) for row in found.values())
    says = rf"mixed: bits: {int(2.5 * weights):,} \(2.500 a weight\) .* the least possible is {least:,} \(bits: 7"
    with pytest.raises(Infeasible, match=says):
        solved(Mixed(bits=2.5, group_size=8), found, weights)
    with pytest.raises(Infeasible, match=says):
        sense(fake(anatomy, tmp_path, [{"mixed": {"bits": 2.5, "group_size": 8}}]))


def test_it_is_said_in_a_sentence() -> None:
    row = {"bits": {"a": 2, "b": 4, "c": 4}, "weights": 1000, "stored_bits": 3190, "most_bits": 3200, "loss": 3.0,
           "seconds": 0.0, "equal": {"bits": 3, "loss": 4.0, "stored_bits": 3000}}  # fmt: skip
    text = said(row)
    assert text == ("Bits by layer: 1 layers at 2, 2 layers at 4; 3.190 stored for each weight of 3.200 allowed. "
                    "Estimated loss 0.75x of 3 bits for every layer.")  # fmt: skip
    assert said(row | {"equal": None}).endswith("3.200 allowed.")
    assert "allowed. Their products were timed at 2.5 ms." in said(row | {"seconds": 0.0025})
    assert said(None) == ""


def test_every_shape_is_timed_once_and_the_sum_is_kept_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times are made up here: 3 bits cost twice what any other grid does, in proportion to the matrix."""
    anatomy, batch = made()
    hosts = {name: host.w for name, host in anatomy.linears() if anatomy.part_of(name) in TARGETS}
    asked: list[Any] = []

    def made_up(grid: Any, rows: int) -> float:
        asked.append((grid, rows))
        return grid.out * grid.width * (2e-9 if grid.bits == 3 else 1e-9)

    monkeypatch.setattr(allocate, "seconds", made_up)
    mixed = Mixed(bits=8.0, group_size=8, milliseconds=1.0, rows=7)
    times = allocate.timed(mixed, hosts)
    assert len(asked) == len(set(asked)) == 4 * len({tuple(w.shape) for w in hosts.values()})
    assert {rows for _, rows in asked} == {7}
    found = {name: [one._replace(seconds=s) for one, s in zip(row, times[name], strict=True)]
             for name, row in tried(anatomy, batch, mixed).items()}  # fmt: skip
    weights = sum(math.prod(w.shape) for w in hosts.values())
    free = solved(replace(mixed, milliseconds=1e9), found, weights)
    assert 3 in free["bits"].values()
    tight = replace(mixed, milliseconds=weights * 1e-6 * 1.0001)
    row = solved(tight, found, weights)
    assert 3 not in row["bits"].values()
    assert row["loss"] > free["loss"]
    assert row["seconds"] <= tight.milliseconds / 1000 < free["seconds"]
    with pytest.raises(Infeasible, match=r"seconds for .* matrices; the least possible is .* within the bits"):
        solved(replace(mixed, milliseconds=weights * 1e-6 * 0.99), found, weights)
    alone = solved(Mixed(group_size=8, milliseconds=1e9), found, weights)
    assert set(alone["bits"].values()) == {8}, "where bytes are not short the best grid is taken"


def test_a_plan_names_a_budget_that_pays_for_nothing() -> None:
    anatomy, _ = made()
    weights = [host.w for name, host in anatomy.linears() if anatomy.part_of(name) in TARGETS]
    (text,) = allocate.unpaid("steps.0", Mixed(bits=2.5, group_size=8), weights)
    assert text.startswith("steps.0.mixed: bits: ")
    assert allocate.unpaid("steps.0", Mixed(bits=8.5, group_size=8), weights) == []
    assert allocate.unpaid("steps.0", RTN(2, 8), weights) == []
