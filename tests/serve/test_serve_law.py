"""The law of the server: greedily it says, word for word, what ``.model.generate`` says, whoever else asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from serving import Gate, Served, data_url, entry, generated, served, shown, talking, until

from trimtab.cache import KIVI, Sinks, SnapKV
from trimtab.data.sample import Sample
from trimtab.load.loaded import Loaded
from trimtab.serve.rows import rows_of

COUNT = 20
PROMPTS = [[1, 5, 9, 20, 33], [1, 70], [1, *range(10, 40)], [1, 8, 8, 8, 8, 8, 8, 9], [44], [1, 90, 12, 60, 33, 21, 7]]
MODELS: dict[str, tuple[Callable[[], Loaded], str]] = {
    "loop": (talking, "loop"),
    "windows": (lambda: talking("mistral"), "loop"),
    "windows, some layers": (lambda: talking("gemma3"), "loop"),
    "learned positions": (lambda: talking("opt"), "loop"),
    "sinks": (lambda: talking(policies=[Sinks(sinks=2, window=6)]), "loop, in turn"),
    "kivi": (lambda: talking(policies=[KIVI(bits=4, group_size=4, residual=4)]), "loop, in turn"),
    "snapkv": (lambda: talking(policies=[SnapKV(capacity=8, window=4)]), "loop, in turn"),
    "bfloat16": (lambda: talking(dtype=torch.bfloat16), "loop, in turn"),
}


def together(served: Served, id: str, calls: Sequence[Callable[[], Any]]) -> tuple[list[Any], list[int]]:
    """What all get who ask at once, and how many rows each step had."""
    gate = Gate(served, id)
    with ThreadPoolExecutor(len(calls)) as pool:
        asked = [pool.submit(call) for call in calls]
        until(lambda: served.house.desk.inside + served.house.desk.waiting == len(calls))
        gate.open()
        found = [one.result() for one in asked]
    served.house.scheduler.lanes[id].rows = gate.rows
    return found, gate.sizes


@pytest.mark.parametrize("name", MODELS)
def test_alone_and_together_it_says_what_generate_says(name: str) -> None:
    make, how = MODELS[name]
    loaded = make()
    assert rows_of(loaded).how == how
    wanted = [generated(loaded, ids, COUNT) for ids in PROMPTS]
    assert len({tuple(one) for one in wanted}) > 3, "prompts tell models' answers apart"
    with served(entry(loaded)) as one:
        assert [one.said(ids, max_tokens=COUNT) for ids in PROMPTS] == wanted
        calls = [lambda ids=ids: one.said(ids, max_tokens=COUNT) for ids in PROMPTS]
        found, sizes = together(one, "tiny", calls)
        assert found == wanted
        assert max(sizes) == len(PROMPTS), "they did run together"
        found, _ = together(one, "tiny", [lambda ids=ids, n=n: one.said(ids, max_tokens=n)
                                          for n, ids in enumerate(PROMPTS, 3)])  # fmt: skip
        assert found == [words[: n + 3] for n, words in enumerate(wanted)], "some leave before others"


def test_a_plan_says_the_same_whoever_else_asks(
    builtin: Loaded, compiled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of a plan, more of them than share a call."""
    monkeypatch.setattr(builtin.library.generation_config, "eos_token_id", None)
    assert rows_of(builtin).how == "plan"
    ids = builtin.tokenizer("what color is the shape?\n")["input_ids"]
    prompts = [ids, ids[:3], ids[2:], [*ids, *ids], ids[::-1], [1, 7, 9]]
    wanted = [generated(builtin, one, COUNT) for one in prompts]
    with served(entry(builtin)) as one:
        found, sizes = together(one, "tiny", [lambda ids=ids: one.said(ids, max_tokens=COUNT) for ids in prompts])
    assert found == wanted
    assert max(sizes) > 4


@pytest.mark.parametrize("model", ["small", "builtin:easyvqa-llava"])
def test_of_pictures_it_says_what_generate_says(model: str, seeing: Served, asked: list[Sample]) -> None:
    loaded = seeing.house.entries[model].loaded
    pictures = [one.open() for one in asked if one.open is not None]
    wanted = [loaded.ask(one.question, [picture]) for one, picture in zip(asked, pictures, strict=True)]
    kept = 128 if model == "small" else 256

    def ask(number: int) -> str:
        found = seeing.post("/v1/chat/completions", model=model, temperature=0,
                            messages=shown(data_url(pictures[number]), asked[number].question))  # fmt: skip
        assert found["trimtab"]["image_tokens"] == {"seen": 256, "kept": kept}
        assert found["choices"][0]["finish_reason"] == "stop"
        return str(found["choices"][0]["message"]["content"]).strip()

    assert [ask(number) for number in range(len(asked))] == wanted
    found, _ = together(seeing, model, [lambda number=number: ask(number) for number in range(len(asked))])
    assert found == wanted
    assert len(set(wanted)) > 1


def test_what_is_remembered_changes_no_answer(builtin: Loaded, asked: list[Sample]) -> None:
    wanted = builtin.ask(asked[0].question, [asked[0].open()])  # type: ignore[misc]
    builtin.remember()
    try:
        with served(entry(builtin, "m")) as one:
            url = data_url(asked[0].open())  # type: ignore[misc]
            for _ in range(2):
                found = one.post("/v1/chat/completions", temperature=0, messages=shown(url, asked[0].question))
                assert found["choices"][0]["message"]["content"].strip() == wanted
            assert builtin.memory.features.hits == 1
    finally:
        builtin.memory = None


def test_several_pictures_stand_where_they_were_shown(seeing: Served, builtin: Loaded, asked: list[Sample]) -> None:
    one, other = (sample.open() for sample in (asked[0], asked[5]) if sample.open is not None)
    parts = [{"type": "image_url", "image_url": {"url": data_url(image)}} for image in (one, other)]
    text = {"type": "text", "text": asked[0].question}
    found = seeing.post("/v1/chat/completions", model="builtin:easyvqa-llava", temperature=0,
                        messages=[{"role": "user", "content": [*parts, text]}])  # fmt: skip
    assert found["choices"][0]["message"]["content"].strip() == builtin.ask(asked[0].question, [one, other])
    assert found["trimtab"]["image_tokens"] == {"seen": 512, "kept": 512}


def test_the_models_own_rules_hold() -> None:
    """A repetition penalty in its generation config, as in ``generate``."""
    loaded = talking()
    plain = generated(loaded, PROMPTS[2], COUNT)
    loaded.library.generation_config.repetition_penalty = 1.9
    wanted = generated(loaded, PROMPTS[2], COUNT)
    assert wanted != plain
    with served(entry(loaded)) as one:
        assert one.said(PROMPTS[2], max_tokens=COUNT) == wanted


def test_the_answer_says_what_was_done_to_the_model(seeing: Served) -> None:
    found = seeing.post("/v1/completions", model="small", prompt="what", max_tokens=2)
    assert found["trimtab"]["policies"] == {"weights": "4 bits (rtn)", "tokens": "divprune keep 0.5", "cache": ""}
    found = seeing.post("/v1/completions", model="builtin:easyvqa-llava", prompt="what", max_tokens=2)
    assert found["trimtab"]["policies"] == {"weights": "bfloat16", "tokens": "", "cache": ""}
    assert found["trimtab"]["image_tokens"] is None
