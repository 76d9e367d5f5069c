"""What a search tried survives a kill: nothing is tried twice, nothing is lost but the try under way."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import optuna
import psutil
import pytest
import stubbed_search
from stubbed_search import SPACE, outcome, run, starts

from trimtab.core.errors import BadInput
from trimtab.run.recipe import Recipe
from trimtab.run.search import place
from trimtab.run.search.clock import Clock, Pace, expected, reserve
from trimtab.run.search.compose import Shape, key
from trimtab.run.search.place import Wanted
from trimtab.run.search.point import Outcome, Point
from trimtab.run.search.space import Knob, Space
from trimtab.run.search.study import Lines, Tries, quiet

TOTAL = 24


def tried(points: list[Point]) -> list[tuple[int, str, str]]:
    return [(one.number, key(one.steps), one.outcome.state) for one in points]


def test_a_search_that_is_killed_again_and_again_tries_what_an_unbroken_one_tries(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    expected = tried(run(whole, TOTAL))
    for dies_at in (2, 9, 4):  # within a start, then twice where the sampler draws
        assert stubbed_search.die(broken, TOTAL, dies_at) == -signal.SIGKILL
    found = tried(run(broken, TOTAL))
    assert found == expected
    assert len({steps for _, steps, _ in found}) == TOTAL == len(found), "none is repeated"
    assert {state for _, _, state in found} == {"complete", "failed"}


def test_a_search_with_more_room_goes_on(tmp_path: Path) -> None:
    first = tried(run(tmp_path, 10))
    more = tried(run(tmp_path, 14))
    assert more[:10] == first
    assert len(more) == 14


def test_what_is_told_is_what_comes_back(tmp_path: Path) -> None:
    points = run(tmp_path, 12)
    assert [one.reference for one in points[:3]] == ["nf4", "four", None]
    assert points[0].knobs == {}
    for one, start in zip(points, starts(), strict=False):
        assert key(one.steps) == key(start.steps)
    for one in points:
        assert one.outcome == outcome(one.steps)
        assert one.reference == "nf4" or key(SPACE.steps(one.knobs)) == key(one.steps)


def test_a_line_that_a_kill_tore_is_cut_off(tmp_path: Path) -> None:
    first = tried(run(tmp_path, 8))
    journal = tmp_path / "study.jsonl"
    with journal.open("ab") as file:
        file.write(b'{"op_code": 4, "worker')
    assert tried(run(tmp_path, 8)) == first
    assert journal.read_bytes().endswith(b"\n")


def test_optuna_reads_our_journal_by_itself(tmp_path: Path) -> None:
    points = run(tmp_path, 8)
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "study.jsonl"))
    with quiet():
        study = optuna.load_study(study_name="search", storage=optuna.storages.JournalStorage(backend))
    complete = [one for one in points if one.outcome.state == "complete" and one.knobs]
    states = [trial.number for trial in study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
    assert states == [one.number for one in complete]
    trial = study.trials[complete[-1].number]
    assert trial.constraints == {"weights": pytest.approx(trial.values[0] - stubbed_search.LIMIT)}


def test_the_sampler_is_quiet_and_leaves_the_log_as_it_was(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = optuna.logging.get_verbosity()
    run(tmp_path, 6)
    assert optuna.logging.get_verbosity() == before
    assert capfd.readouterr().err == ""


def test_seconds_add_up_over_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("trimtab.run.search.clock.time.monotonic", lambda: now[0])
    clock = Clock(tmp_path)
    now[0] = 104.0
    clock.tick()
    now[0] = 105.5
    assert clock.spent() == pytest.approx(5.5)
    later = Clock(tmp_path)  # 1.5 s were never written down
    now[0] = 106.5
    assert later.spent() == pytest.approx(5.0)


def test_what_is_ahead_is_told_from_what_was(tmp_path: Path) -> None:
    def point(methods: list[str], seconds: float) -> Point:
        steps = tuple(stubbed_search.Step.model_validate(one) for one in methods)
        spent = {"trim": seconds / 2, "time": seconds / 4, "ask": seconds / 4}
        return Point(0, {}, steps, Outcome("complete", "", {}, None, 100, seconds, spent))

    points = [point(["gptq"], 2.0), point(["gptq"], 4.0), point(["gptq", "lora"], 20.0)]
    assert expected(point(["gptq"], 0).steps, points) == 3.0
    assert expected(point(["wanda"], 0).steps, points) == 20.0
    assert expected(point(["wanda"], 0).steps, []) == 0.0
    assert reserve([], Pace(8, 2000, 41), 15) == 0.0
    each = 10.0 + 2000 * (26 / 4 / 3 / 100) + 26 / 4 / 3 * 42 / 16
    assert reserve(points, Pace(8, 2000, 41), 15) == pytest.approx(1.2 * 8 * each)


def wanted(**more: object) -> Wanted:
    recipe = Recipe.parse({"model": "builtin:easyvqa-llava", "task": {"dataset": "easyvqa"}, "steps": ["gptq"]})
    return Wanted(**{"name": "one", "questions": 8, "recipe": recipe} | more)


def test_a_folder_holds_one_search(tmp_path: Path) -> None:
    root = tmp_path / "out"
    place.begin(root, wanted(space={"rank": [0, 4]}))
    assert place.stored(root) == wanted(space={"rank": [0, 4]})
    assert (root / "state").stat().st_mode & 0o777 == 0o700
    place.begin(root, wanted(space={"rank": [0, 4]}))
    with pytest.raises(BadInput, match=r"another search \(it differs in seed, space\)"):
        place.begin(root, wanted(seed=1))
    other = tmp_path / "used"
    other.mkdir()
    (other / "file").touch()
    with pytest.raises(BadInput, match="not empty"):
        place.begin(other, wanted())
    (root / place.RESOLVED).write_text("nothing: here\n", encoding="utf-8")
    with pytest.raises(BadInput, match=r"search\.resolved\.yaml"):
        place.stored(root)
    assert place.stored(other) is None


def test_one_process_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "process").write_text(f"{os.getppid()} {psutil.Process(os.getppid()).create_time()}")
    with pytest.raises(BadInput, match=f"process {os.getppid()} searches"), place.alone(tmp_path):
        pass
    (tmp_path / "process").write_text(f"{os.getppid()} 1.0")  # of a process of that number that was killed
    with place.alone(tmp_path):
        assert (tmp_path / "process").read_text().startswith(f"{os.getpid()} ")
    assert not (tmp_path / "process").exists()


def test_lines_come_back_from_where_they_are_asked_for(tmp_path: Path) -> None:
    lines = Lines(tmp_path / "log")
    lines.append_logs([{"a": 1}, {"b": [1, None]}])
    lines.append_logs([{"c": 0.5}])
    assert list(lines.read_logs(1)) == [{"b": [1, None]}, {"c": 0.5}]
    assert list(Lines(tmp_path / "log").read_logs(0)) == [{"a": 1}, {"b": [1, None]}, {"c": 0.5}]


def test_nothing_new_is_left_in_a_space_of_two(tmp_path: Path) -> None:
    knobs = (Knob("method", ("rtn",), "rtn", False), Knob("group_size", (64,), 64), Knob("bits.language", (4, 16), 16))
    with quiet():
        tries = Tries(
            tmp_path / "study.jsonl", Space(knobs, Shape(("language",), 4, 0)), ["min", "min", "max"], 0, "tpe"
        )
        one = tries.ask()
        assert one is not None
        assert [step.method for step in one.steps] == ["rtn"]
        tries.tell(one, outcome(one.steps), (1.0, 1.0, 1.0), {})
        assert tries.ask() is None, "4 bits were tried, and 16 are the untouched model"
