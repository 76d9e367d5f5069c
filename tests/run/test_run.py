"""A whole run on a small setting: what it leaves behind, what it refuses, and that nothing opens a socket."""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
from pathlib import Path

import pytest
import torch
from small import SMALL

import trimtab
from trimtab.anatomy.trimmed import Trimmed
from trimtab.core.errors import Anomaly, BadInput, Refused
from trimtab.core.weight import Quantized
from trimtab.data.hashes import digest_of
from trimtab.data.task import Task
from trimtab.data.tasks import samples
from trimtab.load.artifact import read
from trimtab.run.start import resolve, resume, run


@pytest.fixture(scope="module")
def finished(model_folder: Path, tmp_path_factory: pytest.TempPathFactory):
    """The small run, with every way to a socket closed."""
    patch = pytest.MonkeyPatch()

    def forbidden(*_: object) -> None:
        raise AssertionError("a run opened a socket")

    patch.setattr(socket.socket, "connect", forbidden)
    patch.setattr(socket.socket, "connect_ex", forbidden)
    threads = torch.get_num_threads()
    try:
        _, recipe = resolve("quickstart", [*SMALL, "measure.efficiency=true", f"model={model_folder}"])
        yield run(recipe, tmp_path_factory.mktemp("runs") / "small")
    finally:
        torch.set_num_threads(threads)
        patch.undo()


def test_what_a_run_leaves_behind(finished) -> None:
    folder = finished.folder
    there = {path.name for path in folder.iterdir()}
    assert {"recipe.resolved.yaml", "journal.jsonl", "readings.jsonl", "predictions.jsonl", "run.log", "report.html",
            "report.md", "report.json", "result.json", "artifact"} <= there  # fmt: skip
    assert "state" not in there, "calibration state is deleted on success"
    if os.name != "nt":
        assert stat.S_IMODE((folder / "predictions.jsonl").stat().st_mode) == 0o600
    rows = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    assert len(rows) == 24
    assert set(rows[0]) == {"id", "before", "after", "was_correct", "correct"}


def test_the_figures_hold_together(finished) -> None:
    data = finished.data
    assert finished.verdict in ("ACCEPTED", "REGRESSION", "INCONCLUSIVE", "INEFFECTIVE")
    size = next(axis for axis in data["axes"] if axis["figure"] == "bytes.weights")
    on_disk = (finished.artifact / "trimtab.safetensors").stat().st_size
    assert finished.reading("after", "bytes.weights") == on_disk
    assert size["status"] == "ACCEPTED"
    assert size["bound"] == pytest.approx(on_disk / finished.reading("before", "bytes.weights16"))
    assert finished.reading("after", "flops.prefill") < 0.6 * finished.reading("before", "flops.prefill")
    assert data["flips"]["n"] == 24
    assert [row["view"] for row in data["robust"]] == ["clean", "missing", "noise3", "jpeg3"]
    for row in data["robust"]:
        assert row["flips"]["n"] == 8
        assert row["low"] <= row["change"] <= row["high"]
        assert row["before"] == finished.reading("before", row["figure"])
        assert row["after"] == finished.reading("after", row["figure"])
    assert finished.reading("before", "accuracy.easyvqa.blind_table") is not None
    assert "| noise, severity 3 |" in (finished.folder / "report.md").read_text()
    assert data["audit"]["verdict"] == "passed"
    assert data["audit"]["image_share"] > 0.9
    assert all(row["holds"] for step in data["steps"] for row in step["invariants"])
    assert len(data["layers"]) == 63
    assert data["artifact"]["gate"]["passed"] is True


