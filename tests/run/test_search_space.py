"""The space of a model, the steps that its points come to, and the way back from a recipe's steps."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from trimtab.core.errors import BadInput
from trimtab.load.sources import open_source
from trimtab.run import check
from trimtab.run.context import Context
from trimtab.run.folder import Folder
from trimtab.run.journal import Journal
from trimtab.run.recipe import Recipe
from trimtab.run.search import starts
from trimtab.run.search.bench import Bench, with_steps
from trimtab.run.search.compose import Shape, fitted, key
from trimtab.run.search.inverse import values
from trimtab.run.search.space import Space, derive, legal, narrowed, read
from trimtab.run.start import resolve

CACHE = "budget.cache={max: 0.6x}"


@pytest.fixture(scope="module")
def bench(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    _, recipe = resolve("quickstart", [f"model={model_folder}", CACHE])
    folder = tmp_path_factory.mktemp("bench")
    return Bench(Context(recipe, "test", Folder(folder), Journal(folder), loaded=open_source(model_folder)))


@pytest.fixture(scope="module")
def space(bench: Bench) -> Space:
    anatomy, shape = (
        bench.context.loaded.anatomy,
        Shape(("vision", "projector", "language", "embedding", "head"), 14, 256),
    )
    return legal(derive(anatomy, bench.context.recipe, shape), bench.refuses)


def test_the_space_has_every_axis_and_only_what_the_model_takes(space: Space, bench: Bench) -> None:
    found = space.row()
    assert found["bits.language"] == [2, 3, 4, 8, 16]
    every = {"bits.vision", "bits.projector", "bits.tables", "sparsity.language", "sparsity.vision", "rank",
             "tokens.keep", "tokens.method", "cache.keep", "cache.bits", "adapter.r"}  # fmt: skip
    assert set(found) >= every
    assert found["group_size"] == [64, 32, 16], "128 does not divide rows of 192"
    assert space.rest()["group_size"] == 64
    assert space.steps(space.rest()) == ()
    wide = derive(bench.context.loaded.anatomy, bench.context.recipe, space.shape)
    assert 128 not in {size for knob in wide.knobs if knob.name == "group_size" for size in knob.choices}


def test_what_nothing_gains_from_is_left_out(bench: Bench) -> None:
    anatomy, recipe = bench.context.loaded.anatomy, bench.context.recipe
    blind = derive(anatomy, recipe, Shape(("language", "head"), 14, 0)).row()
    assert not [name for name in blind if name.startswith("tokens")]
    budget = recipe.budget.model_copy(update={"cache": None})
    without = derive(anatomy, recipe.model_copy(update={"budget": budget}), Shape(("language",), 14, 256)).row()
    assert not [name for name in without if name.startswith("cache")]


def test_a_choice_that_the_model_refuses_is_taken_away(space: Space) -> None:
    def refuses(given):
        return "no" if any(step.method == "fastv" or step.knobs.get("bits") == 3 for step in given) else None

    found = legal(space, refuses).row()
    assert found["tokens.method"] == ["divprune", "tome"]
    assert found["bits.language"] == [2, 4, 8, 16]
    assert found["rank"] == space.row()["rank"]


def test_every_point_is_a_recipe_that_the_model_takes_and_that_reads_back(space: Space, bench: Bench) -> None:
    rng, base = random.Random(4), bench.context.recipe
    methods, parts = set(), set()
    for _ in range(60):
        point = {knob.name: rng.choice(knob.choices) for knob in space.knobs}
        steps = space.steps(point)
        if not steps:
            continue
        recipe = with_steps(base, steps)
        assert Recipe.read(recipe.dump()) == recipe
        context = Context(recipe, "test", bench.context.folder, bench.context.journal, loaded=bench.context.loaded)
        check.fits(context)
        again = values(steps, space)
        if again is not None:
            assert key(space.steps(again)) == key(steps)
        methods |= {step.method for step in steps}
        parts |= {part for step in steps for part in step.targets or ()}
    assert methods == {"gptq", "quantease", "wanda", "eora", "divprune", "tome", "fastv", "snapkv", "kivi", "lora"}
    assert parts == {"vision", "projector", "language", "embedding", "head"}


def test_no_two_steps_work_on_one_part_in_ways_that_undo_each_other(space: Space) -> None:
    point = space.rest() | {"bits.language": 4, "sparsity.language": "2:4", "bits.vision": 4, "rank": 4}
    steps = space.steps(point)
    assert [(step.method, step.targets) for step in steps] == [
        ("gptq", ("vision",)), ("wanda", ("language",)), ("eora", ("vision", "language"))
    ]  # fmt: skip
    assert key(steps) == key(space.steps(point | {"bits.language": 8})), "what is pruned is not rounded"


def test_knobs_with_nothing_to_work_on_make_no_other_point(space: Space) -> None:
    rest = space.rest()
    assert space.steps(rest | {"rank": 8, "adapter.r": 8, "tokens.layer": 1, "method": "quantease"}) == ()
    quarter = rest | {"tokens.keep": 0.25}
    assert key(space.steps(quarter)) == key(space.steps(quarter | {"tokens.layer": 3}))
    fast = quarter | {"tokens.method": "fastv"}
    assert key(space.steps(fast)) != key(space.steps(fast | {"tokens.layer": 3}))
    healed = space.steps(quarter | {"adapter.r": 4})
    assert [step.method for step in healed] == ["divprune", "lora"], "trained on the tokens that are left"
    assert (fitted(healed), fitted(space.steps(quarter))) == (2, 0)


def test_parts_of_the_same_bits_and_groups_are_one_step(space: Space) -> None:
    four = {name: 4 for name in space.rest() if name.startswith("bits.")}
    sizes = {"group_size": 64, "group_size.tables": 64}
    assert len(space.steps(space.rest() | four | sizes)) == 1
    apart = space.steps(space.rest() | four | {"bits.vision": 3, "group_size.tables": 16})
    assert [(step.knobs["bits"], step.knobs["group_size"], step.targets) for step in apart] == [
        (4, 16, ("embedding", "head")), (3, 64, ("vision",)), (4, 64, ("projector", "language"))
    ]  # fmt: skip


def test_the_quickstart_lies_in_the_space(space: Space, bench: Bench) -> None:
    found = values(bench.context.recipe.steps, space)
    assert found is not None
    assert (found["bits.tables"], found["bits.vision"], found["tokens.keep"]) == (4, 4, 0.5)
    assert values(resolve("fast")[1].steps, space) is None, "no knob says finequant"
    other = with_steps(
        bench.context.recipe, (bench.context.recipe.steps[1].model_copy(update={"knobs": {"keep": 0.4}}),)
    )
    assert values(other.steps, space) is None, "0.4 is no choice"


def test_the_references_are_the_recipe_and_two_plain_ones(space: Space, bench: Bench) -> None:
    found = starts.references(bench.context.recipe, "quickstart", space)
    assert [one.reference for one in found] == ["quickstart", starts.FOUR, starts.QUARTER]
    assert [[step.method for step in one.steps] for one in found] == [["gptq", "divprune"], ["gptq"], ["divprune"]]
    assert all(one.knobs is not None for one in found)
    four = with_steps(bench.context.recipe, found[1].steps)
    assert [one.reference for one in starts.references(four, "mine", space)] == ["mine", starts.QUARTER]
    assert all(one.steps for one in starts.likely(space))
    assert len(starts.likely(space)) == len(starts.LIKELY)


def test_a_file_narrows_the_space(space: Space, bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("bits.language: [4, 3]\nadapter.r: [0]\ntokens.keep: [0.4, 1.0]\n", encoding="utf-8")
    found = narrowed(space, read(path), bench.refuses)
    assert found.row()["bits.language"] == [4, 3]
    assert found.rest()["bits.language"] == 4, "nearest to where it does nothing"
    assert found.row()["tokens.keep"] == [0.4, 1.0]
    assert found.row()["bits.vision"] == space.row()["bits.vision"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"bit.language": [4]}, "knob: got 'bit.language' (nearest: 'bits.language')"),
        ({"bits.language": 4}, "bits.language: got 4; accepted: a list"),
        ({"bits.language": []}, "bits.language: got []"),
        ({"bits.language": ["four"]}, "bits.language: got 'four'; accepted: numbers"),
        ({"bits.language": [3, 9]}, "bits.language: got 9; gptq.bits"),
        ({"group_size": [48]}, "group_size: got 48"),
        ({"tokens.keep": [0.5, 2.0]}, "tokens.keep: got 2.0"),
        ({"tokens.method": ["random"]}, "tokens.method: got 'random'"),
        ({"sparsity.language": ["half"]}, "sparsity.language: got 'half'"),
    ],
)
def test_a_bad_space_names_the_knob(space: Space, bench: Bench, given: dict, said: str) -> None:
    with pytest.raises(BadInput) as error:
        narrowed(space, given, bench.refuses)
    assert said in str(error.value)


def test_a_file_that_is_no_space(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    with pytest.raises(BadInput, match="--space"):
        read(path)
    path.write_text("- 4\n", encoding="utf-8")
    with pytest.raises(BadInput, match="got list"):
        read(path)
