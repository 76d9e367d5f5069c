"""The tiers: what they choose for a model, that ready recipes say the same, and that each runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from small import SMALL

from trimtab import methods
from trimtab.anatomy import of, tiny
from trimtab.core.errors import BadInput
from trimtab.core.joins import Sum
from trimtab.core.sparse import Masked
from trimtab.core.weight import Quantized, bits
from trimtab.load.artifact import read
from trimtab.load.blank import blank
from trimtab.run import tiers
from trimtab.run.init import steps, write
from trimtab.run.plan import plan
from trimtab.run.recipe import Recipe
from trimtab.run.start import ready, resolve, run
from trimtab.run.walk import walk


@pytest.mark.parametrize("level", tiers.TIERS)
def test_a_ready_recipe_of_the_name_says_what_init_would(level: str) -> None:
    text = ready()[level].read_text(encoding="utf-8")
    recipe = Recipe.read(text)
    assert [one.model_dump() for one in recipe.steps] == steps(blank(recipe.model), level)[:-1]
    assert recipe.budget.weights == {"max": tiers.tier(level).weights}
    assert text.startswith("# "), "a line of why"
    found = plan(recipe)
    assert not found.problems
    assert found.bytes < float(tiers.tier(level).weights.rstrip("x")) * found.bytes16
    assert found.at_most is (level == "fast")


@pytest.mark.parametrize("level", tiers.TIERS)
@pytest.mark.parametrize(("model", "dataset"), [("llava", "easyvqa"), ("llama", "text")])
def test_init_writes_a_recipe_with_its_reason(
    level: str, model: str, dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its quantizers run on that model, whose rows no usual group divides."""
    from trimtab.run import init

    anatomy = of(tiny.make(model)[0])
    monkeypatch.setattr(init, "blank", lambda name: anatomy)
    path, reasons = write("x", None, tmp_path / "recipe.yaml", level)
    text = path.read_text(encoding="utf-8")
    recipe = Recipe.read(text)
    assert recipe.task.dataset == dataset
    said = f"tier {level}: {tiers.TIERS[level].reason}"
    assert said in reasons
    assert f"# {said}\n" in text
    named = {part for step in recipe.steps if step.targets for part in step.targets}
    assert {"language", "embedding", "head"} <= named
    assert ("vision" in named) is (model == "llava")
    batch = tiny.make(model)[1]
    for step in recipe.steps:
        if methods.get(step.method).CARD.family == "quantize":
            walk(anatomy, [batch], methods.make(step.method, step.knobs), step.targets or ())
    assert all(isinstance(host.w, Quantized) for _, host in (*anatomy.linears(), *anatomy.embeddings()))


def test_groups_divide_every_row_or_are_whole_rows() -> None:
    assert tiers.group([640, 2048, 1024]) == 64
    assert tiers.group([640, 2048, 1024], tiers.SMALL) == 32
    assert tiers.group([96, 48]) == 16
    assert tiers.group([24, 64]) == -1


@pytest.mark.parametrize(("level", "method", "size"), [("balanced", "gptq", 64), ("best", "quantease", 32)])
def test_tables_come_first_and_in_the_least_groups(level: str, method: str, size: int) -> None:
    made = tiers.tier(level).steps(["language", "embedding", "head"], [640, 2048])
    assert made == [
        {"gptq": {"bits": 4, "group_size": 16, "targets": ["embedding", "head"]}},
        {method: {"bits": 4, "group_size": size, "targets": ["language"]}},
    ]
    assert len(tiers.tier(level).steps(["language"], [640])) == 1


def test_an_unknown_tier_names_the_nearest() -> None:
    with pytest.raises(
        BadInput, match=r"--tier: got 'ballanced' \(nearest: 'balanced'\); accepted: balanced, best, fast"
    ):
        tiers.tier("ballanced")


def test_the_command_line_takes_a_model_and_a_tier(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from trimtab.cli.runs import init

    init("builtin:easyvqa-llava", None, None, "best", tmp_path / "recipe.yaml", True)
    said = capsys.readouterr()
    assert "tier best: QuantEase" in said.err
    written = json.loads(said.out.splitlines()[-1])["recipe"]
    assert [next(iter(one)) for one in yaml.safe_load(Path(written).read_text())["steps"]] == [
        "gptq", "quantease", "divprune",
    ]  # fmt: skip
    with pytest.raises(BadInput, match="--model: got 'b' beside 'a'"):
        init("a", None, "b", "best", tmp_path / "other.yaml", False)


def test_the_best_runs_to_an_artifact_and_so_do_outliers_beside_its_grid(model_folder: Path, tmp_path: Path) -> None:
    """They are saved, reloaded and counted; what stands on the grid is watched."""
    path, _ = write(str(model_folder), None, tmp_path / "recipe.yaml", "best")
    settings = [*SMALL, "evaluate.limit=2", "evaluate.after_step=0", "evaluate.robust.limit=0",
                "steps.1.quantease.outliers=0.01", "steps.1.quantease.sweeps=1"]  # fmt: skip
    _, recipe = resolve(path, settings)
    result = run(recipe, tmp_path / "run")
    assert result.data["artifact"]["gate"]["passed"]
    last = result.data["steps"][-1]["invariants"]
    assert [(row["name"], row["step"], row["holds"]) for row in last] == [
        ("on_grid", "step 1 gptq", True), ("on_grid", "step 2 quantease", True),
        ("tokens_kept", "step 3 divprune", True),
    ]  # fmt: skip
    anatomy = read(result.artifact, lowered=False).anatomy
    hosts = dict(anatomy.linears()) | dict(anatomy.embeddings())
    fitted = [row for row in result.data["layers"] if row["step"] == "step 2 quantease"]
    assert len(fitted) > 50
    for row in fitted:
        w = hosts[row["name"]].w
        assert isinstance(w, Sum)
        assert [type(leaf) for leaf in w] == [Quantized, Masked]
        grid, few = w
        assert (grid.bits, grid.group_size, few.values.numel()) == (4, 32, round(0.01 * w.shape[0] * w.shape[1]))
        assert row["bits_per_weight"] == bits(w) / (w.shape[0] * w.shape[1])
    weights = result.reading("after", "bytes.weights")
    assert weights is not None
    assert plan(recipe).bytes <= weights < 1.04 * plan(recipe).bytes, "and the file's list of tensors"