def test_what_answers_cost_beside_their_seconds(finished) -> None:
    data = finished.data
    for when in ("before", "after"):
        for phase in ("vision", "prefill", "decode"):
            counted = data["arithmetic"][when][phase]
            done = finished.reading(when, f"flops.{phase}")
            assert sum(counted["parts"].values()) == sum(counted["operators"].values()) == done > 0
            assert finished.reading(when, f"memory.activations.{phase}") > 0
            seconds = finished.reading(when, f"latency.{phase}.b2")
            assert finished.reading(when, f"throughput.{phase}.b2") == pytest.approx(2 / seconds)
            assert finished.reading(when, f"latency.{phase}.b2.p95") >= seconds
        assert set(data["arithmetic"][when]["vision"]["parts"]) >= {"vision", "projector"}
        assert {"language", "head"} <= set(data["arithmetic"][when]["prefill"]["parts"])
        for call in ("vision", "prefill", "answer"):
            assert finished.reading(when, f"energy.{call}.b1") > 0
    ends = [finished.reading(when, "memory.activations.prefill") for when in ("before", "after")]
    assert ends[1] < ends[0], "half of the image tokens hold less"
    found = data["efficiency"]
    assert found["energy"]["source"].startswith(("measured", "modelled"))
    right = [finished.reading(when, "accuracy.easyvqa") for when in ("before", "after")]
    assert (found["six"] is None) == (min(right) == 0), "of what answers nothing rightly no quality is kept"
    fits = found["idealized"]["fits"]
    word = finished.reading("before", "latency.decode.b1")
    assert fits["before"]["per_token"] == pytest.approx(word, rel=1.0), "the same word, timed twice"
    assert found["idealized"]["queries"][0][1] == 8
    assert "Idealized runtime" in finished.report.read_text(encoding="utf-8")


def test_the_artifact_is_what_was_measured(finished) -> None:
    loaded = read(finished.artifact)
    assert all(isinstance(host.w, Quantized) for _, host in loaded.anatomy.linears())
    assert [method.CARD.name for method in loaded.policies] == ["divprune"]
    assert isinstance(loaded.model, Trimmed)
    names = {reading.name for reading in loaded.readings}
    assert {"before/accuracy.easyvqa", "after/accuracy.easyvqa", "after/accuracy.easyvqa.noise3"} <= names
    card = (finished.artifact / "README.md").read_text()
    for words in ("## Verdict: ", "| Accuracy, easyvqa |", "| Prefill time, batch 1 |", "| noise, severity 3 |"):
        assert words in card, "filled from the report, timings included"


def test_the_result_says_on_which_data_it_was_measured(finished) -> None:
    """By a hash of what was asked, pictures included, that another run on the same samples gives too."""
    chosen = sorted(samples(Task(dataset="easyvqa"), "test", 24, 0), key=lambda one: one.id)
    assert finished.data["data"] == {"accuracy.easyvqa": digest_of(chosen)}
    assert digest_of(chosen[1:]) != digest_of(chosen)


def test_resuming_a_finished_run_gives_it_back(finished) -> None:
    assert resume(finished.folder).data == finished.data


def test_a_used_folder_is_not_run_into(finished) -> None:
    _, recipe = resolve("quickstart", SMALL)
    with pytest.raises(BadInput, match="trimtab resume"):
        run(recipe, finished.folder)


def test_a_result_shows_itself(finished) -> None:
    assert finished.verdict in finished._repr_html_()
    assert finished.verdict in repr(finished)


def refused(model_folder: Path, tmp_path: Path, *settings: str) -> str:
    _, recipe = resolve("quickstart", [*SMALL, f"model={model_folder}", *settings])
    with pytest.raises(BadInput) as caught:
        run(recipe, tmp_path / "run")
    assert not (tmp_path / "run" / "artifact").exists()
    return str(caught.value)


def test_shapes_are_checked_before_the_work(model_folder: Path, tmp_path: Path) -> None:
    said = refused(model_folder, tmp_path, "steps.0.gptq.group_size=128")
    assert "group_size" in said
    assert "embed_tokens" in said
    assert "nearest" in said


def test_too_little_calibration_is_refused_with_the_shortfall(model_folder: Path, tmp_path: Path) -> None:
    said = refused(model_folder, tmp_path, "calibrate.num_samples=1")
    assert "fewer than its input is wide" in said


def test_blind_calibration_is_refused(model_folder: Path, tmp_path: Path) -> None:
    _, recipe = resolve("quickstart", [*SMALL, f"model={model_folder}", "calibrate.dataset=text"])
    with pytest.raises(Refused, match=r"image tokens are 0\.0%"):
        run(recipe, tmp_path / "run")


def test_a_task_that_does_not_fit_the_model(model_folder: Path, tmp_path: Path) -> None:
    said = refused(model_folder, tmp_path, "task={type: vqa, dataset: easyvqa-grid, split: validation}")
    assert "task.split" in said


