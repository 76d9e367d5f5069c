"""Text as it grows, stop sequences, tokens by themselves, and how words are drawn: without a server."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
import torch
from serving import words
from tokenizers import Tokenizer, decoders, models
from transformers import LogitsProcessorList, PreTrainedTokenizerFast

from trimtab.load.builtin import builtin_folder
from trimtab.load.processors import open_processors
from trimtab.serve.drawing import Drawing, Wish
from trimtab.serve.words import Growing, Spelling, Stopping


@pytest.fixture(scope="module")
def by_bytes() -> Any:
    return open_processors(builtin_folder("easyvqa-llava")).tokenizer


def fallback() -> PreTrainedTokenizerFast:
    """As Llama's: words with a sign for a space, and bytes for what is no word."""
    every = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁so", "▁it", "is"]
    bare = Tokenizer(models.BPE({word: number for number, word in enumerate(every)}, [], unk_token="<unk>",
                                byte_fallback=True))  # fmt: skip
    bare.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                      decoders.Strip(" ", 1, 0)])  # fmt: skip
    return PreTrainedTokenizerFast(tokenizer_object=bare, bos_token="<s>", eos_token="</s>")


TEXT = "naïve 😀 ½ words, 中文 and more: é"


def test_parts_are_the_whole_and_no_character_comes_in_pieces(by_bytes: Any) -> None:
    ids = by_bytes(TEXT, add_special_tokens=False)["input_ids"]
    growing = Growing(by_bytes)
    parts = [growing.add(token) for token in ids]
    assert "".join(parts) + growing.rest() == TEXT
    assert "\ufffd" not in "".join(parts)
    assert "" in parts, "some tokens are no whole character"


def test_behind_a_text_its_completion_keeps_the_space_before_its_first_word(by_bytes: Any) -> None:
    tokenizer = fallback()
    growing = Growing(tokenizer, before=[260])  # it
    assert growing.add(259) == " so"
    assert Growing(tokenizer).add(259) == "so"
    ids = by_bytes(TEXT, add_special_tokens=False)["input_ids"]
    for at in range(1, len(ids)):
        growing = Growing(by_bytes, before=ids[:at])
        text = "".join(growing.add(token) for token in ids[at:]) + growing.rest()
        before = by_bytes.decode(ids[:at], clean_up_tokenization_spaces=False)
        assert TEXT.endswith(text) or before.endswith("\ufffd")
        assert before.endswith("\ufffd") or before + text == TEXT


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_said_the_parts_are_what_is_decoded_at_once(seed: int, by_bytes: Any) -> None:
    """Also of bytes that are no text, and with special tokens among them."""
    ids = random.Random(seed).choices(range(len(by_bytes)), k=60)
    growing = Growing(by_bytes)
    made = "".join(growing.add(token) for token in ids) + growing.rest()
    assert made == by_bytes.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def test_bytes_that_stand_for_themselves_wait_for_one_another() -> None:
    tokenizer = fallback()
    ids = [259, *(3 + byte for byte in " 😀é".encode()), 260, 261]
    growing = Growing(tokenizer)
    parts = [growing.add(token) for token in ids]
    assert "".join(parts) + growing.rest() == tokenizer.decode(ids)
    assert "".join(parts) == "so 😀é itis"
    assert "\ufffd" not in "".join(parts)
    assert Spelling(tokenizer)(259) == (" so", b" so")
    assert Spelling(tokenizer)(3 + 0xE2) == ("bytes:\\xe2", b"\xe2")


def test_an_end_in_the_middle_of_a_character_is_shown_as_such(by_bytes: Any) -> None:
    ids = by_bytes("a😀", add_special_tokens=False)["input_ids"][:-1]
    growing = Growing(by_bytes)
    assert "".join(growing.add(token) for token in ids) == "a"
    assert growing.rest() == by_bytes.decode(ids)[1:]


def test_tokens_by_themselves(by_bytes: Any) -> None:
    ids = by_bytes(TEXT, add_special_tokens=False)["input_ids"]
    assert b"".join(Spelling(by_bytes)(token)[1] or b"" for token in ids) == TEXT.encode()
    assert Spelling(by_bytes)(by_bytes.eos_token_id) == ("</s>", None)
    assert Spelling(words())(7) == ("w7", b"w7")


@pytest.mark.parametrize("seed", range(30))
def test_nothing_of_a_stop_sequence_is_ever_shown(seed: int) -> None:
    rng = random.Random(seed)
    text = "".join(rng.choices("ab", k=40))
    stops = ["".join(rng.choices("ab", k=rng.randint(2, 6))) for _ in range(2)] + ["c"]
    places = [text.find(stop) for stop in stops if stop in text]
    wanted = text[: min(places)] if places else text
    stopping, shown, at = Stopping(stops), "", 0
    while at < len(text):
        size = rng.randint(1, 4)
        shown += stopping.add(text[at : at + size])
        at += size
        assert wanted.startswith(shown)
    assert shown + stopping.rest() == wanted
    assert stopping.found is bool(places)


def drawing(**wish: Any) -> Drawing:
    return Drawing(Wish(most=9, **wish), lambda _: LogitsProcessorList(), torch.tensor([[1]]))


def test_words_are_drawn_as_often_as_they_are_likely() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
    one = drawing(temperature=0.7, seed=1)
    counts = Counter(one.next(logits, []) for _ in range(4000))
    wanted = torch.softmax(logits / 0.7, -1)
    for token, share in enumerate(wanted.tolist()):
        assert counts[token] / 4000 == pytest.approx(share, abs=4 * (share * (1 - share) / 4000) ** 0.5)


def test_only_the_fewest_words_that_reach_top_p_are_drawn() -> None:
    logits = torch.tensor([0.1, 0.5, 0.15, 0.25]).log()
    drawn = {drawing(top_p=0.7, seed=seed).next(logits, []) for seed in range(60)}
    assert drawn == {1, 3}
    assert {drawing(top_p=0.5, seed=seed).next(logits, []) for seed in range(60)} == {1}
    assert {drawing(top_p=0.76, seed=seed).next(logits, []) for seed in range(200)} == {1, 3, 2}


def test_the_lowest_temperature_is_greedy() -> None:
    assert {drawing(temperature=5e-324, seed=seed).next(torch.tensor([7.0, 9.0, 8.0]), []) for seed in range(9)} == {1}


def test_penalties_are_openais_formula() -> None:
    one = drawing(temperature=0, frequency=0.5, presence=0.25, bias={2: 1.5})
    logits = torch.tensor([3.0, 2.0, 0.0, -9.0])
    assert [one.next(logits, []) for _ in range(3)] == [0, 0, 1]
    assert one.shaped(logits, []).tolist() == [3 - 2 * 0.5 - 0.25, 2 - 0.5 - 0.25, 1.5, -9.0]
    assert logits.tolist() == [3.0, 2.0, 0.0, -9.0], "what the model said is not changed"
