"""What the library's own processors give, two pictures in a row and several turns: the loop answers as the library."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from oracle import close, untouched
from seeing import NUMPY, PROCESSORS, WORDS, Batch, idefics3, image_id, picture, siglip, smolvlm
from trimtab import anatomy as anatomies
from trimtab.anatomy import tiny
from trimtab.anatomy.loop import prefill, step
from trimtab.anatomy.slots import Slots
from trimtab.core.errors import BadInput
from trimtab.core.stats import IMAGE
from trimtab.evaluate.prompt import encode
from trimtab.load.processors import open_processors

pytestmark = NUMPY
talking = pytest.mark.parametrize("name", sorted(PROCESSORS))


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def sized(name: str, processor: Any) -> Any:
    """The tiny model that knows the processor's placeholder."""
    model, _ = tiny.make(name)
    model.config.image_token_id = image_id(processor)
    return model


def asked(processor: Any, turns: int) -> Batch:
    """Two pictures in the first row and one in the second; a question, and with ``turns`` of 2 its answer and more."""
    seen = processor.image_token
    texts = [f"{seen} w1 {seen} w2 w3 w4 w5", f"{seen} w6 w7"]
    if turns > 1:
        texts = [f"{texts[0]} w8 w9 </s> w10", f"{texts[1]} w11 </s> w12 w13 w14 w15"]
    images = [[picture(0, (40, 30)), picture(1, (20, 36))], [picture(2, (24, 24))]]
    found = processor(text=texts, images=images, padding=True, return_tensors="pt")
    return {key: value for key, value in found.items() if key != "labels"}


@talking
@pytest.mark.parametrize("turns", [1, 2])
def test_the_loop_answers_as_the_library_does(name: str, turns: int) -> None:
    processor = PROCESSORS[name]()
    model, batch = sized(name, processor), asked(processor, turns)
    oracle, valid = untouched(model), batch["attention_mask"].bool()
    anatomy = anatomies.of(model)
    found = prefill(anatomy, batch)
    assert not bool(valid.all())
    assert (found.stream.kinds == IMAGE).sum(1).tolist() == (batch["input_ids"] == image_id(processor)).sum(1).tolist()
    assert set(batch) - {"input_ids", "attention_mask"} <= set(anatomy.INPUTS)
    close(found.logits[valid], oracle(**batch).logits[valid])


@talking
def test_a_second_turn_goes_on_from_the_first(name: str) -> None:
    processor = PROCESSORS[name]()
    model, batch = sized(name, processor), asked(processor, 1)
    oracle, anatomy, slots = untouched(model), anatomies.of(model), Slots()
    prefill(anatomy, batch, slots=slots)
    cache = oracle(**batch, use_cache=True).past_key_values
    mask = batch["attention_mask"]
    for length in (1, 5, 3):
        more = torch.randint(8, 8 + WORDS, (len(mask), length))
        mask = torch.cat([mask, torch.ones_like(more)], 1)
        wanted = oracle(input_ids=more, attention_mask=mask, past_key_values=cache).logits
        close(step(anatomy, more, slots).logits, wanted)


def test_an_answer_that_paligemma_was_given_is_read_in_order() -> None:
    processor = PROCESSORS["paligemma"]()
    model = sized("paligemma", processor)
    texts, images = ["<image> w1 w2", "<image> w3"], [[picture(0, (20, 20))], [picture(1, (30, 20))]]
    found = processor(text=texts, images=images, suffix=["w4 w5 w6", "w7 w8"], padding=True, return_tensors="pt")
    batch = {key: value for key, value in found.items() if key != "labels"}
    assert set(batch["token_type_ids"][batch["attention_mask"].bool()].tolist()) == {0, 1}
    oracle, valid = untouched(model), batch["attention_mask"].bool()
    close(prefill(anatomies.of(model), batch).logits[valid], oracle(**batch).logits[valid])


@talking
def test_a_row_without_pictures_stands_beside_one_that_has_some(name: str) -> None:
    processor = PROCESSORS[name]()
    model = sized(name, processor)
    texts = [f"{processor.image_token} w1 w2", "w3 w4 w5"]
    images = [[picture(0, (20, 36))], []]
    batch = dict(processor(text=texts, images=images, padding=True, return_tensors="pt"))
    batch.pop("labels", None)
    oracle, valid = untouched(model), batch["attention_mask"].bool()
    close(prefill(anatomies.of(model), batch).logits[valid], oracle(**batch).logits[valid])


