"""Law of engines: each says what the artifact says; the arbiter times those that do, remembers, and is asked again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import decoders as small
import pytest
import subjects
import torch
import typer
from typer.testing import CliRunner, Result

from trimtab.cli import look, models
from trimtab.core.errors import BadInput, Refused
from trimtab.engines import arbiter
from trimtab.engines import remembered as engines
from trimtab.engines.arbiter import OURS, TYPICAL, Choice, Trial, arbitrate, pick
from trimtab.engines.base import ENGINES, engine_of
from trimtab.engines.foreign import Foreign
from trimtab.engines.heard import batch_of, likeliest
from trimtab.engines.process import Ended, Process
from trimtab.load.artifact import read
from trimtab.quantize import RTN
from trimtab.runtime import place

IDS = [[5, 9, 30, 12, 7, 44, 8, 21, 33, 6, 14, 50], [9, 8, 7, 6, 5]]
SAYING = ("plan", "library", "torch.compile", "openvino")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIMTAB_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every matrix at 4 bits, sure of its words."""
    folder = tmp_path_factory.mktemp("sure")
    source = subjects.sure(subjects.language, folder / "source", dtype=torch.bfloat16)
    return subjects.trimmed(source, folder / "artifact", lambda name: RTN(bits=4, group_size=32))


@pytest.fixture(scope="module")
def spoken(artifact: Path) -> list[tuple[dict[int, float], list[int]]]:
    """The reference's likeliest words and greedy answer to each of ``IDS``."""
    loaded = read(artifact, lowered=False)
    made = []
    with torch.inference_mode():
        for ids in IDS:
            said = loaded.library.generate(**batch_of(ids), max_new_tokens=12, do_sample=False, eos_token_id=None)
            logits = loaded.library(**batch_of(ids)).logits[0, -1]
            made.append((dict(likeliest(logits, 5)), said[0, len(ids) :].tolist()))
    return made


def form(engine: str, artifact: Path, tmp_path: Path) -> Path:
    if ENGINES[engine].form == "artifact":
        return artifact
    from trimtab.export.deliver import deliver

    return deliver(artifact, ENGINES[engine].form, tmp_path / "form").folder


def process(name: str, path: Path, tmp_path: Path) -> Process:
    return Process([sys.executable, "-m", "trimtab.engines", name, str(path), "2"], tmp_path / "log", limit=100)


@pytest.mark.parametrize("name", SAYING)
def test_an_engine_says_what_the_artifact_says(name: str, artifact: Path, spoken: Any, tmp_path: Path) -> None:
    """In a process of its own; prompts one after another, of which none remembers the other; as many words as are asked
    for."""
    with process(name, form(name, artifact, tmp_path), tmp_path) as session:
        assert session.loaded == {"version": ENGINES[name].version}
        for ids, (known, said) in zip(IDS, spoken, strict=True):
            told = session.ask({"prompt": ids, "words": 12})
            assert told["words"] == said
            assert min(told["first"], told["after"], told["resident"]) > 0
            found = dict(session.ask({"prompt": ids, "likeliest": 5})["words"])
            assert len(found) == 5
            assert max(found, key=found.__getitem__) == said[0]
            assert found[said[0]] == pytest.approx(known[said[0]], abs=0.02)
            assert session.ask({"prompt": ids, "words": 1})["words"] == said[:1]


@pytest.mark.parametrize("name", ["plan", "library", "openvino"])
def test_an_answer_ends_where_it_is_told_to(name: str, artifact: Path, spoken: Any, tmp_path: Path) -> None:
    session = engine_of(name).open_session(form(name, artifact, tmp_path))
    for ids, (_, said) in zip(IDS, spoken, strict=True):
        assert session.answer(ids, 12, {said[3]}).words == said[: said.index(said[3]) + 1]
        assert Foreign(session, {said[3]}).generate(torch.tensor([ids]), 12).tolist() == [
            ids + said[: said.index(said[3]) + 1]
        ]
    with pytest.raises(Refused, match="one text without pictures"):
        Foreign(session, ()).generate(torch.tensor([IDS[1]]), 3, do_sample=True)


