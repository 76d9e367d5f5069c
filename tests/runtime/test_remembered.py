"""Law of memory: with it a model answers as without, and what was seen or read before is not seen or read again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from oracle import PICTURED, close, make
from planning import engine_of, off, seeing
from trimtab import anatomy as anatomies
from trimtab.anatomy.recall import OF_WORDS, Recalling
from trimtab.anatomy.vlm import Joined
from trimtab.core.bounded import Bounded, digest
from trimtab.core.errors import BadInput
from trimtab.load.loaded import Loaded, Source
from trimtab.runtime.plan import prefix
from trimtab.runtime.plan.engine import Engine
from trimtab.runtime.plan.entries import Entries
from trimtab.runtime.plan.model import Moved, Planned
from trimtab.runtime.plan.prefix import LEAST, Content, Prefixes
from trimtab.runtime.plan.prompt import prompted
from trimtab.tokens import DivPrune, FastV


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def test_what_was_asked_for_longest_ago_goes_first() -> None:
    kept: Bounded[int] = Bounded(10)
    kept.put(b"a", 1, 4)
    kept.put(b"b", 2, 4)
    assert kept.get(b"a") == 1
    kept.put(b"c", 3, 4)
    assert [kept.get(key) for key in (b"a", b"b", b"c")] == [1, None, 3]
    assert (kept.nbytes, len(kept), kept.hits, kept.misses) == (8, 2, 3, 1)
    kept.put(b"c", 4, 2)
    kept.put(b"d", 5, 11)
    assert (kept.nbytes, kept.get(b"c"), kept.get(b"d")) == (6, 4, None)
    assert [key for key, _ in kept.items()] == [b"c", b"a"]


def test_a_digest_is_of_values_kinds_and_shapes() -> None:
    one = torch.arange(6, dtype=torch.int32)
    others = (one + 1, one.long(), one.view(2, 3), one.view(torch.float32))
    assert digest(one) == digest(one.clone())
    assert len({digest(one), *map(digest, others), digest(one, one)}) == 6


class Counting(Recalling):
    """How often, and at how many pictures, the tower looked."""

    looks = 0

    def _looked(self, batch: Any, keys: list[bytes]) -> Any:
        self.looks += len(keys)
        return super()._looked(batch, keys)


@pytest.mark.parametrize("name", PICTURED)
def test_pictures_that_were_seen_are_not_looked_at_again(name: str) -> None:
    """Of every family; also beside other words, and another picture is looked at."""
    model, batch = make(name)
    found = anatomies.of(model)
    assert isinstance(found, Joined)
    view, wanted = Counting(found, Bounded(1 << 30)), found.embed(batch)
    first, looks = view.embed(batch), view.looks
    assert looks > 0
    close(first.x, wanted.x)
    assert all(torch.equal(value, first.side[key]) for key, value in wanted.side.items() if value.dtype == torch.bool)
    text = batch["input_ids"]
    words = {**batch, "input_ids": torch.where(found.placeholders(text), text, text.clamp(max=int(text.max()) - 1))}
    assert torch.equal(view.embed(batch).x, first.x)
    close(view.embed(words).x, found.embed(words).x)
    assert view.looks == looks
    other = {**batch, "pixel_values": batch["pixel_values"] * 1.5}
    close(view.embed(other).x, found.embed(other).x)
    assert view.looks == 2 * looks


@pytest.mark.parametrize("name", ["paligemma", "gemma3-vision"])
def test_what_is_said_of_words_is_no_content_of_a_picture(name: str) -> None:
    model, batch = make(name)
    found = anatomies.of(model)
    assert isinstance(found, Joined)
    view = Counting(found, Bounded(1 << 30))
    first, looks = view.features(batch), view.looks
    assert torch.equal(view.features({**batch, "token_type_ids": 1 - batch["token_type_ids"]}), first)
    assert view.looks == looks


def test_pictures_of_one_size_are_known_one_by_one() -> None:
    found, batch = seeing()
    assert isinstance(found, Joined)
    view, pixels = Counting(found, Bounded(1 << 30)), batch["pixel_values"]
    count = len(pixels)
    assert count > 1
    view.features(batch)
    turned = {**batch, "pixel_values": pixels.flip(0)}
    close(view.features(turned), found.features(turned))
    assert view.looks == count
    new = {**batch, "pixel_values": torch.cat([pixels[:-1], pixels[:1] * 2])}
    close(view.features(new), found.features(new))
    assert view.looks == count + 1
    twice = {**batch, "pixel_values": torch.stack([pixels[0] + 7] * count)}
    close(view.features(twice), found.features(twice))
    assert view.looks == count + 2
    assert {"mm_token_type_ids", "token_type_ids"} == set(OF_WORDS)


def test_a_prompt_without_pictures_or_with_too_many_words_is_the_anatomys_own() -> None:
    model, batch = make("llava")
    found = anatomies.of(model)
    view = Recalling(found, Bounded(1 << 20))
    words = {name: batch[name] for name in ("input_ids", "attention_mask")}
    assert torch.equal(view.embed(words).x, found.embed(words).x)
    long = {**batch, "position_ids": batch["position_ids"] + found.model.config.text_config.max_position_embeddings}
    said = []
    for one in (view, found):
        with pytest.raises(BadInput, match="positions") as raised:
            one.embed(long)
        said.append(str(raised.value))
    assert said[0] == said[1]


class Reading:
    """How many rows an engine reads."""

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows, step = 0, engine.step

        def counted(cache: Any, given: Tensor, *args: Any, **kwargs: Any) -> Any:
            self.rows += len(given)
            return step(cache, given, *args, **kwargs)

        monkeypatch.setattr(engine, "step", counted)

    def of(self, call: Any) -> tuple[int, Any]:
        before, found = self.rows, call()
        return self.rows - before, found


@pytest.mark.parametrize("policy", ["none", "divprune"])
def test_a_beginning_that_was_read_is_not_read_again(policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same pictures and other words behind them, in a batch, also where a policy drops image tokens; the
    words that follow are those of a model without memory."""
    found, batch = seeing()
    engine = engine_of(found, monkeypatch)
    chosen = [DivPrune(0.5).policy()] if policy == "divprune" else []
    kept, reading = Prefixes(1 << 30), Reading(engine, monkeypatch)
    assert isinstance(found, Joined)
    ids, words = batch["input_ids"], ~found.placeholders(batch["input_ids"])
    mine, plain = Planned(found, engine, chosen, kept), Planned(found, engine, chosen)

    def asked(model: Planned, given: Tensor) -> tuple[Tensor, Tensor]:
        slots = Moved()
        logits = model.prompt({**batch, "input_ids": given}, slots, 1)
        more = model.step(slots, logits[:, -1:].argmax(-1), torch.ones(len(ids), 1, dtype=torch.bool))
        return logits, more

    first, _ = reading.of(lambda: asked(mine, ids))
    other = ids.clone()
    other[:, -1] = torch.where(words[:, -1], (ids[:, -1] % 20) + 10, ids[:, -1])
    assert not torch.equal(other, ids)
    rows, here = reading.of(lambda: asked(mine, other))
    there = asked(plain, other)
    assert rows < first
    assert max(map(off, here, there)) < 0.01
    again, _ = reading.of(lambda: asked(mine, ids))
    assert again == rows, "the first prompt is known still"


