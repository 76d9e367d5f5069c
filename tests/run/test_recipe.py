"""Recipes round-trip through YAML, and each bad one gives an error that names its key."""

from __future__ import annotations

import re

import pytest
import yaml

from trimtab import robust
from trimtab.core.errors import BadInput
from trimtab.run.amounts import amount
from trimtab.run.recipe import Recipe, override
from trimtab.run.start import ready, resolve

GOOD = {
    "model": "builtin:easyvqa-llava",
    "task": {"type": "vqa", "dataset": "easyvqa"},
    "steps": [{"gptq": {"bits": 4, "group_size": 64, "targets": "language"}}, {"divprune": {"keep": 0.5}}, "rtn"],
    "budget": {"accuracy": {"max_drop": "1pt"}, "weights": {"max": "0.4x"}},
}


def changed(**keys: object) -> dict:
    return {**GOOD, **keys}


def test_a_recipe_reads_back_as_itself() -> None:
    recipe = Recipe.parse(GOOD)
    assert Recipe.read(recipe.dump()) == recipe
    assert recipe.steps[0].targets == ("language",)
    assert recipe.steps[2].method == "rtn"
    assert recipe.budget.amounts()["accuracy"].value == pytest.approx(0.01)


@pytest.mark.parametrize("name", sorted(ready()))
def test_ready_recipes_are_valid_and_read_back(name: str) -> None:
    found, recipe = resolve(name)
    assert found == name
    assert Recipe.read(recipe.dump()) == recipe
    said = ready()[name].read_text(encoding="utf-8").splitlines()[0]
    assert re.fullmatch(r"# .*\.", said), "`trimtab list recipes` shows this line alone"


BAD = [
    (changed(calibration={}), ["calibration", "'calibrate'"]),
    (changed(calibrate={"nsamples": 4}), ["calibrate.nsamples", "'num_samples'"]),
    (changed(calibrate={"num_samples": 0}), ["calibrate.num_samples", "0"]),
    (changed(calibrate={"num_sample": 4}), ["num_sample", "num_samples"]),
    (changed(calibrate={"weigh": "balance"}), ["calibrate.weigh", "'balance'", "'balanced'"]),
    (changed(calibrate={"weighting": "text"}), ["calibrate.weighting", "'weigh'"]),
    (changed(calibrate={"audit": "none"}), ["calibrate.audit", "'none'", "'ablation'"]),
    (changed(calibrate={"weigh": "text"}), ["calibrate.weigh", "'text'", "pooled, balanced", "audit: ablation"]),
    (changed(calibrate={"audit": "ablation"}), ["divprune", "calibrate.audit", "quantize, prune, factorize"]),
    (
        changed(calibrate={"weigh": "balanced"}, steps=["mbq"]),
        ["steps.0.mbq", "calibrate.weigh: pooled", "audit: check"],
    ),
    (changed(calibrate={"audit": "ablation"}, steps=["gptq", "mbq"]), ["steps.1.mbq", "calibrate.audit: check"]),
    (changed(calibrate={"weigh": "balanced"}, steps=["rtn"]), ["calibrate.weigh", "'balanced'", "no step reads"]),
    (changed(calibrate={"weigh": "balanced", "dataset": "text"}), ["calibrate.weigh", "is a text", "pooled"]),
    (
        changed(calibrate={"audit": "ablation"}, steps=["gptq"], evaluate={"after_step": 0}),
        ["evaluate.after_step", "0", "ablation"],
    ),
    (changed(steps=[{"mbq": {"ratio": -1}}]), ["ratio", "-1"]),
    (changed(steps=[]), ["steps"]),
    (changed(steps=[{"gptqq": {}}]), ["gptqq", "gptq"]),
    (changed(steps=[{"gptq": {"wbits": 4}}]), ["wbits", "bits"]),
    (changed(steps=[{"gptq": {"bits": 5}}]), ["bits", "5"]),
    (changed(steps=[{"divprune": {"keep": 0}}]), ["keep", "0"]),
    (changed(steps=[{"divprune": {"ratio": 0.5}}]), ["ratio", "keep"]),
    (changed(steps=[{"gptq": {}, "rtn": {}}]), ["steps", "one method"]),
    (changed(budget={"accuracy": {"max_drop": "1"}}), ["budget.accuracy.max_drop", "'1'", "pt"]),
    (changed(budget={"weights": {"max": "0.4pt"}}), ["budget.weights.max", "0.4pt"]),
    (changed(budget={"speed": {"max": "1x"}}), ["budget.speed"]),
    (changed(budget={"cache": {"max": "0.5pt"}}), ["budget.cache.max", "0.5pt", "0.4mb"]),
    (changed(steps=[{"snapkv": {"max_capacity_prompt": 64}}]), ["max_capacity_prompt", "'capacity'"]),
    (changed(task={"type": "vqa", "dataset": "easyvqqa"}), ["easyvqqa", "easyvqa"]),
    (changed(dtype="int4"), ["dtype", "int4"]),
    (changed(threads=0), ["threads"]),
    (changed(torch_dtype="float32"), ["torch_dtype", "'dtype'"]),
    (changed(evaluate={"missing_image": 300}), ["evaluate.missing_image", "'robust.missing_image'"]),
    (changed(evaluate={"corruptions": ["noise"]}), ["evaluate.corruptions", "'robust.corruptions'"]),
    (changed(evaluate={"robustness": {}}), ["evaluate.robustness", "'robust'"]),
    (changed(evaluate={"robust": {"severity": 3}}), ["evaluate.robust.severity", "'severities'", "missing_image"]),
    (changed(evaluate={"robust": {"severities": [3, 6]}}), ["evaluate.robust.severities.1", "6", "equal to 5"]),
    (changed(evaluate={"robust": {"severities": [0]}}), ["evaluate.robust.severities.0", "0", "equal to 1"]),
    (changed(evaluate={"robust": {"limit": -1}}), ["evaluate.robust.limit", "-1"]),
    (changed(evaluate={"robust": {"missing_image": 300}}), ["evaluate.robust.missing_image", "300", "boolean"]),
    (changed(evaluate={"robust": {"corruptions": ["fog"]}}), ["robust.corruptions", "'fog'", "noise, blur, jpeg"]),
    (changed(evaluate={"robust": {"corruptions": ["gaussian_blur"]}}), ["robust.corruptions", "'blur'"]),
    (changed(evaluate={"robust": {"corruptions": ["rtn"]}}), ["robust.corruptions", "'rtn'", "noise, blur, jpeg"]),
    (
        changed(steps=[{"noise": {"severity": 3}}]),
        ["steps", "'noise' changes no model", "robust: {corruptions: [noise]}"],
    ),
    (changed(steps=["occlusion"]), ["steps", "occlusion", "accepted as a step: rtn"]),
    ({key: value for key, value in GOOD.items() if key != "model"}, ["model", "missing"]),
]


