"""Embeddings of CLIP's two towers, of an encoder of texts and of one of pictures, by the ``openai`` client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
import torch
from serving import Served, data_url, entry, served, talking, words
from torch.nn import functional as F
from transformers import BitImageProcessorPil, CLIPImageProcessorPil, CLIPProcessor

from trimtab.anatomy import tiny
from trimtab.data.sample import Sample
from trimtab.load.loaded import Loaded, Source
from trimtab.serve.limits import Limits

TEXTS = ["w5 w9 w20", "w7", "w5 w9 w21", "w8 w8 w8 w8 w8 w8"]
SIDE = {"shortest_edge": 12}
CROP = {"height": 12, "width": 12}


def clip() -> Loaded:
    model, _ = tiny.make("clip")
    spoken = words(95)
    spoken.add_special_tokens({"additional_special_tokens": ["<end>"]})  # 95, by which CLIP knows the end
    processor = CLIPProcessor(CLIPImageProcessorPil(size=SIDE, crop_size=CROP), spoken)
    return Loaded(model, processor, spoken, Source("clip", "sha256:1", "mit", "folder", 1), "pil")


def bert() -> Loaded:
    model, _ = tiny.make("bert")
    spoken = words()
    return Loaded(model, spoken, spoken, Source("bert", "sha256:2", "mit", "folder", 1))


def dinov2() -> Loaded:
    model, _ = tiny.make("dinov2")
    processor = BitImageProcessorPil(size=SIDE, crop_size=CROP)
    return Loaded(model, processor, None, Source("dinov2", "sha256:3", "mit", "folder", 1), "pil")


@pytest.fixture(scope="module")
def one() -> Iterator[Served]:
    entries = [entry(made(), name) for name, made in (("clip", clip), ("bert", bert), ("dinov2", dinov2))]
    with served(*entries, entry(talking(), "talks"), limits=Limits(prompts=8)) as made:
        yield made


def rows(one: Served, model: str, given: Any, **more: Any) -> torch.Tensor:
    made = one.openai.embeddings.create(model=model, input=given, **more)
    assert [row.index for row in made.data] == list(range(len(made.data)))
    return torch.tensor([row.embedding for row in made.data])


@torch.no_grad()
def test_clips_two_towers_meet_as_in_the_library(one: Served, asked: list[Sample]) -> None:
    loaded, image = one.house.entries["clip"].loaded, asked[0].open()  # type: ignore[misc]
    texts = [f"<s> {text} <end>" for text in TEXTS]
    found = rows(one, "clip", [*texts, {"type": "image_url", "image_url": {"url": data_url(image)}}])
    assert found.norm(dim=1) == pytest.approx(torch.ones(5), abs=1e-5)
    for text, row in zip(texts, found, strict=False):
        batch = loaded.processor(text=[text], images=[image], return_tensors="pt")
        wanted = loaded.library(**batch)
        assert row == pytest.approx(wanted.text_embeds[0], abs=1e-5)
        assert found[-1] == pytest.approx(wanted.image_embeds[0], abs=1e-5)


@torch.no_grad()
def test_an_encoders_sentence_is_the_mean_of_its_words(one: Served) -> None:
    loaded = one.house.entries["bert"].loaded
    found = rows(one, "bert", TEXTS)
    for text, row in zip(TEXTS, found, strict=True):
        states = loaded.library(**loaded.tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        assert row == pytest.approx(F.normalize(states.mean(0), dim=0), abs=1e-5)
    ids = loaded.tokenizer(TEXTS)["input_ids"]
    assert rows(one, "bert", ids) == pytest.approx(found, abs=1e-6)
    assert rows(one, "bert", TEXTS[1]) == pytest.approx(found[1:2], abs=1e-6)
    assert rows(one, "bert", ids[0]) == pytest.approx(found[:1], abs=1e-6)
    assert rows(one, "bert", TEXTS, encoding_format="float") == pytest.approx(found, abs=1e-7)


@torch.no_grad()
def test_a_tower_of_pictures(one: Served, asked: list[Sample]) -> None:
    loaded, image = one.house.entries["dinov2"].loaded, asked[0].open()  # type: ignore[misc]
    found = rows(one, "dinov2", [{"type": "image_url", "image_url": {"url": data_url(image)}}])
    pixels = loaded.processor(images=[image], return_tensors="pt")["pixel_values"]
    assert found[0] == pytest.approx(F.normalize(loaded.library(pixels).pooler_output[0], dim=0), abs=1e-5)


def test_usage_and_kind_are_told(one: Served) -> None:
    made = one.openai.embeddings.create(model="bert", input=TEXTS)
    assert made.usage.prompt_tokens == sum(len(text.split()) for text in TEXTS)
    kinds = {row["id"]: (row["chat"], row["embeds"], row["sees"])
             for row in one.client.get("/trimtab/models").json()["models"]}  # fmt: skip
    assert kinds == {"clip": (False, True, True), "bert": (False, True, False), "dinov2": (False, True, True),
                     "talks": (True, False, False)}  # fmt: skip


PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


@pytest.mark.parametrize(
    ("model", "given", "word"),
    [("talks", "w5", "no embeddings"), ("bert", [PICTURE], "no pictures"), ("dinov2", "w5", "embeds pictures"),
     ("dinov2", [[1, 2]], "0 to"), ("clip", [PICTURE], "not a picture"), ("bert", [[96]], "0 to 95"),
     ("bert", "", "one token"), ("bert", "w5 " * 65, "at most 64"), ("bert", ["w5"] * 9, "at most 8"),
     ("bert", [], "input"), ("bert", [[]], "input"), ("bert", [None], "input"), ("bert", {"a": 1}, "input")],
)  # fmt: skip
def test_what_cannot_be_embedded_is_the_clients(one: Served, model: str, given: Any, word: str) -> None:
    with pytest.raises(openai.BadRequestError, match=word):
        one.openai.embeddings.create(model=model, input=given)


def test_other_dimensions_are_refused(one: Served) -> None:
    with pytest.raises(openai.BadRequestError, match="accepted: 32"):
        one.openai.embeddings.create(model="bert", input="w5", dimensions=8)
    with pytest.raises(openai.BadRequestError, match="generates no text"):
        one.openai.chat.completions.create(model="bert", messages=[{"role": "user", "content": "w5"}])


@pytest.mark.parametrize("given", ["w5 " * 9, [5] * 9])
def test_the_servers_own_limit_of_tokens_holds_for_texts_too(given: Any) -> None:
    with served(entry(bert(), "bert"), limits=Limits(tokens=8)) as short:
        assert rows(short, "bert", ["w5 w6", "w5"]).shape[0] == 2
        with pytest.raises(openai.BadRequestError, match="9 tokens; accepted: at most 8") as found:
            short.openai.embeddings.create(model="bert", input=given)
        assert found.value.code == "context_length_exceeded"