def test_what_is_asked_for_is_always_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """All logits of a prompt, and the last row even of a prompt that was read as a whole; another position, or a policy
    between layers, shares nothing."""
    found, batch = seeing()
    engine = engine_of(found, monkeypatch)
    monkeypatch.setattr(prefix, "LEAST", 1)
    kept, reading = Prefixes(1 << 30), Reading(engine, monkeypatch)
    mine = Planned(found, engine, (), kept)
    valid = int(batch["attention_mask"].sum())
    for _ in range(2):
        rows, logits = reading.of(lambda: mine.prompt(batch, None, 0))
        assert rows == valid
        assert not logits[batch["attention_mask"].bool()].eq(0).all(-1).any()
    rows, _ = reading.of(lambda: mine.prompt(batch, None, 1))
    assert rows == len(batch["input_ids"])
    moved = {**batch, "position_ids": batch["attention_mask"].cumsum(1)}
    rows, _ = reading.of(lambda: mine.prompt(moved, None, 1))
    assert rows == valid
    before = len(kept.kept)
    Planned(found, engine, [FastV(0.5, 2).policy()], kept).prompt(batch, None, 1)
    assert len(kept.kept) == before


def test_beginnings_are_compared_row_by_row_and_kept_once(monkeypatch: pytest.MonkeyPatch) -> None:
    x, places = torch.randn(40, 8, generator=torch.Generator().manual_seed(0)).bfloat16(), torch.arange(40)
    rows = Content(x, places)
    assert rows.common(Content(x[:30], places[:30])) == 30
    changed = x.clone()
    changed[25] += 1
    assert rows.common(Content(changed, places)) == 25
    assert rows.common(Content(x, places + 1)) == 0
    assert rows.common(Content(x[:0], places[:0])) == 0
    found, batch = seeing()
    engine, kept = engine_of(found, monkeypatch), Prefixes(1 << 30)
    made = prompted(engine, batch)
    assert made is not None
    entries = made.cache.sequences[0]
    count = entries[0].count
    assert count > LEAST

    def of(rows: int) -> tuple[Content, list[Entries]]:
        return Content(x[:rows], places[:rows]), [one.beginning(rows) for one in entries]

    for rows_ in (count - 2, count, count - 3):
        kept.put(*of(rows_))
    assert [len(one.content) for _, one in kept.kept.items()] == [count]
    whole = of(count)[0]
    again = kept.longest(whole, count - 1)
    assert [one.count for one in again] == [count - 1] * len(entries)
    for mine, one in zip(again, entries, strict=True):
        assert torch.equal(mine.key[:, : count - 1], one.key[:, : count - 1])
    again[0].key.zero_()
    assert kept.longest(whole, count)[0].key.any(), "what is handed out is a copy"
    assert kept.longest(whole, LEAST - 1) == []
    assert Prefixes(10).longest(whole, count) == []


def test_a_loaded_model_remembers_from_when_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    found, batch = seeing()
    loaded = Loaded(found.model, None, None, Source("x", "x", "unknown", "folder", 0))
    assert loaded.model is loaded.library
    here = batch["attention_mask"].bool()
    before = loaded.model(**batch).logits
    loaded.remember(1 << 20)
    close(loaded.model(**batch).logits[here], before[here])
    assert len(loaded.memory.features) == len(batch["pixel_values"])
    loaded.lower(release=True)
    assert loaded.memory.features.most == 1 << 20
    assert len(loaded.memory.features) == 0, "other weights"
    assert loaded.engine is not None
    loaded.model(**batch, logits_to_keep=1)
    assert len(loaded.memory.prefixes.kept) > 0
    assert off(loaded.model(**batch, logits_to_keep=1).logits, before[:, -1:]) < 0.05
