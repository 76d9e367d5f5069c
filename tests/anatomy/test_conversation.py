"""Each family with the library's own tokenizer for it: padded conversations of two turns, piece by piece through the
loop, are answered as the library answers each of them alone and whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import (
    CodeGenTokenizer,
    GPT2Tokenizer,
    GPTNeoXTokenizer,
    LlamaTokenizer,
    PreTrainedTokenizerBase,
    Qwen2Tokenizer,
)

from oracle import Batch, close, untouched
from trimtab.anatomy import tiny
from trimtab.anatomy.loop import prefill, step
from trimtab.anatomy.slots import Slots
from trimtab.load import open_source

PAD, BOS, EOS = SPECIAL = ("<pad>", "<s>", "</s>")
FIRST = ("how deep is the harbour at low water", "who rows", "what does a small tab on the edge of a rudder do")
SECOND = ("and at high water", "why would anybody ask that of a rudder", "tell me more")
TEMPLATE = (
    "{% for turn in messages %}{{ turn.role }}: {{ turn.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
KINDS: dict[str, tuple[type[PreTrainedTokenizerBase], bool]] = {  # and whether it works on bytes
    "gptneox": (GPTNeoXTokenizer, True),
    "gptneox-serial": (GPTNeoXTokenizer, True),
    "mistral": (LlamaTokenizer, False),
    "opt": (GPT2Tokenizer, True),
    "opt-narrow": (GPT2Tokenizer, True),
    "phi": (CodeGenTokenizer, True),
    "phi3": (LlamaTokenizer, False),
    "qwen3": (Qwen2Tokenizer, True),
}


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def tokenizer(kind: type[Any], in_bytes: bool) -> PreTrainedTokenizerBase:
    """One of that class, its pairs learned from the conversations here; no more tokens than the tiny models know."""
    bare = Tokenizer(models.BPE(unk_token=None if in_bytes else PAD))
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False) if in_bytes else pre_tokenizers.Metaspace()
    texts = [f"user: {text}\nassistant: " for text in (*FIRST, *SECOND)]
    trainer = trainers.BpeTrainer(vocab_size=tiny.VOCABULARY - 2, special_tokens=list(SPECIAL), show_progress=False)
    bare.train_from_iterator(texts, trainer)
    learned = json.loads(bare.to_str())["model"]
    named = {"pad_token": PAD, "bos_token": BOS, "eos_token": EOS, "unk_token": PAD}
    made: PreTrainedTokenizerBase = kind(vocab=learned["vocab"], merges=[tuple(m) for m in learned["merges"]], **named)
    made.chat_template = TEMPLATE
    return made


def asked(words: PreTrainedTokenizerBase, texts: tuple[str, ...], first: bool) -> Batch:
    """A turn of each conversation as its template writes it, padded."""
    turns = [[{"role": "user", "content": text}] for text in texts]
    written = [words.apply_chat_template(turn, tokenize=False, add_generation_prompt=True) for turn in turns]
    found = words(written, padding=True, return_tensors="pt", add_special_tokens=first)
    assert len(set(found["attention_mask"].sum(1).tolist())) == len(texts)
    return {name: found[name] for name in ("input_ids", "attention_mask")}


def newest(logits: Tensor, valid: Tensor) -> Tensor:
    """The likeliest word behind the last valid one of each row, (b, 1)."""
    last = (torch.arange(valid.shape[1]) * valid).amax(1)
    return logits[torch.arange(len(logits)), last].argmax(-1, keepdim=True)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", KINDS)
def test_two_turns_in_the_loop_are_the_library_s_on_each_conversation_alone(
    name: str, side: str, tmp_path: Path
) -> None:
    model, given = tiny.make(name)[0], tokenizer(*KINDS[name])
    model.save_pretrained(tmp_path)
    given.save_pretrained(tmp_path)
    loaded = open_source(tmp_path)
    words = loaded.tokenizer
    text = f"user: {FIRST[0]}\n"
    assert words(text)["input_ids"] == given(text)["input_ids"]
    assert len(words(text)["input_ids"]) < len(text)
    words.padding_side = side
    first, second = asked(words, FIRST, True), asked(words, SECOND, False)
    oracle, slots, steps = untouched(loaded.library), Slots(), step_by(loaded.anatomy)
    said = [(first["input_ids"], first["attention_mask"].bool(), prefill(loaded.anatomy, first, slots=slots).logits)]
    for _ in range(4):
        token = newest(said[-1][2], said[-1][1])
        said.append((token, torch.ones_like(token, dtype=torch.bool), steps(token, slots)))
    ids, valid = second["input_ids"], second["attention_mask"].bool()
    said.append((ids, valid, steps(ids, slots, valid)))
    whole, where, found = (torch.cat(parts, 1) for parts in zip(*said, strict=True))
    for row in range(len(FIRST)):
        wanted = oracle(input_ids=whole[row, where[row]][None]).logits[0]
        close(found[row, where[row]], wanted)
    assert slots.following.tolist() == where.sum(1).tolist()


def step_by(anatomy: Any) -> Callable[..., Tensor]:
    """``step`` of ``anatomy``, its logits only."""
    return lambda *given: step(anatomy, *given).logits


def test_these_are_the_classes_that_the_library_opens(tmp_path: Path) -> None:
    """Mistral's and Phi-3's files open as the plain backend, as the library decides for these families."""
    for name, (kind, in_bytes) in KINDS.items():
        folder = tmp_path / name
        tiny.make(name)[0].save_pretrained(folder)
        tokenizer(kind, in_bytes).save_pretrained(folder)
        found = open_source(folder).tokenizer
        assert type(found) is kind or name in ("mistral", "phi3"), (name, type(found))
