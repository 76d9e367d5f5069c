"""Plans of whole runs: every figure that will be measured, stages from their parts, a rehearsal before a long run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small import SMALL

from trimtab import methods
from trimtab.core.errors import Anomaly, BadInput
from trimtab.load.blank import opened
from trimtab.measure.accelerators import accelerator
from trimtab.run import rehearsal, start
from trimtab.run.fitcost import FitCost, fit_cost, solve
from trimtab.run.forecast import Forecast
from trimtab.run.limits import VARIABLE, limits, read
from trimtab.run.plan import plan, show
from trimtab.run.prompts import Asked, drawn
from trimtab.run.prospect import prospect
from trimtab.run.start import resolve, run


def told(model_folder: Path, *settings: str) -> Forecast:
    recipe = resolve("quickstart", [*SMALL, f"model={model_folder}", *settings])[1]
    found = opened(str(model_folder))
    return Forecast(recipe, found.anatomy, limits(), prospect(found.anatomy, recipe.steps), found.processor, 8e6, 3e6)


def test_a_run_scores_its_plan(model_folder: Path, tmp_path: Path) -> None:
    recipe = resolve("quickstart", [*SMALL, f"model={model_folder}"])[1]
    result = run(recipe, tmp_path / "run")
    rows = {(row["when"], row["figure"]): row for row in result.data["plan"]}
    for name in ("latency.vision.b1", "latency.prefill.b2", "latency.decode.b1", "flops.prefill", "memory.peak"):
        for when in ("before", "after"):
            assert rows[when, name]["measured"] == result.reading(when, name), (when, name)
    assert rows["run", "memory.peak"]["measured"] > 1e8
    for when in ("before", "after"):
        for part in ("vision", "prefill"):
            counted = rows[when, f"flops.{part}"]
            assert counted["measured"] == counted["predicted"], (when, part)
    spent = {name: row["measured"] for (_, name), row in rows.items() if name.startswith("seconds.")}
    total = spent.pop("seconds.total")
    assert total == pytest.approx(sum(spent.values()))
    assert 0 < spent["seconds.load"] == result.reading("run", "seconds.load")
    assert spent["seconds.step 1 gptq"] == result.data["steps"][0]["seconds"]
    assert all(row["low"] <= row["predicted"] <= row["high"] for row in rows.values())
    weights = rows["after", "bytes.weights"]
    assert weights["predicted"] == pytest.approx(weights["measured"], rel=0.02)
    written = json.loads((tmp_path / "run" / "plan.json").read_text(encoding="utf-8"))
    assert [one["figure"] for one in written["guesses"]] == [row["figure"] for row in result.data["plan"]]
    journal = (tmp_path / "run" / "journal.jsonl").read_text(encoding="utf-8").splitlines()
    stages = [json.loads(line)["stage"] for line in journal]
    assert stages.index("plan") < stages.index("check")
    assert "rehearsal" not in stages
    sides = result.data["roofline"]["sides"]
    assert {(one["when"], one["phase"]) for one in sides} == {
        (when, phase) for when in ("before", "after") for phase in ("vision", "prefill", "decode")
    }
    assert all(one["measured"] and one["rows"] for one in sides)
    assert {row["bound"] for one in sides for row in one["rows"]} <= {"memory", "compute", "start"}


def test_an_evaluation_is_its_batches_and_its_words(model_folder: Path) -> None:
    found = told(model_folder)
    phases = found.phases(found.recipe.task, 4, False)
    how = Asked(count=8, size=4, shown=2.0, said=3.0, prepared=0.5)
    spoken = found.known.generated
    each = (phases["vision"].seconds / 2 + phases["prefill"].seconds + spoken
            + 2 * (phases["decode"].seconds + spoken))  # fmt: skip
    assert found.answers(how, phases) == pytest.approx(2 * each + 4.0)


def test_what_is_asked_more_often_takes_longer(model_folder: Path) -> None:
    few, many = told(model_folder), told(model_folder, "evaluate.limit=240", "calibrate.num_samples=80")
    assert many.stages()["before"] > 3 * few.stages()["before"]
    assert many.calibration() == pytest.approx(10 * few.calibration(), rel=0.35)
    assert few.views(False) > 0
    assert replace(few, opening=2.0).stages()["load"] == 2.0 + 8e6 / few.known.disk
    assert told(model_folder, "evaluate.robust={limit: 0}").views(False) == 0


def test_an_accelerator_runs_the_forward_passes(model_folder: Path) -> None:
    recipe = resolve("quickstart", [*SMALL, f"model={model_folder}"])[1]
    here, there = (plan(recipe, limits(), roof) for roof in (None, accelerator("H200").roof()))
    assert there.machine == "NVIDIA H200"
    times = [[one.predicted for one in found.guesses if one.figure == "latency.prefill.b2"] for found in (here, there)]
    assert sum(times[1]) < sum(times[0])
    assert "prefill.b2" in show(there)


def test_fit_costs_solve_to_what_they_were_made_of() -> None:
    real = FitCost(0.0, 3e-9, 5e-12)
    seconds = [real.of([(size, size)]) for size in (256, 512)]
    assert solve((256, 512), seconds) == pytest.approx(real)
    flat = solve((256, 512), [1.0, 1.0])
    assert min(flat) >= 0
    assert flat.of([(512, 512)]) == pytest.approx(1.0)
    cost = fit_cost(methods.make("rtn", {"bits": 4, "group_size": 64}))
    assert cost is not None
    assert cost.of([(512, 512)]) > 0
    assert fit_cost(methods.make("eora", {"r": 2})) is None


def test_a_config_alone_draws_its_prompts(model_folder: Path) -> None:
    anatomy = opened(str(model_folder)).anatomy
    batch = drawn(anatomy, 2)
    side, patch = anatomy.model.config.vision_config.image_size, anatomy.model.config.vision_config.patch_size
    assert int((batch["input_ids"] == anatomy.model.config.image_token_id).sum()) == 2 * (
        getattr(anatomy.model.config, "image_seq_length", None) or (side // patch) ** 2
    )
    assert batch["pixel_values"].shape == (2, 3, side, side)


def test_a_plan_says_why_it_foresees_no_times(model_folder: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    config = json.loads((model_folder / "config.json").read_text(encoding="utf-8"))
    config["vision_config"].pop("image_size", None)
    config["image_token_id"] = None
    (bare / "config.json").write_text(json.dumps(config), encoding="utf-8")
    recipe = resolve("quickstart", [*SMALL, f"model={bare}"])[1]
    found = plan(recipe, limits())
    assert not found.guesses
    assert "put the processor's files into the folder" in found.unforeseen
    assert found.bytes > 0


def test_ceilings_of_another_machine_are_read_and_others_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "doctor.json"
    file.write_text(json.dumps({"cores": 2, "ceilings": replace(limits(), host=1.0).row()}), encoding="utf-8")
    monkeypatch.setenv(VARIABLE, str(file))
    assert limits().host == 1.0
    file.write_text("{", encoding="utf-8")
    with pytest.raises(BadInput, match=r"accepted: a file of 'trimtab doctor --json'"):
        read(file)


def test_a_rehearsal_is_held_before_a_long_run_alone() -> None:
    assert not rehearsal.wanted({"guesses": []})
    for seconds, held in ((299.0, False), (301.0, True)):
        guess = {"figure": "seconds.total", "predicted": seconds}
        assert rehearsal.wanted({"guesses": [guess]}) is held


def test_a_rehearsal_fits_few_layers_gates_the_whole_and_leaves_nothing(model_folder: Path) -> None:
    torch.set_num_threads(1)
    recipe = resolve("quickstart", [*SMALL, f"model={model_folder}"])[1]
    found = start.rehearse(recipe)
    anatomy = opened(str(model_folder)).anatomy
    names = [name for name, _ in anatomy.linears() if anatomy.part_of(name) in ("language", "vision", "projector")]
    assert 3 <= found["layers"] < len(names)
    assert found["bytes"] > 0


def test_a_rehearsal_that_does_not_reload_stops_the_run(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trimtab.run import deliver

    monkeypatch.setattr(rehearsal, "LONG", 0.0)
    monkeypatch.setattr(deliver, "gate", lambda context: {"passed": False, "reasons": ["a byte flipped"]})
    recipe = resolve("quickstart", [*SMALL, f"model={model_folder}"])[1]
    with pytest.raises(Anomaly, match="does not reload as it was: a byte flipped; nothing was begun"):
        run(recipe, tmp_path / "run")
    assert not (tmp_path / "run" / "state" / "rehearsal").exists()
    stages = (tmp_path / "run" / "journal.jsonl").read_text(encoding="utf-8")
    assert '"check"' not in stages
