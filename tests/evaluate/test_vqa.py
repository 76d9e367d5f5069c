"""Predictions: the same as one question at a time, in order, resumable; the controls without a picture."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import LlamaConfig, LlamaForCausalLM

from trimtab.anatomy import tiny
from trimtab.core.errors import BadInput
from trimtab.data.sample import Sample
from trimtab.data.task import Task
from trimtab.data.tasks import samples
from trimtab.evaluate import vqa
from trimtab.evaluate.blind import predict_blind, table
from trimtab.evaluate.prediction import Prediction
from trimtab.evaluate.prompt import encode, mean_picture, render
from trimtab.evaluate.shared import share
from trimtab.evaluate.vqa import longest, predict


@torch.no_grad()
def _alone(model: Any, processor: Any, one: Sample, tokens: int) -> str:
    """The plain library way, one question, one picture, no padding."""
    assert one.open is not None
    batch = processor(text=f"<image>\n{one.question}\n", images=one.open(), return_tensors="pt")
    ids = batch["input_ids"]
    for _ in range(tokens):
        logits = model(input_ids=ids, pixel_values=batch["pixel_values"], use_cache=False).logits
        ids = torch.cat([ids, logits[:, -1:].argmax(-1)], 1)
        if ids[0, -1] == processor.tokenizer.eos_token_id:
            break
    new = ids[0, batch["input_ids"].shape[1] :]
    return str(processor.tokenizer.decode(new, skip_special_tokens=True)).strip()


def test_batches_answer_as_one_at_a_time_and_in_order(model: Any, processor: Any, asked: list[Sample]) -> None:
    found = list(predict(model, processor, asked, batch_size=5, max_new_tokens=2))
    assert [one.id for one in found] == [one.id for one in asked]
    wanted = [_alone(model, processor, one, 2) for one in asked]
    assert [one.text for one in found] == wanted
    assert len(set(wanted)) > 3  # the random model does not say the same to everything


def test_arranged_lays_questions_of_a_picture_together_and_a_part_of_it_stays(asked: list[Sample]) -> None:
    found = vqa.arranged(asked, 1)
    assert sorted(one.id for one in found) == sorted(one.id for one in asked)
    assert {one.id for one in found[:8]} == {one.id for one in asked[:8]}
    for window in (found[:8], found[8:16]):
        names = [one.picture for one in window]
        assert sum(a != b for a, b in pairwise(names)) == len(set(names)) - 1
    for part in range(len(found) + 1):
        assert vqa.arranged(found[:part], 1) == found[:part]


def test_features_of_a_picture_are_shared(model: Any, processor: Any, asked: list[Sample]) -> None:
    images = [one.open() for one in asked if one.open is not None]
    batch = encode(processor, [render(processor, one.question, 1)[0] for one in asked], images, False)
    names = [one.picture for one in asked]
    with torch.no_grad():
        given = share(model, batch, names)
        assert "pixel_values" not in given
        plain, shared = model(**batch).logits, model(**given).logits
    features = given["mm_encoder_outputs"]["image"].pooler_output
    assert len(features) == len(names)
    assert len({row.data_ptr() for row in features}) == len(set(names)) < len(names)
    assert torch.allclose(plain, shared, atol=1e-4)
    assert "pixel_values" in share(model, batch, [None] * len(asked))
    assert "pixel_values" in share(SimpleNamespace(forward=lambda input_ids: 0), batch, names)


def test_features_that_come_as_one_tensor_are_shared_too() -> None:
    """InternVL's, where each picture is one tile."""
    net, _ = tiny.make("internvl")
    ids = torch.tensor([[1, *[tiny.IMAGE_TOKEN] * 4, 5 + row, 9] for row in range(4)])
    pixels = torch.randn(2, 3, 16, 16)[[0, 1, 0, 1]]
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}
    with torch.no_grad():
        given = share(net, batch, ["a", "b", "a", "b"])
        assert "pixel_values" not in given
        assert torch.allclose(net(**given).logits, net(**batch).logits, atol=1e-5)
        assert not torch.allclose(net(**share(net, batch, ["a", "a", "a", "b"])).logits, net(**batch).logits, atol=1e-2)


