"""EoRA behind every method that rounds weights alone: less is lost, what stood stays, and it reloads bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hublike import outputs, repository, same
from torch import Tensor

from trimtab import anatomy
from trimtab.anatomy import tiny
from trimtab.core.factors import LowRank
from trimtab.core.fit import Fit
from trimtab.core.joins import Sum
from trimtab.core.sensitivity import Sensitivity
from trimtab.core.stats import KINDS
from trimtab.core.weight import Weight
from trimtab.factorize import EoRA
from trimtab.load import Loaded, artifact, open_source
from trimtab.quantize import AWQ, FP4, GPTQ, MBQ, MRGPTQ, NF4, RTN, FineQuant, QuantEase
from trimtab.run.follow import clashes
from trimtab.run.recipe import Recipe
from trimtab.run.walk import walk

TARGETS = ["language", "projector"]
DECODER = ["language"]  # whose rows 16 divides
FIRST: list[tuple[Fit, list[str]]] = [
    (RTN(3, 8), TARGETS), (FineQuant(3, 8), TARGETS), (GPTQ(3, 8), TARGETS), (GPTQ(2, 8, rotate=16), DECODER),
    (AWQ(3, 8), TARGETS), (QuantEase(2, 8, sweeps=1, outliers=0.02), TARGETS), (MBQ(3, 8, ratio=1.0), TARGETS),
    (NF4(8), TARGETS), (FP4("nvfp4"), DECODER), (MRGPTQ("nvfp4", 16), DECODER),
]  # fmt: skip


def weights(loaded: Loaded, targets: list[str]) -> dict[str, Weight]:
    parts = loaded.anatomy.part_of
    return {name: host.w for name, host in artifact.hosts(loaded.anatomy) if parts(name) in targets}


def apart(found: dict[str, Tensor], wanted: dict[str, Tensor], mask: Tensor) -> float:
    a, b = (one["logits"][mask.bool()].double() for one in (found, wanted))
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize(("first", "targets"), FIRST)
def test_what_was_lost_is_given_back_behind_it_and_reloads_bit_for_bit(
    first: Fit, targets: list[str], tmp_path: Path
) -> None:
    model, batch = repository(tmp_path / "model", "llava", torch.bfloat16)
    held = tiny.batch("llava", model)
    held["pixel_values"] = held["pixel_values"].bfloat16()
    loaded = open_source(tmp_path / "model")
    dense = {name: w.dense().detach().clone() for name, w in weights(loaded, targets).items()}
    wanted = outputs(loaded.model, held)
    alike = torch.ones(2, len(KINDS))  # which mbq asks for, and with its ratio does not use
    known = Sensitivity(("layer",), alike, alike, (1, 1, 0, 0, 0))
    bare = {report.name: report for report in walk(loaded.anatomy, [batch], first, targets, sensitivity=known)}
    was, plain = weights(loaded, targets), apart(outputs(loaded.model, held), wanted, held["attention_mask"])
    given = {r.name: r for r in walk(loaded.anatomy, [batch], EoRA(8), targets, source=dense.__getitem__)}
    assert given.keys() == bare.keys() == dense.keys()
    for name, w in weights(loaded, targets).items():
        assert isinstance(w, Sum)
        stood, added = w
        assert stood is was[name]
        assert isinstance(added, LowRank)
        assert given[name].error < bare[name].error, name
    assert apart(outputs(loaded.model, held), wanted, held["attention_mask"]) < 0.9 * plain

    artifact.write(tmp_path / "out", loaded, {})
    back = artifact.read(tmp_path / "out", lowered=False)
    for name, w in weights(loaded, targets).items():
        again = weights(back, targets)[name]
        assert again.spec() == w.spec()
        assert all(torch.equal(value, again.state_dict()[key]) for key, value in w.state_dict().items())
    assert same(outputs(back.model, held), outputs(loaded.model, held))


@pytest.mark.parametrize("first", sorted({fit.CARD.name for fit, _ in FIRST}))
def test_a_recipe_may_say_so(first: str) -> None:
    knobs: dict[str, Any] = {} if first in ("fp4", "mr_gptq") else {"group_size": 8}
    steps = [{first: knobs | {"targets": TARGETS}}, {"eora": {"r": 8, "targets": TARGETS}}]
    plain = {"model": "x", "task": {"dataset": "easyvqa"}, "steps": steps}
    body = anatomy.of(tiny.make("llava")[0])
    assert list(clashes(body, Recipe.parse(plain).steps)) == []
    first_of_all = list(clashes(body, Recipe.parse(plain | {"steps": steps[::-1]}).steps))
    assert "nothing to make up for" in first_of_all[0]