@pytest.mark.parametrize("masked", [True, False])
def test_siglip_compares_pictures_with_texts(masked: bool) -> None:
    """Trained on texts padded to one length without a mask; with one, the last place may be padding all the same."""
    padding = {"padding": "max_length", "max_length": 12, "return_attention_mask": masked}
    processor = siglip()
    processor.tokenizer.padding_side = "right"
    model, _ = tiny.make("siglip")
    images = [picture(seed, (20 + 4 * seed, 30)) for seed in range(3)]
    batch = dict(processor(text=["w1 w2 w3", "w4"], images=images, return_tensors="pt", **padding))
    oracle, anatomy = untouched(model), anatomies.of(model)
    found = prefill(anatomy, batch).logits
    assert ("attention_mask" in batch) == masked
    close(found.logits_per_image, oracle(**batch).logits_per_image)
    assert found.logits_per_image.shape == (3, 2)


@talking
def test_token_types_are_encoded_where_masks_follow_them_and_nowhere_else(name: str) -> None:
    processor = PROCESSORS[name]()
    texts = [f"{processor.image_token} w1 w2", f"{processor.image_token} w3"]
    batch = encode(processor, texts, [picture(0, (20, 20)), picture(1, (20, 20))], True)
    assert set(batch) == {"input_ids", "attention_mask", *anatomies.of(sized(name, processor)).INPUTS}
    assert batch["attention_mask"][:, -1].all()


def test_smolvlm_is_opened_without_its_half_for_video_and_writes_pictures_in_the_same_words(tmp_path: Path) -> None:
    idefics3().save_pretrained(tmp_path)
    file = tmp_path / "processor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "processor_class": "SmolVLMProcessor"}))
    found = open_processors(tmp_path)
    assert found.backend == "pil"
    wanted, given = asked(smolvlm(), 2), asked(found.processor, 2)
    assert given.keys() == wanted.keys()
    assert all(torch.equal(given[key], value) for key, value in wanted.items())


def refused(name: str, match: str, **changes: Any) -> None:
    """``changes`` by input: what becomes of it, None for gone."""
    model, batch = tiny.make(name)
    given = {key: changes[key](value) if key in changes else value for key, value in batch.items()}
    with pytest.raises(BadInput, match=match):
        prefill(anatomies.of(model), {key: value for key, value in given.items() if value is not None})


def test_what_an_anatomy_cannot_read_is_named() -> None:
    def narrow(value: Tensor) -> Tensor:
        return value[..., :12]

    refused("idefics3", "4 x 3 patches; accepted: square", pixel_values=narrow, pixel_attention_mask=narrow)
    refused("idefics3", "pixel_attention_mask: got shape", pixel_attention_mask=lambda value: value[:, :1])
    refused("smolvlm", "pixel_values: got shape.*rows, pictures", pixel_values=lambda value: value[:, 0])
    refused("paligemma", "token_type_ids: missing", token_type_ids=lambda _: None)
    refused("paligemma", "token_type_ids: got shape", token_type_ids=lambda value: value[:, 1:])
    refused("gemma3-vision", "pictures of .30, 29.; accepted: 30 x 30", pixel_values=lambda value: value[..., 1:])
    refused("siglip", "pixel_values are missing", pixel_values=lambda _: None)
    refused("siglip-vision", "pixel_values are missing", pixel_values=lambda _: None)


def test_paligemma_counts_from_1_where_nobody_says_otherwise() -> None:
    model, batch = tiny.make("paligemma")
    anatomy, valid = anatomies.of(model), batch["attention_mask"].bool()
    assert anatomy.embed(batch).positions[valid].min() == 1
    batch["position_ids"] = valid.long().cumsum(1) - 1
    assert anatomy.embed(batch).positions[valid].min() == 0


@pytest.mark.parametrize(("name", "tokens"), [("idefics3", 0), ("smolvlm", 4)])
def test_pictures_that_are_all_padding_are_none_and_smolvlm_takes_the_first_for_one(name: str, tokens: int) -> None:
    """The library's Idefics3 fails where all are padding; it answers as if none had been given."""
    model, batch = tiny.make(name)
    batch["pixel_values"] = torch.zeros_like(batch["pixel_values"])
    batch["pixel_attention_mask"] = torch.ones_like(batch["pixel_attention_mask"])
    for row, column in (batch["input_ids"] == tiny.IMAGE_TOKEN).nonzero()[tokens:].tolist():
        batch["input_ids"][row, column] = 7
    words = {key: value for key, value in batch.items() if key in ("input_ids", "attention_mask")}
    oracle, anatomy, valid = untouched(model), anatomies.of(model), batch["attention_mask"].bool()
    wanted = oracle(**(batch if tokens else words)).logits
    close(prefill(anatomy, batch).logits[valid], wanted[valid])
    assert len(anatomy.pictures(batch)) == bool(tokens)


def test_without_a_mask_all_pixels_are_there() -> None:
    model, batch = tiny.make("idefics3")
    del batch["pixel_attention_mask"]
    oracle, valid = untouched(model), batch["attention_mask"].bool()
    close(prefill(anatomies.of(model), batch).logits[valid], oracle(**batch).logits[valid])
