"""What a recipe will leave, told from shapes alone, beside what its steps really leave."""

from __future__ import annotations

import pytest
import torch

from trimtab import anatomy as anatomies
from trimtab import methods
from trimtab.anatomy import tiny
from trimtab.anatomy.loop import prefill
from trimtab.anatomy.slots import Slots
from trimtab.core.stats import IMAGE
from trimtab.core.weight import bits
from trimtab.measure.flops import count
from trimtab.measure.phases import phases, words
from trimtab.measure.work import CODES4, CODES8, PRUNED, ROUNDED, pieces
from trimtab.run.prospect import policies, prospect
from trimtab.run.recipe import Step
from trimtab.run.walk import walk

STEPS = {
    "rtn 2": ("rtn", {"bits": 2, "group_size": 16}), "rtn 3": ("rtn", {"bits": 3, "group_size": 16}),
    "rtn 4": ("rtn", {"bits": 4, "group_size": 16}), "rtn 8": ("rtn", {"bits": 8, "group_size": -1}),
    "rtn uneven": ("rtn", {"bits": 4, "group_size": 16, "symmetric": False}), "nf4": ("nf4", {"group_size": 16}),
    "gptq": ("gptq", {"bits": 4, "group_size": 16}), "w8a8": ("w8a8", {}),
    "wanda": ("wanda", {"pattern": "2:4"}), "magnitude": ("magnitude", {"keep": 0.5}), "svd": ("svd", {"r": 4}),
}  # fmt: skip


@pytest.mark.parametrize("name", STEPS)
def test_forms_are_those_that_the_step_leaves(name: str) -> None:
    model, batch = tiny.make("llama")
    model = model.bfloat16()
    anatomy = anatomies.of(model)
    method, knobs = STEPS[name]
    told = prospect(anatomy, [Step(method=method, knobs=knobs, targets=("language",))])
    assert not told.problems
    traced = [one for one in phases(anatomy, words(4), (), told.forms)["decode"] if one.kind == "product"]
    inside = [one for path, ones in told.forms.items() if path in dict(anatomy.linears()) for one in ones]
    assert sum(one.weights for one in traced) == pytest.approx(sum(one.bytes for one in inside))
    walk(anatomy, [batch], methods.make(method, knobs), ["language"])
    for path, host in anatomy.linears():
        real, guess = pieces(host), told.forms[path]
        assert [(one.form, one.shape) for one in guess] == [(one.form, one.shape) for one in real], path
        for one, other in zip(guess, real, strict=True):
            assert one.bytes == pytest.approx(other.bytes, rel=0.02), path  # of a mask: as many bits as entries
        if "language" in anatomy.part_of(path) and name != "magnitude":
            assert told.bits[path] == bits(host.w)


def test_factors_beside_a_matrix_are_added_and_a_tied_table_is_its_head() -> None:
    model, _ = tiny.make("gemma3")
    anatomy = anatomies.of(model.bfloat16())
    assert anatomy.aliases()
    steps = [Step(method="rtn", knobs={"bits": 8, "group_size": 16}, targets=("embedding", "language")),
             Step(method="eora", knobs={"r": 2}, targets=("language",))]  # fmt: skip
    told = prospect(anatomy, steps)
    (table, head), *_ = anatomy.aliases()
    assert told.forms[table] == told.forms[head]
    assert [one.form for one in told.forms[head]] == [CODES8]
    inside = next(name for name, _ in anatomy.linears() if anatomy.part_of(name) == "language")
    assert [one.form for one in told.forms[inside]] == [CODES8, "bfloat16", "bfloat16"]
    assert told.forms[inside][1].shape[0] == told.forms[inside][2].shape[1] == 2
    assert {CODES4, PRUNED, ROUNDED}.isdisjoint(one.form for ones in told.forms.values() for one in ones)


def test_what_does_not_fit_is_a_problem_by_its_layer() -> None:
    anatomy = anatomies.of(tiny.make("llama")[0])
    told = prospect(anatomy, [Step(method="rtn", knobs={"bits": 4, "group_size": 64}, targets=("language",))])
    assert told.problems
    assert told.problems[0].startswith("steps.0.rtn: model.layers.0.self_attn.q_proj: ")


@pytest.mark.parametrize(("name", "knobs"), [("divprune", {"keep": 0.25}), ("fastv", {"keep": 0.5, "layer": 1}),
                                            ("tome", {"keep": 0.5})])  # fmt: skip
def test_as_many_tokens_go_as_will_go(name: str, knobs: dict[str, float]) -> None:
    model, batch = tiny.make("llava")
    anatomy = anatomies.of(model)
    told = prospect(anatomy, [Step(method=name, knobs=knobs)])
    assert len(told.policies) == 1
    with torch.no_grad():
        real = prefill(anatomy, batch, [methods.make(name, knobs).policy()])
        guess = prefill(anatomy, batch, policies(told.policies))
    assert torch.equal(real.kept[0].after, guess.kept[0].after)
    assert int((real.stream.kinds == IMAGE).sum()) == int((guess.stream.kinds == IMAGE).sum())
    image = batch["input_ids"] == model.config.image_token_id
    shown = int(image[0].sum()) * len(batch["pixel_values"]) // int(image.sum())  # pictures of the first row
    batch = {name: value[: shown if name == "pixel_values" else 1] for name, value in batch.items()}
    with torch.no_grad():
        acting = [methods.make(name, knobs).policy()]  # what it does to choose them is in what is foreseen
        counted = count(lambda: prefill(anatomy, batch, acting, Slots(), logits_to_keep=1))
    traced = phases(anatomy, batch, policies(told.policies))
    assert sum(one.flops for phase in ("vision", "prefill") for one in traced[phase]) == counted