def fitting(name: str, **given: object) -> None:
    """``check.fits`` of a recipe on a tiny model."""
    from types import SimpleNamespace

    from trimtab import anatomy
    from trimtab.anatomy import tiny
    from trimtab.run.check import fits
    from trimtab.run.recipe import Recipe

    plain = {"model": "x", "task": {"dataset": "easyvqa"}, "steps": [{"rtn": {"group_size": 8}}]} | given
    loaded = SimpleNamespace(anatomy=anatomy.of(tiny.make(name)[0]), streamed=False)
    fits(SimpleNamespace(recipe=Recipe.parse(plain), loaded=loaded))  # type: ignore[arg-type]


def test_a_task_needs_a_model_that_can_do_it() -> None:
    fitting("llava")
    fitting("llama", task={"dataset": "text"})
    with pytest.raises(BadInput, match=r"task\.type: 'vqa' shows pictures, and 'llama' takes none"):
        fitting("llama")
    with pytest.raises(BadInput, match=r"model: .* 'bert' does not"):
        fitting("bert", task={"dataset": "text"})


def test_token_steps_are_looked_at_before_the_work() -> None:
    with pytest.raises(BadInput, match=r"steps\.0\.divprune: 'llama' has no image tokens"):
        fitting("llama", task={"dataset": "text"}, steps=[{"divprune": {"keep": 0.5}}])
    with pytest.raises(BadInput, match="layer: got 99; accepted: 0 to"):
        fitting("llava", steps=[{"fastv": {"keep": 0.5, "layer": 99}}])
    with pytest.raises(Refused, match="two token policies at layer 0"):
        fitting("llava", steps=[{"divprune": {"keep": 0.5}}, {"divprune": {"keep": 0.5}}])


def test_the_report_says_how_to_load_and_that_is_how(finished, monkeypatch: pytest.MonkeyPatch) -> None:
    from trimtab.data.grid import collage
    from trimtab.evaluate.ask import ask

    monkeypatch.chdir(finished.folder)
    picture = Path("picture.png")
    collage("test", 0).open().save(picture)
    code = finished.folder.joinpath("report.md").read_text().partition("```python\n")[2].partition("```")[0]
    assert "trimtab.load" in code
    space: dict[str, object] = {}
    exec(code.replace("FILE", str(picture)), space)
    assert space["answer"] == ask(read(finished.artifact), "question", [picture])
    picture.unlink()