@pytest.mark.parametrize(("bad", "words"), BAD, ids=[" ".join(words[:2]) for _, words in BAD])
def test_a_bad_recipe_is_told_what_is_wrong(bad: dict, words: list[str]) -> None:
    with pytest.raises(BadInput) as caught:
        Recipe.read(yaml.safe_dump(bad))
    for word in words:
        assert word in str(caught.value)


INCOHERENT = [
    ({"budget": {"perplexity": {"max": "1.1x"}}}, r"budget\.perplexity: .*'vqa' is judged by accuracy"),
    (
        {"task": {"dataset": "text"}, "budget": {"accuracy": {"max_drop": "1pt"}}},
        r"budget\.accuracy: .*judged by perplexity",
    ),
    ({"calibrate": {"split": "test"}}, r"calibrate\.split: got 'test', which the task is measured on"),
    (
        {"calibrate": {"dataset": "easyvqa-grid", "split": "test"}, "also": [{"dataset": "easyvqa-grid"}]},
        r"calibrate\.split: got 'test', which also\.0 is measured on",
    ),
    ({"task": {"dataset": "easyvqa", "split": "train"}}, r"calibrate\.split: got 'train'"),
    ({"also": [{"dataset": "easyvqa", "split": "train"}]}, r"also\.0: .*'easyvqa' like an earlier task.*figure"),
    ({"also": [{"data": "a.csv"}, {"data": "b.csv"}]}, r"also\.1: .*'task' like an earlier"),
    (
        {"task": {"type": "caption", "data": "a.csv"}},
        r"task\.type: 'caption' is not measured yet; accepted in a run: vqa",
    ),
]


@pytest.mark.parametrize(("changed", "said"), INCOHERENT, ids=[said for _, said in INCOHERENT])
def test_keys_that_contradict_each_other(changed: dict, said: str) -> None:
    plain = yaml.safe_load(yaml.safe_dump(GOOD)) | {"budget": {}} | changed
    with pytest.raises(BadInput, match=said):
        Recipe.parse(plain)


def test_robustness_is_measured_unless_it_is_not_wanted() -> None:
    found = Recipe.parse(GOOD).evaluate.robust
    assert (found.limit, found.severities, found.missing_image) == (300, (3,), True)
    assert found.corruptions == tuple(robust.METHODS)
    plain = changed(evaluate={"robust": {"limit": 0, "corruptions": [], "severities": [5, 1], "missing_image": False}})
    recipe = Recipe.parse(plain)
    assert recipe.evaluate.robust.severities == (5, 1)
    assert Recipe.read(recipe.dump()) == recipe


def test_two_files_of_ones_own_with_names() -> None:
    also = [{"data": "a.csv"}, {"data": "b.csv", "figure": "abroad"}]
    recipe = Recipe.parse(yaml.safe_load(yaml.safe_dump(GOOD)) | {"also": also})
    assert [task.name for task in recipe.also] == ["task", "abroad"]


def test_no_yaml_and_no_mapping() -> None:
    with pytest.raises(BadInput, match="not YAML"):
        Recipe.read("a: [1")
    with pytest.raises(BadInput, match="mapping"):
        Recipe.read("just text")


def test_settings_reach_into_keys_and_lists() -> None:
    plain = yaml.safe_load(yaml.safe_dump(GOOD))
    override(plain, ["calibrate.num_samples=7", "steps.0.gptq.bits=3", "seed=5"])
    recipe = Recipe.parse(plain)
    assert (recipe.calibrate.num_samples, recipe.steps[0].knobs["bits"], recipe.seed) == (7, 3, 5)


@pytest.mark.parametrize("bad", ["seed", "=3", "model.deep=3", "steps.9.gptq=3", "steps.x.gptq=3"])
def test_bad_settings(bad: str) -> None:
    with pytest.raises(BadInput, match="--set"):
        override(yaml.safe_load(yaml.safe_dump(GOOD)), [bad])


def test_unknown_recipe_has_the_nearest_name(tmp_path) -> None:
    with pytest.raises(BadInput, match="quickstart"):
        resolve("quikstart")
    with pytest.raises(BadInput, match="no file"):
        resolve(str(tmp_path / "missing.yaml"))


def test_amounts() -> None:
    assert amount("160MB", "k", ("mb",)).value == pytest.approx(160e6)
    assert amount(" 2 % ", "k", ("%",)).value == pytest.approx(0.02)
    with pytest.raises(BadInput, match="k: got"):
        amount("-1x", "k", ("x",))