def test_llama_cpp_says_what_the_artifact_says(tmp_path: Path) -> None:
    """Of a model whose words GGUF can hold."""
    artifact = small.made(tmp_path / "artifact", "llama")
    loaded = read(artifact, lowered=False)
    session = engine_of("llama.cpp").open_session(form("llama.cpp", artifact, tmp_path))
    with torch.inference_mode():
        for ids in IDS:
            logits = loaded.library(**batch_of(ids)).logits[0, -1]
            known, found = dict(likeliest(logits, len(logits))), dict(session.likeliest(ids, 5))
            said, first, after = session.answer(ids, 6)
            assert len(said) == 6
            assert min(first, after) > 0
            assert said[0] == max(found, key=found.__getitem__)
            assert known[said[0]] > max(known.values()) - 0.05
            assert max(abs(known[word] - value) for word, value in found.items()) < 0.3
    with pytest.raises(Refused, match=r"llama.cpp: .*context"):
        session.answer([5] * 3000, 1)


def typed(*words: str) -> Result:
    app = typer.Typer()
    for room in (look, models):
        room.register(app)
    return CliRunner().invoke(app, list(words))


def trial(engine: str, first: float, word: float, why: str = "") -> Trial:
    return Trial(engine, "1", 404, first, word, why=why)


def test_the_least_seconds_of_an_answer_decide() -> None:
    """Ours may share the work; another engine does all of it; what does not answer does nothing."""
    ours, theirs = [trial("plan", 1.0, 0.01), trial("library", 0.5, 0.05)], trial("openvino", 0.1, 0.02)
    assert pick(ours) == ("library", "plan", 0.5 + TYPICAL * 0.01)
    assert pick([*ours, theirs]) == ("library", "plan", 0.5 + TYPICAL * 0.01)
    assert pick([*ours, trial("llama.cpp", 0.3, 0.01)]) == ("llama.cpp", "llama.cpp", 0.3 + TYPICAL * 0.01)
    assert pick([trial("plan", 0, 0, "no plan"), theirs]) == ("openvino", "openvino", 0.1 + TYPICAL * 0.02)
    assert pick([trial("plan", 0, 0, "no plan")]) is None
    assert pick([trial("openvino", 0.1, 0.05), trial("llama.cpp", 0.5, 0.01)]) == (
        "llama.cpp", "llama.cpp", 0.5 + TYPICAL * 0.01
    )  # fmt: skip


class Wrong:
    """A process whose likeliest words are turned about, or their probabilities."""

    def __init__(self, real: Any, words: bool) -> None:
        self.real, self.words = real, words

    def __enter__(self) -> Any:
        self.process = self.real.__enter__()
        return self

    def __exit__(self, *said: Any) -> None:
        self.real.__exit__(*said)

    @property
    def loaded(self) -> Any:
        return self.process.loaded

    def ask(self, asked: Any) -> Any:
        told = self.process.ask(asked)
        if "likeliest" in asked:
            words, values = zip(*told["words"], strict=True)
            told["words"] = list(zip(words[::-1], values, strict=True) if self.words
                                 else zip(words, [value - 0.2 for value in values], strict=True))  # fmt: skip
        return told


@pytest.mark.parametrize("words", [True, False])
def test_an_engine_that_answers_otherwise_is_not_taken(
    words: bool, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arbiter, "Process", lambda *given, **more: Wrong(Process(*given, **more), words))
    with pytest.raises(
        Refused, match=r"none answers as .*less log probability" if words else r"probabilities are 0\.\d+ off"
    ):
        arbitrate(artifact, ["plan"])


