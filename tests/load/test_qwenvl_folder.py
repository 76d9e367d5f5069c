"""Qwen-VL from a folder as the hub has it: the library's own processors without their video part, a conversation with
pictures, and an artifact that comes back bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hublike import outputs, same
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from trimtab.anatomy import tiny
from trimtab.anatomy.loop import prefill, step
from trimtab.anatomy.slots import Slots
from trimtab.core.errors import BadInput
from trimtab.core.fit import Site
from trimtab.core.stats import IMAGE
from trimtab.load import Loaded, artifact, open_source, synthetic
from trimtab.load.processors import open_processors
from trimtab.quantize import RTN
from trimtab.tokens import DivPrune

PROCESSORS = {"qwen2-vl": "Qwen2VLProcessor", "qwen2.5-vl": "Qwen2_5_VLProcessor", "qwen3-vl": "Qwen3VLProcessor"}
MARKS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
TEMPLATE = (
    "{% for message in messages %}{{ message.role }} {% for part in message.content %}{% if part.type == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}{% endfor %} . {% endfor %}"
)
each = pytest.mark.parametrize("name", PROCESSORS)


def tokenizer() -> PreTrainedTokenizerFast:
    """Whole words; the marks of pictures have the ids that the tiny models know."""
    words = ["<pad>", "<s>", "</s>", "user", "assistant", ".", *(f"w{i}" for i in range(tiny.IMAGE_TOKEN - 8)), *MARKS]
    bare = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="w0"))
    bare.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=bare, pad_token="<pad>", bos_token="<s>", eos_token="</s>", padding_side="left",
        extra_special_tokens=list(MARKS),
    )  # fmt: skip


def repository(folder: Path, name: str, dtype: torch.dtype = torch.float32) -> None:
    """A tiny model with the files that a published one has."""
    model, _ = tiny.make(name)
    model.to(dtype).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    images = {
        "image_processor_type": "Qwen2VLImageProcessorFast", "processor_class": PROCESSORS[name], "patch_size": 2,
        "temporal_patch_size": 2, "merge_size": 2, "size": {"shortest_edge": 32, "longest_edge": 256},
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(images))
    (folder / "video_preprocessor_config.json").write_text(
        json.dumps({**images, "video_processor_type": "Qwen2VLVideoProcessor"})
    )
    (folder / "chat_template.jinja").write_text(TEMPLATE)


def picture(width: int, height: int, seed: int) -> Image.Image:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(0, 256, (height, width, 3), generator=generator, dtype=torch.uint8)
    return Image.fromarray(values.numpy())


def said(*turns: Any) -> list[dict[str, Any]]:
    """A conversation: for each turn its role and what is said, None for a picture."""
    parts = [(role, [{"type": "image"} if one is None else {"type": "text", "text": one} for one in content])
             for role, content in turns]  # fmt: skip
    return [{"role": role, "content": content} for role, content in parts]


def written(loaded: Loaded, conversations: list[Any], pictures: list[Image.Image]) -> dict[str, torch.Tensor]:
    texts = [loaded.processor.apply_chat_template(one, tokenize=False) for one in conversations]
    return dict(loaded.processor(text=texts, images=pictures, padding=True, return_tensors="pt"))


@each
@torch.no_grad()
def test_two_pictures_in_a_row_and_a_second_turn(name: str, tmp_path: Path) -> None:
    repository(tmp_path, name)
    loaded, oracle = open_source(tmp_path), open_source(tmp_path).library
    assert isinstance(loaded.processor, getattr(transformers, PROCESSORS[name]))
    assert loaded.image_backend == "pil"
    pictures = [picture(13, 9, 1), picture(30, 11, 2), picture(7, 40, 3)]
    first = [("user", [None, "w3 w4", None, "w5"])], [("user", ["w6 w7", None])]
    batch = written(loaded, [said(*one) for one in first], pictures)
    sizes = batch["image_grid_thw"]
    assert len({tuple(size) for size in sizes.tolist()}) == 3
    assert int((batch["attention_mask"] == 0).sum()) > 0
    runs = (batch["input_ids"] == loaded.library.config.image_token_id).sum(1).tolist()
    assert runs == [int(sizes[:2].prod(1).sum()) // 4, int(sizes[2].prod()) // 4]
    valid, slots = batch["attention_mask"].bool(), Slots()
    found = prefill(loaded.anatomy, batch, slots=slots)
    assert (found.stream.kinds == IMAGE).sum(1).tolist() == runs
    agree(found.logits[valid], oracle(**batch).logits[valid])
    more = [("assistant", ["w8 w9"]), ("user", ["w10 w11 w12"])]
    whole = written(loaded, [said(*one, *more) for one in first], pictures)
    old = batch["input_ids"].shape[1]
    assert torch.equal(whole["input_ids"][:, :old], batch["input_ids"])
    agree(step(loaded.anatomy, whole["input_ids"][:, old:], slots).logits, oracle(**whole).logits[:, old:])
    told = oracle.generate(**whole, max_new_tokens=5, do_sample=False)
    assert torch.equal(loaded.model.generate(**whole, max_new_tokens=5, do_sample=False), told)


def agree(found: torch.Tensor, wanted: torch.Tensor) -> None:
    assert float((found - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max())


@each
def test_videos_are_refused_by_name(name: str, tmp_path: Path) -> None:
    repository(tmp_path, name)
    processor = open_processors(tmp_path).processor
    with pytest.raises(BadInput, match="videos: got some; accepted: images and text"):
        processor(text=["<|video_pad|>"], videos=[torch.zeros(2, 3, 8, 8)])


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_quantized_model_and_its_processor_come_back(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    repository(tmp_path / "source", name, dtype)
    loaded = open_source(tmp_path / "source")
    method, made = RTN(bits=4, group_size=8), dict[int, Any]()
    for host_name, host in artifact.hosts(loaded.anatomy):
        old = host.w
        made.setdefault(id(old), method(old, Site(host_name, old.dense)))
        host.w = made[id(old)]
    batch = synthetic.batches(loaded.processor, count=1, seed=5)[0]
    assert len(batch["image_grid_thw"]) == 4
    before = outputs(loaded.model, batch)
    artifact.write(tmp_path / "out", loaded, {})
    again = open_source(tmp_path / "out")
    assert type(again.model) is type(loaded.model)
    assert same(outputs(again.model, batch), before)
    assert type(again.processor).__name__ == PROCESSORS[name]
    assert same(synthetic.batches(again.processor, count=1, seed=5)[0], batch)
    assert again.processor.chat_template == TEMPLATE
    there = {path.name for path in (tmp_path / "out").iterdir()}
    assert "gate.safetensors" in there


@each
def test_policies_of_an_artifact_answer_as_before(name: str, tmp_path: Path) -> None:
    repository(tmp_path / "source", name)
    loaded = open_source(tmp_path / "source")
    loaded.policies = (DivPrune(keep=0.5),)
    batch = synthetic.batches(loaded.processor, count=1, seed=5)[0]
    before = outputs(loaded.model, batch)
    assert bool(before["logits"].isnan().any())
    artifact.write(tmp_path / "out", loaded, {})
    again = open_source(tmp_path / "out")
    assert same(outputs(again.model, batch), before)
    ids = again.model.generate(**batch, max_new_tokens=4, do_sample=False)
    assert torch.equal(ids, loaded.model.generate(**batch, max_new_tokens=4, do_sample=False))
