"""EoRA behind methods whose weights are no plain grid: less is lost, what stood stays, and it reloads bit for bit."""

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
from trimtab.core.weight import Weight
from trimtab.factorize import EoRA
from trimtab.load import Loaded, artifact, open_source
from trimtab.quantize import AWQ, NF4, QuantEase
from trimtab.run.follow import clashes
from trimtab.run.recipe import Recipe
from trimtab.run.walk import walk

TARGETS = ["language", "projector"]
FIRST = [AWQ(3, 8), NF4(8), QuantEase(2, 8, sweeps=1, outliers=0.02)]


def weights(loaded: Loaded) -> dict[str, Weight]:
    parts = loaded.anatomy.part_of
    return {name: host.w for name, host in artifact.hosts(loaded.anatomy) if parts(name) in TARGETS}


def apart(found: dict[str, Tensor], wanted: dict[str, Tensor], mask: Tensor) -> float:
    a, b = (one["logits"][mask.bool()].double() for one in (found, wanted))
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("first", FIRST, ids=lambda fit: fit.CARD.name)
def test_what_was_lost_is_given_back_behind_it_and_reloads_bit_for_bit(first: Fit, tmp_path: Path) -> None:
    model, batch = repository(tmp_path / "model", "llava", torch.bfloat16)
    held = tiny.batch("llava", model)
    held["pixel_values"] = held["pixel_values"].bfloat16()
    loaded = open_source(tmp_path / "model")
    dense = {name: w.dense().detach().clone() for name, w in weights(loaded).items()}
    wanted = outputs(loaded.model, held)
    bare = {report.name: report for report in walk(loaded.anatomy, [batch], first, TARGETS)}
    was, plain = weights(loaded), apart(outputs(loaded.model, held), wanted, held["attention_mask"])
    given = {r.name: r for r in walk(loaded.anatomy, [batch], EoRA(8), TARGETS, source=dense.__getitem__)}
    assert given.keys() == bare.keys() == dense.keys()
    for name, w in weights(loaded).items():
        assert isinstance(w, Sum)
        stood, added = w
        assert stood is was[name]
        assert isinstance(added, LowRank)
        assert given[name].error < bare[name].error, name
    assert apart(outputs(loaded.model, held), wanted, held["attention_mask"]) < 0.9 * plain

    artifact.write(tmp_path / "out", loaded, {})
    back = artifact.read(tmp_path / "out", lowered=False)
    for name, w in weights(loaded).items():
        assert weights(back)[name].spec() == w.spec()
        assert all(torch.equal(value, weights(back)[name].state_dict()[key]) for key, value in w.state_dict().items())
    assert same(outputs(back.model, held), outputs(loaded.model, held))


@pytest.mark.parametrize("first", FIRST, ids=lambda fit: fit.CARD.name)
def test_a_recipe_may_say_so(first: Any) -> None:
    steps = [{first.CARD.name: {"group_size": 8, "targets": TARGETS}}, {"eora": {"r": 8, "targets": TARGETS}}]
    plain = {"model": "x", "task": {"dataset": "easyvqa"}, "steps": steps}
    body = anatomy.of(tiny.make("llava")[0])
    assert list(clashes(body, Recipe.parse(plain).steps)) == []
    first_of_all = list(clashes(body, Recipe.parse(plain | {"steps": steps[::-1]}).steps))
    assert "nothing to make up for" in first_of_all[0]