def test_a_budget_at_batch_one_is_judged_and_none_is_dropped(finished, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from trimtab.run import judge

    assert judge._named(1)["latency.prefill.b1"] == ("speed", "prefill")
    assert judge._named(8)["latency.prefill.b1"] == ("speed", None)
    assert judge._named(8)["latency.prefill.b8"] == ("speed", "prefill")
    monkeypatch.setattr(judge, "_quality", lambda *_: [])
    monkeypatch.setattr(judge, "_costs", lambda *_: [])
    _, recipe = resolve("quickstart")
    journal = SimpleNamespace(ended={"gate": {"result": {"passed": True}}})
    with pytest.raises(Anomaly, match="accuracy, weights, prefill were asked for, but only these were measured: none"):
        judge.judge(SimpleNamespace(recipe=recipe, journal=journal))  # type: ignore[arg-type]


def test_a_pruned_model_reloads_and_its_mask_is_watched(model_folder: Path, tmp_path: Path) -> None:
    from trimtab.core.sparse import Masked
    from trimtab.run.invariants import State, check, masked

    steps = "steps=[{wanda: {keep: 0.5, pattern: '2:4'}}, {divprune: {keep: 0.5}}]"
    settings = [*SMALL, f"model={model_folder}", steps, "evaluate.limit=2", "evaluate.after_step=0",
                "evaluate.robust.limit=0", "budget={weights: {max: 0.7x}}"]  # fmt: skip
    result = run(resolve("quickstart", settings)[1], tmp_path / "run")
    assert result.data["artifact"]["gate"]["passed"]
    last = result.data["steps"][-1]["invariants"]
    assert [(row["name"], row["holds"]) for row in last] == [("masked", True), ("tokens_kept", True)]
    loaded = read(result.artifact)
    hosts = {name: host for name, host in loaded.anatomy.linears() if isinstance(host.w, Masked)}
    assert len(hosts) > 50
    standing = masked(hosts, "step 1 wanda")
    assert {tuple(one.expect["pattern"]) for one in standing} == {(2, 4)}
    name, host = next(iter(hosts.items()))
    moved = host.w.kept()
    moved[0, :4] = True
    host.w = Masked.of(torch.ones(host.w.shape), moved)
    (row,) = check(State(hosts, []), standing)
    assert not row["holds"]
    assert name in row["detail"]


def test_an_artifact_that_does_not_pass_is_set_aside_and_the_report_says_why(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte of the weights flips between the last look and the gate."""
    import trimtab.gate

    whole = trimtab.gate.run_gate

    def damaged(folder: Path, samples: Path) -> object:
        path = folder / "trimtab.safetensors"
        data = bytearray(path.read_bytes())
        data[-100] ^= 64
        path.write_bytes(data)
        return whole(folder, samples)

    monkeypatch.setattr(trimtab.gate, "run_gate", damaged)
    settings = [*SMALL, f"model={model_folder}", "steps=[{rtn: {bits: 8, group_size: 64}}]", "evaluate.limit=4",
                "evaluate.after_step=0", "evaluate.robust.limit=0"]  # fmt: skip
    result = run(resolve("quickstart", settings)[1], tmp_path / "run")
    assert (result.verdict, result.exit_status) == ("ANOMALOUS", 3)
    assert not result.artifact.exists()
    assert (result.folder / "artifact.refused").is_dir()
    said = (result.folder / "report.md").read_text()
    assert "content hash" in said
    assert "artifact.refused" in said
    assert {axis["axis"] for axis in result.data["axes"]} == {"quality", "size"}
    assert resume(result.folder).data == result.data


def test_both_doors_of_the_package() -> None:
    assert callable(trimtab.run)
    assert callable(trimtab.load)
    assert trimtab.quantize.GPTQ(bits=4, group_size=64).bits == 4


@pytest.mark.parametrize("at", [4, 11])
def test_a_full_disk_loses_nothing(
    at: int, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The at-th write finds no space; with space again the run goes on and ends."""
    _, recipe = resolve("quickstart", [*SMALL, f"model={model_folder}"])
    left, sync = [at], os.fsync

    def fsync(handle: int) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(OSError, match="No space left"):
            run(recipe, tmp_path / "run")
    assert not list((tmp_path / "run").rglob("*.part")), "nothing half-written is left"
    result = resume(tmp_path / "run")
    assert result.data["artifact"]["gate"]["passed"]


def test_calibration_without_pictures_rounds_what_they_pass_through_where_that_is_allowed(
    model_folder: Path, tmp_path: Path
) -> None:
    settings = [*SMALL, f"model={model_folder}", "calibrate.dataset=text", "calibrate.allow=text_only",
                "evaluate.limit=2", "evaluate.after_step=0", "evaluate.robust.limit=0"]  # fmt: skip
    _, recipe = resolve("quickstart", settings)
    result = run(recipe, tmp_path / "blind")
    assert result.data["audit"]["verdict"] == "overridden"
    seen = {row["name"]: row["seen"] for row in result.data["layers"]}
    assert set(seen["model.vision_tower.encoder.layers.0.mlp.fc1"].values()) == {0}
    assert seen["model.language_model.layers.0.mlp.gate_proj"]["text"] > 0
    with pytest.raises(Refused, match=r"image tokens are 0\.0%"):
        run(resolve("quickstart", [one for one in settings if "allow" not in one])[1], tmp_path / "refused")


GIVEN_BACK = [
    "steps=[{gptq: {bits: 3, group_size: 64}}, {eora: {r: 4}}, {divprune: {keep: 0.5}}]",
    "evaluate.limit=2", "evaluate.after_step=2", "evaluate.robust.limit=0", "evaluate.reuse=false",
    "budget={weights: {max: 0.9x}}",
]  # fmt: skip


def test_what_was_lost_is_given_back_from_the_source_and_reloads(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Grids go on standing under what is added; stopped within the step, the run goes on to the same artifact."""
    from trimtab.core.factors import LowRank
    from trimtab.core.joins import Sum, leaves
    from trimtab.core.weight import bits
    from trimtab.load.sources import open_source
    from trimtab.run.layers import Layers

    _, recipe = resolve("quickstart", [*SMALL, f"model={model_folder}", *GIVEN_BACK])
    result = run(recipe, tmp_path / "whole")
    assert result.data["artifact"]["gate"]["passed"]
    last = result.data["steps"][-1]["invariants"]
    assert [(row["name"], row["step"], row["holds"]) for row in last] == [
        ("on_grid", "step 1 gptq", True), ("low_rank", "step 2 eora", True), ("tokens_kept", "step 3 divprune", True),
    ]  # fmt: skip
    hosts, original = dict(read(result.artifact, lowered=False).anatomy.linears()), open_source(model_folder).anatomy
    rows = {(row["step"], row["name"]): row for row in result.data["layers"]}
    better = []
    for name, host in original.linears():
        if ("step 2 eora", name) not in rows:
            continue
        w = hosts[name].w
        assert isinstance(w, Sum)
        assert [type(leaf) for leaf in leaves(w)] == [Quantized, LowRank]
        after, before = rows["step 2 eora", name], rows["step 1 gptq", name]
        assert after["bits_per_weight"] == bits(w) / (w.shape[0] * w.shape[1])
        assert after["bits_per_weight"] == pytest.approx(
            before["bits_per_weight"] + 16 * 4 * (1 / w.shape[0] + 1 / w.shape[1])
        )
        if not any(after["seen"].values()):
            gap = (host.w.dense().float() - w.dense().float()).norm() / host.w.dense().float().norm()
            assert after["error"] == pytest.approx(gap.item(), rel=0.02)
        better.append(after["error"] < before["error"])
    assert len(better) > 50
    assert all(better)

    put, left = Layers.put, [3]

    def failing(self: Layers, *given: object) -> None:
        left[0] -= self.folder.name == "step-2"
        if left[0] == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        put(self, *given)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Layers, "put", failing)
        with pytest.raises(OSError, match="No space left"):
            run(recipe, tmp_path / "broken")
    again = resume(tmp_path / "broken")
    assert again.data["artifact"]["content_hash"] == result.data["artifact"]["content_hash"]


def test_a_scaled_model_reloads_and_an_artifact_has_no_originals(model_folder: Path, tmp_path: Path) -> None:
    from trimtab.core.joins import Chain

    settings = [*SMALL, f"model={model_folder}", "evaluate.limit=2", "evaluate.after_step=0",
                "evaluate.robust.limit=0"]  # fmt: skip
    steps = ("steps=[{awq: {bits: 4, group_size: 64, targets: [language, head]}}, "
             "{sparsegpt: {pattern: '2:4', targets: [vision]}}]")  # fmt: skip
    result = run(resolve("quickstart", [*settings, steps, "budget={weights: {max: 0.9x}}"])[1], tmp_path / "run")
    assert result.data["artifact"]["gate"]["passed"]
    assert all(row["holds"] for step in result.data["steps"] for row in step["invariants"])
    hosts = dict(read(result.artifact, lowered=False).anatomy.linears())
    assert isinstance(hosts["model.language_model.layers.0.mlp.up_proj"].w, Chain)
    artifact = [one.replace(str(model_folder), str(result.artifact)) for one in settings]
    _, recipe = resolve("quickstart", [*artifact, "steps=[{eora: {r: 2}}]", "budget={}"])
    with pytest.raises(BadInput, match=r"steps\.0\.eora: .* an artifact no longer has them"):
        run(recipe, tmp_path / "again")


def test_a_plan_foretells_the_bytes_of_what_is_added_and_names_what_cannot_follow() -> None:
    from trimtab.run.plan import plan

    def planned(*steps: dict[str, object]) -> object:
        base = resolve("quickstart")[1].model_dump(mode="json", exclude_none=True)
        return plan(trimtab.Recipe.parse(base | {"steps": list(steps)}))

    grid = {"bits": 4, "group_size": 64, "targets": ["language"]}
    coarse, scaled, more = planned({"gptq": grid}), planned({"awq": grid}), planned(
        {"gptq": grid}, {"eora": {"r": 8, "targets": ["language"]}}
    )  # fmt: skip
    shapes = [host.w.shape for name, host in _linears("builtin:easyvqa-llava") if "language_model.layers" in name]
    assert scaled.bytes - coarse.bytes == sum(2 * width for _, width in shapes)
    assert more.bytes - coarse.bytes == sum(2 * 8 * (out + width) for out, width in shapes)
    lora = {"r": 8, "target_modules": ["language"]}
    assert planned({"gptq": grid}, {"lora": lora}).bytes == more.bytes
    half = {"pattern": "2:4", "targets": ["language"]}
    assert planned({"wanda": half}, {"lora": lora}).bytes == planned({"wanda": half}).bytes
    clash = planned({"gptq": grid}, {"rtn": grid})
    assert len(clash.problems) == 1
    assert "steps.0.gptq established 'on_grid'" in clash.problems[0]


def _linears(name: str) -> list[tuple[str, object]]:
    from trimtab.load.blank import blank

    return list(blank(name, None).linears())


def test_cache_steps_are_run_judged_on_the_cache_and_served(model_folder: Path, tmp_path: Path) -> None:
    steps = "steps=[{tome: {keep: 0.5}}, {snapkv: {capacity: 64, window: 8}}, {kivi: {group_size: 16, residual: 16}}]"
    settings = [*SMALL, f"model={model_folder}", steps, "evaluate.limit=2", "evaluate.after_step=0",
                "evaluate.robust.limit=0", "budget={cache: {max: 0.4x}}"]  # fmt: skip
    result = run(resolve("quickstart", settings)[1], tmp_path / "run")
    assert result.data["artifact"]["gate"]["passed"]
    last = result.data["steps"][-1]["invariants"]
    assert [(row["name"], row["holds"]) for row in last] == [("tokens_kept", True), *[("cache_kept", True)] * 2]
    (axis,) = (row for row in result.data["axes"] if row["budget"] is not None)
    assert (axis["axis"], axis["figure"], axis["status"]) == ("memory", "bytes.cache.b1", "ACCEPTED")
    assert result.verdict == "ACCEPTED"
    for size in ("b1", "b2"):
        before, after = (result.reading(when, f"bytes.cache.{size}") for when in ("before", "after"))
        assert 0.1 * before < after < 0.4 * before
    assert not any("claims to save cache" in note for note in result.data["notes"])
    loaded = read(result.artifact)
    assert [method.CARD.name for method in loaded.policies] == ["tome", "snapkv", "kivi"]
    assert loaded.model.cached
    assert "Cache of keys and values, batch 1" in (result.folder / "report.md").read_text()


def test_a_cache_step_that_saves_nothing_on_the_prompts_is_ineffective() -> None:
    from types import SimpleNamespace

    from trimtab.run import judge
    from trimtab.run.verdict import Axis

    def axis(after: float) -> Axis:
        return Axis("memory", "bytes.cache.b1", "same", None, 100.0, after, "", None, None, "")

    recipe = resolve("quickstart", ["steps=[{snapkv: {capacity: 4096}}]", "budget={cache: {max: 0.5x}}"])[1]
    context: object = SimpleNamespace(recipe=recipe)
    said = "step 1 snapkv claims to save cache, and nothing was saved there: INEFFECTIVE"
    assert judge._ineffective(context, recipe.budget.amounts(), [axis(100.0)]) == ([said], [])  # type: ignore[arg-type]
    assert judge._ineffective(context, {}, [axis(100.0)]) == ([], [said])  # type: ignore[arg-type]
    assert judge._ineffective(context, {}, [axis(99.0)]) == ([], [])  # type: ignore[arg-type]


def test_cache_steps_are_looked_at_before_the_work() -> None:
    fitting("llama", task={"dataset": "text"}, steps=[{"sinks": {}}, {"kivi": {"bits": 8}}])
    with pytest.raises(Refused, match="got 2 cache policies that choose from the prompt; accepted: one"):
        fitting("llava", steps=[{"snapkv": {"capacity": 64}}, {"snapkv": {"capacity": 96}}])


def test_a_policy_that_is_not_what_it_was_breaks_its_invariant() -> None:
    from trimtab.cache import KIVI, SnapKV
    from trimtab.run.invariants import State, check, kept
    from trimtab.tokens import DivPrune

    policies = [DivPrune(0.5).policy(), SnapKV(64).policy(), KIVI().policy()]
    standing = [kept(policy, f"policy {at}", "step") for at, policy in enumerate(policies)]
    assert [row["holds"] for row in check(State({}, policies), standing)] == [True, True]
    changed = [DivPrune(0.6).policy(), SnapKV(65).policy(), KIVI(bits=8).policy()]
    for at, said in enumerate(("kept 154 of 256, not 128", "kept 65 of 4096, not 64", "bits 8 of 4096, not 4")):
        broken = [*policies[:at], changed[at], *policies[at + 1 :]]
        (row,) = (row for row in check(State({}, broken), standing) if not row["holds"])
        assert f"policy {at}: {said}" in row["detail"]
    gone = [row["detail"] for row in check(State({}, policies[1:]), standing)]
    assert all("the policy is gone" in detail for detail in gone)
