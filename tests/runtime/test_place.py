"""What a lowered model runs on: kernels and a plan, one copy of the weights where the reference is let go."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from trimtab import anatomy as anatomies
from trimtab import methods
from trimtab.anatomy import Anatomy, tiny
from trimtab.core.factors import LowRank
from trimtab.core.fit import Site
from trimtab.core.joins import Sum
from trimtab.core.linear import Embedding, Host, Linear
from trimtab.core.native import library
from trimtab.core.weight import Dense
from trimtab.load.loaded import Loaded, Source
from trimtab.run.walk import walk
from trimtab.runtime import place as placing
from trimtab.runtime.arena import LINE, PAGE, Arena
from trimtab.runtime.compiled import Compiled, Rows
from trimtab.runtime.held import Held
from trimtab.runtime.plan.layout import Laid, laid
from trimtab.runtime.plan.model import Planned
from trimtab.runtime.plan.prompt import calls

SIZES = {"vocab_size": 96, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 128, "pad_token_id": 0}  # fmt: skip
IDS = torch.randint(3, 96, (2, 20), generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _built() -> None:
    assert library() is not None, "the compiled library is not built"


def model(quantized: bool, tied: bool = True) -> Loaded:
    torch.manual_seed(0)
    made = LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=tied)).eval()
    loaded = Loaded(made, None, None, Source("x", "x", "unknown", "folder", 0))
    if quantized:
        walk(loaded.anatomy, (), methods.make("rtn", {"bits": 4, "group_size": 16}), ["embedding", "head", "language"])
    return loaded


def linears(loaded: Loaded) -> list[Linear]:
    """But for the head, which is the plan's."""
    return [host for host in loaded.library.model.modules() if isinstance(host, Linear)]


@torch.no_grad()
def answers(loaded: Loaded) -> torch.Tensor:
    found: torch.Tensor = loaded.model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits
    return found


def off(mine: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((mine - theirs).norm() / theirs.norm())


@pytest.mark.parametrize("release", [False, True])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("quantized", [False, True])
def test_it_answers_by_a_plan_as_it_did_without(quantized: bool, tied: bool, release: bool) -> None:
    loaded = model(quantized, tied)
    before = answers(loaded)
    report = loaded.lower(release=release)
    assert report.planless == ""
    assert isinstance(loaded.model, Planned)
    assert off(answers(loaded), before) < 0.02
    with torch.no_grad():
        said = loaded.model.generate(input_ids=IDS, attention_mask=torch.ones_like(IDS), max_new_tokens=5,
                                     do_sample=False, pad_token_id=0)  # fmt: skip
    assert said.shape == (2, 25)
    words = torch.tensor([[7], [50]])
    after = torch.cat([IDS, words], 1)
    with torch.no_grad():
        cache = loaded.model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).past_key_values
        found = loaded.model(input_ids=words, attention_mask=torch.ones_like(after), past_key_values=cache)
        theirs = model(quantized, tied).model(input_ids=after).logits[:, -1:]
    assert off(found.logits, theirs) < 0.02
    assert cache.cache is not None, "words go by the plan"


@pytest.mark.parametrize("quantized", [False, True])
def test_released_the_kernels_hold_what_the_plan_reads_and_nothing_else_is_left(quantized: bool) -> None:
    loaded = model(quantized)
    loaded.lower(release=True)
    held = {id(one.codes) for one in loaded.engine.plan.laid.values()}
    for host in (one for one in loaded.library.modules() if isinstance(one, Host)):
        assert {value.device.type for value in (*host.w.parameters(), *host.w.buffers())} == {"meta"}, host.name
        kind = Compiled if isinstance(host, Linear) else Rows
        assert isinstance(host.kernel, kind)
        assert isinstance(host, Linear | Embedding)
        assert id(host.kernel.laid.codes) in held, host.name
    with torch.no_grad():  # the library's own forward runs on the same copy
        assert off(loaded.library(input_ids=IDS).logits, answers(loaded)) < 0.02


@pytest.mark.parametrize("form", ["dense", "4 bits", "half of it"])
def test_what_stands_beside_a_matrix_is_not_lost_when_it_is_let_go(form: str) -> None:
    """By the plan, and by the library's own forward on what is left."""
    loaded = model(form == "4 bits")
    if form == "half of it":
        walk(loaded.anatomy, (), methods.make("magnitude", {"keep": 0.5}), ["embedding", "head", "language"])
    plain = answers(loaded)
    for _, host in loaded.anatomy.linears():
        if host.name != "lm_head":
            out, width = host.w.shape
            host.w = Sum([host.w, LowRank(0.3 * torch.randn(out, 3), 0.3 * torch.randn(3, width), 2.0)])
    before = answers(loaded)
    assert off(plain, before) > 0.1
    assert loaded.lower(release=True).planless == ""
    assert {host.w.first.shape for host in linears(loaded)} == {host.w.shape for host in linears(loaded)}
    assert all(value.is_meta for host in linears(loaded) for value in (*host.w.parameters(), *host.w.buffers()))
    assert off(answers(loaded), before) < 0.03
    with torch.no_grad():
        assert off(loaded.library(input_ids=IDS).logits, before) < 0.03


