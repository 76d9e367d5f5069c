"""Models that look at pictures with the processors that belong to them, from the picture to the artifact."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hublike import outputs, quantize, repository, same
from pictured import TALKING, picture, processor, prompt, tokenizer
from safetensors.torch import load_file

from oracle import close, positions, untouched
from trimtab import anatomy as anatomies
from trimtab import gate
from trimtab.anatomy import tiny
from trimtab.anatomy.loop import prefill, step
from trimtab.anatomy.slots import Slots
from trimtab.anatomy.trimmed import Trimmed
from trimtab.core.errors import BadInput
from trimtab.load import artifact, open_source
from trimtab.tokens import DivPrune

every = pytest.mark.parametrize("name", [*TALKING, "dinov2"])
talking = pytest.mark.parametrize("name", TALKING)


@talking
def test_a_conversation_in_two_turns_is_the_library_s(name: str) -> None:
    """Two pictures in a row, one in another, padding between; an answer, and a second turn behind it."""
    model, _ = tiny.make(name)
    oracle, anatomy, slots, batch = untouched(model), anatomies.of(model), Slots(), prompt(processor(name))
    length, valid = batch["input_ids"].shape[1], batch["attention_mask"].bool()
    assert not bool(valid.all())
    with torch.inference_mode():
        said = oracle.generate(**batch, max_new_tokens=3, min_new_tokens=3, do_sample=False)
        assert torch.equal(
            Trimmed(anatomy).generate(**batch, max_new_tokens=3, min_new_tokens=3, do_sample=False), said
        )
        more = tokenizer()(["w20 w21 w22", "w23 w24 w25"], add_special_tokens=False, return_tensors="pt")["input_ids"]
        whole = torch.cat([said, more], 1)
        mask = torch.cat([batch["attention_mask"], torch.ones_like(whole[:, length:])], 1)
        shown = batch | {"input_ids": whole, "attention_mask": mask, "position_ids": positions(mask)}
        wanted = oracle(**shown).logits
        close(prefill(anatomy, batch, slots=slots).logits[valid], wanted[:, :length][valid])
        close(step(anatomy, whole[:, length:], slots).logits, wanted[:, length:])


def test_a_tower_alone_answers_as_the_library_does() -> None:
    model, _ = tiny.make("dinov2")
    batch = prompt(processor("dinov2"))
    assert batch["pixel_values"].shape == (3, 3, 12, 12)
    with torch.inference_mode():
        wanted = model(**batch).last_hidden_state
        close(prefill(anatomies.of(model), batch).logits, wanted)


@every
def test_it_comes_back_from_disk_quantized_and_passes_the_gate(name: str, tmp_path: Path) -> None:
    repository(tmp_path / "source", name)
    processor(name).save_pretrained(tmp_path / "source")
    loaded = open_source(tmp_path / "source")
    assert (loaded.image_backend, type(loaded.processor).__name__) == ("pil", type(processor(name)).__name__)
    batch = prompt(loaded.processor)
    assert same(batch, prompt(processor(name)))
    quantize(loaded)
    loaded.policies = [DivPrune(keep=0.5)] if name in TALKING else []
    before = outputs(loaded.model, batch)
    artifact.write(tmp_path / "out", loaded, {})
    again = open_source(tmp_path / "out")
    assert same(prompt(again.processor), batch)
    assert same(outputs(again.model, batch), before)
    result = gate.check(tmp_path / "out")
    assert result.passed, result.text()
    assert result.samples == 2
    kept = {key.split(".")[2] for key in load_file(tmp_path / "out/gate.safetensors") if ".out." in key}
    assert kept == ({"logits"} if name in TALKING else {"last_hidden_state", "pooler_output"})


@pytest.mark.parametrize("name", ["llava-onevision", "internvl"])
def test_a_processor_without_its_video_half_refuses_videos_by_name(name: str) -> None:
    made = processor(name)
    assert made.get_attributes() == ["image_processor", "tokenizer"]
    with pytest.raises(BadInput, match="videos: got some; accepted: images and text"):
        made(text="w5 <video>", videos=[[picture(0), picture(0)]])


@pytest.mark.parametrize("name", ["llava-onevision", "internvl"])
def test_files_that_name_no_class_are_opened_by_their_model_s(name: str, tmp_path: Path) -> None:
    repository(tmp_path, name)
    made = processor(name)
    made.save_pretrained(tmp_path)
    named = [path for path in tmp_path.glob("*.json") if '"processor_class"' in path.read_text()]
    assert named
    for path in named:
        said = json.loads(path.read_text())
        path.write_text(json.dumps({key: value for key, value in said.items() if key != "processor_class"}))
    found = open_source(tmp_path).processor
    assert (type(found).__name__, found.get_attributes()) == (type(made).__name__, ["image_processor", "tokenizer"])
    assert same(prompt(found), prompt(made))