def test_it_is_remembered_and_answers_by_it(
    artifact: Path, spoken: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From the same weights on the same machine; where another engine is the fastest, its export is kept, and the
    artifact answers by that."""
    assert engines.remembered(artifact) is None
    found = engines.timed(artifact, ["plan", "library", "llama.cpp"])
    assert [one.engine for one in found.trials] == ["plan", "library", "llama.cpp"]
    assert [one.why == "" for one in found.trials] == [True, True, False], "letters are no words to GGUF"
    assert {found.prompts, found.words} <= set(OURS)
    assert all(one.first > 0 and one.word > 0 and one.resident > 0 and one.spent > 0 for one in found.trials[:2])
    assert engines.remembered(artifact) == found
    assert not (engines.place_of(artifact) / "form").exists()

    monkeypatch.setattr(arbiter, "pick", lambda trials: ("openvino", "openvino", 1.0))
    engines.timed(artifact, ["plan", "openvino"])
    loaded = engines.open_by(str(artifact))
    assert isinstance(loaded.answers, Foreign)
    ids, (_, said) = IDS[0], spoken[0]
    ended = said[: said.index(2) + 1] if 2 in said else said
    assert loaded.model.generate(torch.tensor([ids]), 12)[0, len(ids) :].tolist() == ended
    assert all(value.is_meta for name, value in loaded.library.state_dict().items() if "proj" in name)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: 77)
        assert engines.remembered(artifact) is None


@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize(("prompts", "words"), [("plan", "plan"), ("library", "plan"), ("library", "library")])
def test_ours_share_the_work_as_remembered(
    prompts: str, words: str, small: bool, artifact: Path, spoken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "keeps_copies", lambda library: small)
    monkeypatch.setattr(engines, "remembered", lambda path: Choice(prompts, words, 1.0, ()))
    loaded = engines.open_by(str(artifact))
    assert (loaded.engine is not None) == (words == "plan")
    assert loaded.engine is None or loaded.engine.prompts == (prompts == "plan")
    for ids, (_, said) in zip(IDS, spoken, strict=True):
        made = loaded.model.generate(**batch_of(ids), max_new_tokens=12, do_sample=False, eos_token_id=None)
        assert made[0, len(ids) :].tolist() == said


def test_a_plan_that_is_asked_for_and_is_not_there_is_refused(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "verify", lambda engine: "layer 0: its answers are off")
    with pytest.raises(Refused, match=r"--engine plan: .* has none: layer 0: its answers are off; accepted: auto, lib"):
        engines.open_by(str(artifact), "plan")
    assert engines.open_by(str(artifact)).engine is None, "by itself it answers without"


def test_what_cannot_be_is_said(artifact: Path, artifacts: Path, sources: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"engine: got 'openvin' .nearest: 'openvino'"):
        arbitrate(artifact, ["openvin"])
    with pytest.raises(BadInput, match=r"engine: got 'lamma.cpp' .nearest: 'llama.cpp'"):
        engines.open_by(str(artifact), "lamma.cpp")
    with pytest.raises(Refused, match="is no artifact"):
        engines.timed(sources / "language")
    with pytest.raises(Refused, match="--engine openvino: it was not the fastest"):
        engines.open_by(str(artifact), "openvino")
    with pytest.raises(Refused, match="openvino: takes no pictures here"):
        arbitrate(artifacts / "seeing", ["openvino"])


def test_a_process_that_ends_or_takes_too_long_says_so(tmp_path: Path) -> None:
    def python(code: str, limit: float | None) -> Process:
        return Process([sys.executable, "-c", code], tmp_path / "log", limit=limit)

    with pytest.raises(Ended, match="no answer within 1 s"), python("import time; time.sleep(60)", 0.6):
        pass
    with pytest.raises(Ended, match="ZeroDivisionError"), python("1 / 0", None):
        pass
    echo = "import sys\nprint('{}', flush=True)\nfor line in sys.stdin: print(line, end='', flush=True)"
    with python(echo, 30) as one:
        assert [one.ask({"a": "x" * 200_000})["a"] == "x" * 200_000, one.ask({"b": 1})] == [True, {"b": 1}]
    with python("print('{}', flush=True)", 30) as one:
        one.process.wait()
        with pytest.raises(Ended):
            one.ask({})


def test_doctor_shows_what_was_found(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trials = (Trial("plan", "1.0", 404, 0.1, 0.01, 0.004, 10**9, 20), Trial("llama.cpp", spent=2, why="not installed"))
    monkeypatch.setattr(engines, "timed", lambda path: Choice("plan", "plan", 0.74, trials))
    shown = typed("doctor", "--engines", str(artifact))
    assert shown.exit_code == 0, shown.output
    for wanted in ("plan 1.0", "100", "10.00", "prompts, words", "not llama.cpp (2 s): not installed", "took 22 s"):
        assert wanted in shown.output
    told = typed("doctor", "--engines", str(artifact), "--json")
    assert '"words": "plan"' in told.stdout.splitlines()[-1]


def test_generate_takes_an_engine(artifact: Path) -> None:
    said = [typed("generate", str(artifact), "abcde", "--engine", name, "--max-new-tokens", "5")
            for name in ("plan", "library", "auto")]  # fmt: skip
    assert [one.exit_code for one in said] == [0, 0, 0], said[0].output
    assert len({one.stdout for one in said}) == 1