def test_all_of_it_can_be_taken_back() -> None:
    loaded = model(True)
    before = answers(loaded)
    loaded.lower()
    loaded.unlower()
    assert loaded.engine is None
    assert torch.equal(answers(loaded), before)


def test_a_plan_that_answers_otherwise_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placing, "HOLD", 0)
    monkeypatch.setattr(placing, "verify", lambda engine: "layer 0: its answers to 4 tokens are 0.300 off")
    loaded = model(True)
    assert loaded.lower().planless == "layer 0: its answers to 4 tokens are 0.300 off"
    assert loaded.engine is None
    assert all(isinstance(host.kernel, Compiled) for host in loaded.library.modules() if isinstance(host, Linear))


def test_a_small_model_keeps_dense_copies_for_towers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where they fit and the reference does not go; its prompts and words are the plan's all the same."""
    small, released = model(True), model(True)
    assert small.lower().held > 0
    released.lower(release=True)
    monkeypatch.setattr(placing, "HOLD", 0)
    large = model(True)
    assert large.lower().held == 0
    assert [type(host.kernel) for host in linears(small)] == [Held] * len(linears(small))
    assert not any(isinstance(host.kernel, Held) for one in (released, large) for host in linears(one))
    assert torch.equal(answers(large), answers(released))
    assert torch.equal(answers(small), answers(large))
    small.engine.prompts = False
    assert not torch.equal(answers(small), answers(large)), "the loop's arithmetic is another"


def test_dense_matrices_are_not_held_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tied ones are counted once, also before they are hosts; let go, they have a plan."""
    loaded = model(False)
    count = sum(value.numel() for name, value in loaded.library.named_parameters() if "norm" not in name)
    assert placing.stored_bytes(loaded.library) == 4 * count
    assert loaded.anatomy is not None
    assert placing.stored_bytes(loaded.library) == 4 * count
    monkeypatch.setattr(placing, "HOLD", 4 * count - 1)
    assert loaded.lower().planless == "0 MB of dense matrices would be held twice"
    assert loaded.lower(release=True).planless == ""
    monkeypatch.setattr(placing, "HOLD", 4 * count)
    assert model(False).lower().planless == ""


def test_sequences_share_calls_and_those_longer_than_one_have_their_own() -> None:
    counts = [3, 600, 0, 60, 400, 64, 64, 64, 64, 5]
    rows = torch.arange(sum(counts))
    made = list(calls(rows.split(counts)))
    assert torch.equal(torch.cat(made).sort().values, rows)
    assert [len(one) for one in made] == [300, 300, 3 + 60 + 400, 4 * 64 + 5]
    assert list(calls([rows[:0], rows[:0]])) == []


def test_the_reason_for_no_plan_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    streamed = model(True)
    streamed.streamed = True
    assert streamed.lower().planless == "its matrices are in files"
    encoder = tiny.make("bert")[0]
    loaded = Loaded(encoder, None, None, Source("x", "x", "unknown", "folder", 0))
    assert loaded.lower().planless == "no stack of decoder layers"
    monkeypatch.setattr(placing, "level", lambda: None)
    assert model(True).lower().planless == "the compiled library is not built"


def anatomy(loaded: Loaded) -> Anatomy:
    return anatomies.of(loaded.library)


def test_what_is_placed_is_the_same_and_lies_side_by_side() -> None:
    """Each begins a line, also behind one whose zeros fill none."""
    arena, made = Arena(), list[Laid]()
    small = methods.make("rtn", {"bits": 4, "group_size": 16})(Dense(torch.randn(16, 16)), Site("x", lambda: IDS))
    for w in (small, *(host.w for _, host in anatomy(model(True)).linears())):
        before = laid(w)
        assert isinstance(before, Laid)
        made.append(arena.place(before))
        for part in ("codes", "scale", "zero"):
            assert torch.equal(getattr(made[-1], part), getattr(before, part))
            assert getattr(made[-1], part).data_ptr() % LINE == 0
        assert (made[-1].kind, made[-1].shape, made[-1].levels) == (before.kind, before.shape, before.levels)
    assert made[0].codes.data_ptr() % PAGE == 0
    ends = [one.zero.data_ptr() + -(-one.zero.nbytes // LINE) * LINE for one in made if one.zero is not None]
    assert [one.codes.data_ptr() for one in made[1:]] == ends[:-1]


def test_a_matrix_that_fills_no_part_gets_one_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from trimtab.runtime import arena as module

    monkeypatch.setattr(module, "PART", 1)
    arena, one = Arena(), Laid(16, (16, 4), torch.arange(128, dtype=torch.int16).bfloat16())
    large = Laid(16, (16, 4), torch.zeros(3 * PAGE // 2).bfloat16())
    found = [arena.place(given) for given in (one, large, one)]
    assert torch.equal(found[0].codes, found[2].codes)
    assert found[1].codes.numel() == 3 * PAGE // 2
