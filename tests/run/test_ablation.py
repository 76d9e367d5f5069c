"""An ablation: the decoder fitted once in each arm, all else the same; it goes on when killed; it is never accepted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small import SMALL

from trimtab.run import ablation, quality
from trimtab.run.arms import ARMS
from trimtab.run.folder import Folder
from trimtab.run.result import Result
from trimtab.run.start import resolve, resume, run

SETTINGS = [
    *SMALL, "evaluate.limit=8", "evaluate.after_step=8", "evaluate.robust={limit: 0}", "calibrate.weigh=balanced",
    "calibrate.audit=ablation", "budget={weights: {max: 0.9x}}",
    "steps=[{wanda: {keep: 0.5, targets: [language, projector]}}]",
]  # fmt: skip


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def ended(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """The run, killed before its last arm was measured and resumed; its layers are kept."""
    patch, threads = pytest.MonkeyPatch(), torch.get_num_threads()
    patch.setenv("TRIMTAB_CACHE", str(tmp_path_factory.mktemp("cache")))
    patch.setattr(Folder, "forget", lambda self: None)
    measure = quality.measure

    def killed(context, when, *rest):
        if when == "arm image":
            raise Killed
        return measure(context, when, *rest)

    try:
        _, recipe = resolve("quickstart", [*SETTINGS, f"model={model_folder}"])
        folder = tmp_path_factory.mktemp("runs") / "ablation"
        patch.setattr(ablation.quality, "measure", killed)
        with pytest.raises(Killed):
            run(recipe, folder)
        patch.setattr(ablation.quality, "measure", measure)
        yield resume(folder)
    finally:
        torch.set_num_threads(threads)
        patch.undo()


def layers(folder: Path, arm: str) -> list[dict[str, torch.Tensor]]:
    where = folder / "state" / ("step-1" if arm == "balanced" else f"arm-{arm}/step-1")
    return [load_file(path) for path in sorted(where.glob("*.safetensors"))]


def test_arms_differ_in_the_decoder_alone(ended: Result) -> None:
    own = layers(ended.folder, "balanced")
    decoder = [unit for unit, stored in enumerate(own) if any("language_model.layers" in key for key in stored)]
    assert len(decoder) == 4
    assert any("multi_modal_projector" in key for stored in own for key in stored), "the projector was fitted"
    for arm in ("pooled", "text", "image"):
        differ = []
        for unit, (mine, theirs) in enumerate(zip(own, layers(ended.folder, arm), strict=True)):
            assert mine.keys() == theirs.keys()
            if any(not torch.equal(value, theirs[key]) for key, value in mine.items()):
                differ.append(unit)
        assert differ == decoder, arm


def test_every_arm_answered_the_same_questions_once(ended: Result) -> None:
    rows = ended.data["arms"]
    assert [row["arm"] for row in rows] == list(ARMS)
    assert [row["own"] for row in rows] == [False, True, False, False]
    assert {row["n"] for row in rows} == {8}
    assert all(row["since_before"]["n"] == 8 for row in rows)
    assert rows[1]["since_own"] is None
    answers = ended.folder / "state" / "answers"
    ids = [[json.loads(line)["id"] for line in (answers / f"{name}-easyvqa.jsonl").read_text().splitlines()]
           for name in ("arm-text", "arm-image", "arm-pooled", "step-1-wanda")]  # fmt: skip
    assert ids[0] == ids[1] == ids[2] == ids[3]
    assert len(set(ids[0])) == 8


def test_it_is_not_accepted_and_says_so_everywhere(ended: Result) -> None:
    assert ended.verdict not in ("ACCEPTED", "INFEASIBLE")
    assert ended.data["exit_status"] != 0
    assert (ended.folder / "report.md").read_text().startswith("**OVERRIDE** calibrate.audit: ablation")
    said = json.loads((ended.artifact / "trimtab.json").read_text())
    assert (said["calibration"]["ablation"], said["calibration"]["weigh"]) == (True, "balanced")
    assert said["notes"] == ["ablation: made to compare ways to calibrate; never accepted"]
    assert "**ABLATION**" in (ended.artifact / "README.md").read_text()
    assert "## Ways to calibrate" in (ended.folder / "report.md").read_text()


def test_the_weights_are_those_of_the_one_estimate(ended: Result) -> None:
    stages = [json.loads(line) for line in (ended.folder / "journal.jsonl").read_text().splitlines()]
    (found,) = [row["result"] for row in stages if row["stage"] == "sensitivity"]
    assert [row["block"] for row in ended.data["weighing"]] == found["blocks"]
    for index, row in enumerate(ended.data["weighing"]):
        text, image = found["absolute"][min(index + 1, len(found["blocks"]) - 1)][:2]
        assert row["ratio"] == pytest.approx(image / text)
        assert row["ratio"] > 0
    order = [row["stage"] for row in stages]
    assert order.index("audit") < order.index("sensitivity") < order.index("step 1 wanda") < order.index("arms")