def test_resuming_repeats_nothing_and_changes_nothing(
    model: Any, processor: Any, asked: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = list(predict(model, processor, asked, batch_size=4, max_new_tokens=3))
    done = {one.id: replace(one, text=f"as journalled {i}") for i, one in enumerate(whole[:9])}
    calls: list[list[str]] = []
    original = vqa.answer

    def spy(net: Any, proc: Any, batch: list[Sample], *rest: Any) -> list[str]:
        calls.append([one.id for one in batch])
        return original(net, proc, batch, *rest)

    monkeypatch.setattr(vqa, "answer", spy)
    again = list(predict(model, processor, asked, batch_size=4, max_new_tokens=3, done=done))
    assert again == [*done.values(), *whole[9:]]
    assert any(name in done for batch in calls for name in batch)  # a batch half done is made whole, not used twice
    assert all(any(name not in done for name in batch) for batch in calls)
    assert len(calls) < 4
    calls.clear()
    assert list(predict(model, processor, asked, batch_size=4, done={one.id: one for one in whole})) == whole
    assert not calls


class Oracle:
    """A model that knows the answers: it reads the question out of the prompt."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, words: Any, answers: dict[str, str], end: bool = True) -> None:
        self.words, self.answers, self.end, self.seen = words, answers, end, []

    def forward(self, input_ids: torch.Tensor) -> None: ...

    def generate(self, input_ids: torch.Tensor, max_new_tokens: int, **given: Any) -> torch.Tensor:
        assert given["do_sample"] is False
        assert bool((input_ids[:, -1] != self.words.pad_token_id).all())  # padded on the left
        self.seen.append(given.get("pixel_values"))
        rows = []
        for ids in input_ids:
            question = self.words.decode(ids, skip_special_tokens=True).replace("<image>", "").strip()
            ids = self.words(self.answers[question], add_special_tokens=False)["input_ids"]
            ids = [*ids, self.words.eos_token_id][:max_new_tokens]
            rows.append(ids + [self.words.pad_token_id] * (max_new_tokens - len(ids)))
        return torch.cat([input_ids, torch.tensor(rows)], 1)


def test_right_answers_are_right(processor: Any, asked: list[Sample]) -> None:
    unique = list({one.question: one for one in asked}.values())
    answers = {one.question: f" {one.answer.upper()}." for one in unique}
    oracle = Oracle(processor.tokenizer, answers)
    found = list(predict(oracle, processor, unique, batch_size=4, max_new_tokens=250))
    assert all(one.correct and one.score == 1 for one in found)
    wrong = Oracle(processor.tokenizer, dict.fromkeys(answers, "purple"))
    assert not any(one.correct for one in predict(wrong, processor, unique, batch_size=4))


def test_longest_answer_sets_the_limit(processor: Any, asked: list[Sample]) -> None:
    sizes = [len(processor.tokenizer(one.answer, add_special_tokens=False)["input_ids"]) for one in asked]
    assert longest(processor, asked) == max(sizes) + 2


def test_missing_image_is_nought_to_the_model(processor: Any, asked: list[Sample]) -> None:
    unique = list({one.question: one for one in asked}.values())
    oracle = Oracle(processor.tokenizer, {one.question: "x" for one in unique})
    list(predict(oracle, processor, unique, batch_size=16, max_new_tokens=2, show=partial(mean_picture, processor)))
    assert max(float(pixels.abs().max()) for pixels in oracle.seen) < 1 / 127
    picture = mean_picture(processor, Image.new("RGB", (30, 20)))
    assert (picture.size, picture.getpixel((0, 0))) == ((30, 20), (128, 128, 128))


def test_a_picture_is_opened_and_shown_once_to_all_who_ask_about_it(
    model: Any, processor: Any, asked: list[Sample]
) -> None:
    opened: list[str] = []

    def opening(one: Sample) -> Image.Image:
        opened.append(str(one.picture))
        assert one.open is not None
        return one.open()

    def dark(image: Image.Image) -> Image.Image:
        shown.append(image.size)
        return image.point(lambda value: value // 3)

    shown: list[tuple[int, int]] = []
    watched = [replace(one, open=partial(opening, one)) for one in asked]
    found = list(predict(model, processor, watched, batch_size=len(watched), max_new_tokens=2, show=dark))
    pictures = {one.picture for one in asked}
    assert sorted(opened) == sorted(str(name) for name in pictures)
    assert len(shown) == len(pictures) < len(asked)
    darker = [replace(one, open=partial(lambda o: dark(o()), one.open)) for one in asked]
    wanted = [_alone(model, processor, one, 2) for one in darker]
    assert [one.text for one in found] == wanted
    assert wanted != [_alone(model, processor, one, 2) for one in asked]


def test_templates(processor: Any) -> None:
    assert render(processor, "why?", 1) == ("<s><image>\nwhy?\n", False)
    assert render(processor, "why?", 1, "Q: {question}") == ("<s><image>\nQ: why?\n", False)
    assert render(processor, "why?", 1, "<image> {question} A:") == ("<image> why? A:", True)
    ids = [encode(processor, [text], [Image.new("RGB", (9, 9))], special)["input_ids"][0].tolist()
           for text, special in (render(processor, "why?", 1), ("<image>\nwhy?\n", True))]  # fmt: skip
    assert ids[0] == ids[1]  # exactly one beginning of sequence either way
    bare = SimpleNamespace(chat_template=None)
    assert render(bare, "why?", 0) == ("why?\n", True)
    with pytest.raises(BadInput, match="takes no pictures"):
        render(bare, "why?", 1)


def test_language_model_without_pictures(processor: Any) -> None:
    words = processor.tokenizer
    config = LlamaConfig(vocab_size=448, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                         num_attention_heads=2, num_key_value_heads=1, pad_token_id=words.pad_token_id,
                         bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id)  # fmt: skip
    net = LlamaForCausalLM(config).eval()
    few = [Sample(str(i), "red " * (i % 5) + "what?", "x") for i in range(11)]
    found = list(predict(net, words, few, batch_size=4, max_new_tokens=4))
    for one, made in zip(few, found, strict=True):
        ids = words(f"{one.question}\n", return_tensors="pt", return_token_type_ids=False)
        alone = net.generate(**ids, do_sample=False, max_new_tokens=4)[0, ids["input_ids"].shape[1] :]
        assert made.text == words.decode(alone, skip_special_tokens=True).strip()


def test_blind_table_on_easyvqa_scores_what_is_published_of_it() -> None:
    train, test = samples(Task(dataset="easyvqa"), "train"), samples(Task(dataset="easyvqa"))
    found = predict_blind(train, test)
    assert sum(one.correct for one in found) / len(found) == pytest.approx(0.670, abs=0.0005)
    yes_no = [one for one, asked in zip(found, test, strict=True) if asked.answer in ("yes", "no")]
    assert sum(one.correct for one in yes_no) / len(yes_no) == pytest.approx(0.825, abs=0.0005)


def test_blind_table_counts() -> None:
    train = [Sample(str(i), question, said) for i, (question, said) in enumerate(
        [("a?", "x"), ("A", "x"), ("a?", "y"), ("b?", "z"), ("b?", "y"), ("c?", "y"), ("d?", "y")])]  # fmt: skip
    assert table(train) == ({"a": "x", "b": "z", "c": "y", "d": "y"}, "y")
    made = predict_blind(train, [Sample("1", "a?", "X."), Sample("2", "never asked", "y"), Sample("3", "c?", "x")])
    assert made == [Prediction("1", "x", True, 1.0), Prediction("2", "y", True, 1.0), Prediction("3", "y", False, 0.0)]
    with pytest.raises(BadInput, match="no training samples"):
        table([])
