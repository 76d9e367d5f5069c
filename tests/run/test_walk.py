"""The walk over tiny models: what is gathered is what the library's own forward shows at each linear."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import pytest
import torch
from torch import Tensor

from trimtab import anatomy as anatomies
from trimtab.anatomy import tiny
from trimtab.anatomy.base import Block
from trimtab.core.card import Card
from trimtab.core.errors import Anomaly, BadInput, Refused
from trimtab.core.fit import Site
from trimtab.core.joins import Chain, Sum, leaves
from trimtab.core.keep import Stream
from trimtab.core.linear import Linear
from trimtab.core.sparse import Masked
from trimtab.core.stats import KINDS, PADDING, Gram
from trimtab.core.threads import some_threads
from trimtab.core.weight import Dense, Quantized, Weight, bits
from trimtab.factorize import SVD, EoRA
from trimtab.prune import SparseGPT, Wanda
from trimtab.quantize import AWQ, GPTQ, RTN
from trimtab.run import gather
from trimtab.run.batches import joined
from trimtab.run.lanes import lanes
from trimtab.run.walk import LayerReport, walk

EVERYTHING = ("language", "vision", "projector", "embedding", "head")
VLM = ["llava", "llava-full", "llava-penultimate", "qwen2-vl", "qwen2.5-vl", "qwen3-vl", "llava-next",
       "llava-onevision", "internvl"]  # fmt: skip
TEXT = ["llama", "gemma3", "qwen2", "bert", "phi", "phi3", "gptneox", "gptneox-serial", "opt", "opt-narrow"]
SPEECH = ["whisper"]


@pytest.fixture(autouse=True)
def _three_threads() -> Iterator[None]:
    """Hence three lanes, whatever the machine has."""
    with some_threads(3):
        yield


@dataclass(frozen=True)
class Spy:
    """A method (GPTQ) that notes what it was given, in order."""

    inner: Any = field(default_factory=lambda: GPTQ(bits=4, group_size=8))
    grams: dict[str, Gram] = field(default_factory=dict)
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    CARD: ClassVar[Card] = GPTQ.CARD

    def check(self, width: int, rows: int | None = None) -> None:
        self.inner.check(width, rows)

    def stored(self, rows: int, width: int, before: int) -> int:
        return self.inner.stored(rows, width, before)

    def without_data(self) -> RTN:
        return self.inner.without_data()

    def __call__(self, w: Weight, site: Site) -> Weight:
        assert site.gram is not None
        self.grams[site.name], self.groups[site.name] = site.gram, site.group
        return self.inner(w, site)


def made(name: str, seed: int = 0) -> tuple[Any, list[dict[str, Tensor]]]:
    """A tiny model's anatomy, and batches of different lengths."""
    padding: Literal["left", "right"] = "right" if name == "bert" else "left"  # the library pools its first column
    model, first = tiny.make(name, padding, seed)
    torch.manual_seed(seed + 1)
    second = tiny.batch(name, model, padding)
    if name in TEXT:
        second = {key: second[key][:, 3:] for key in ("input_ids", "attention_mask")}
    return anatomies.of(model), [first, second]


def targets(name: str) -> tuple[str, ...]:
    """All that the model has. BERT's pooler is its head, which sees the first token of each text."""
    words = tuple(t for t in EVERYTHING if t not in ("vision", "projector"))
    return EVERYTHING if name in VLM else words + ("audio",) * (name in SPEECH)


@torch.no_grad()
def through_the_library(anatomy: Any, batches: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The rows at every linear, padding left out, seen by hooks while the library's own forward runs."""
    rows: dict[str, list[Tensor]] = defaultdict(list)
    for batch in batches:
        valid = next(value for key, value in batch.items() if key.endswith("attention_mask")).bool().flatten()

        def look(module: Any, args: tuple[Tensor], valid: Tensor = valid) -> None:
            x = args[0].flatten(0, -2)
            text = len(x) == len(valid) and anatomy.part_of(module.name) in ("language", "head")
            rows[module.name].append((x[valid] if text else x).double())

        hooks = [host.register_forward_pre_hook(look) for _, host in anatomy.linears()]
        anatomy.model(**batch)
        for hook in hooks:
            hook.remove()
    return {name: torch.cat(found) for name, found in rows.items()}


def close(a: Tensor, b: Tensor, tolerance: float = 1e-5) -> bool:
    return bool((a.double() - b.double()).abs().max() <= tolerance * b.double().abs().max())


@pytest.mark.parametrize(("max_tokens", "held"), [(10**6, 10**6), (1, 10**6), (1, 0)])
@pytest.mark.parametrize("name", [*VLM, *TEXT, *SPEECH])
def test_grams_are_those_of_the_trimmed_model(name: str, max_tokens: int, held: int) -> None:
    """The input of a linear depends on earlier linears only, so the finished model must show the same rows."""
    anatomy, batches = made(name)
    spy = Spy()
    reports = walk(anatomy, batches, spy, targets(name), max_tokens=max_tokens, held=held)
    seen = through_the_library(anatomy, batches)
    tied = {other for pair in anatomy.aliases() for other in pair}
    compared = [n for n in spy.grams if n not in tied and n in seen]
    staged = {n for block in anatomy.blocks() for stage in anatomy.stages(block) for n in stage}
    assert staged <= set(compared)
    for linear in compared:
        assert close(spy.grams[linear].read(), seen[linear].T @ seen[linear]), linear
        report = next(r for r in reports if r.name == linear)
        assert sum(report.seen.values()) - report.seen["padding"] == len(seen[linear])
    everything = (*anatomy.linears(), *anatomy.embeddings())
    assert all(isinstance(host.w, Quantized) for _, host in everything)


@dataclass(frozen=True)
class Before(Spy):
    """The same method, fitted on the model as it was."""

    CARD: ClassVar[Card] = replace(GPTQ.CARD, sees="before")


@pytest.mark.parametrize("max_tokens", [10**6, 1])
@pytest.mark.parametrize("name", [*VLM, *TEXT, *SPEECH])
def test_grams_are_those_of_the_model_as_it_was(name: str, max_tokens: int) -> None:
    """Tables, blocks and head, where the method's card says so; afterwards all of it is trimmed."""
    anatomy, batches = made(name)
    seen, spy, order = through_the_library(anatomy, batches), Before(), list[int]()
    walk(anatomy, batches, spy, targets(name), max_tokens=max_tokens, on_layer=lambda i, r, h: order.append(i))
    tied = {second: first for first, second in anatomy.aliases()}
    compared = [linear for linear in seen if tied.get(linear, linear) in spy.grams]
    assert {n for block in anatomy.blocks() for stage in anatomy.stages(block) for n in stage} <= set(compared)
    for linear in compared:
        assert close(spy.grams[tied.get(linear, linear)].read(), seen[linear].T @ seen[linear]), linear
    assert order == sorted(order)
    assert all(isinstance(host.w, Quantized) for _, host in (*anatomy.linears(), *anatomy.embeddings()))
    after = through_the_library(anatomy, batches)
    assert not close(after[linear].T @ after[linear], seen[linear].T @ seen[linear]), "the trimmed one shows others"


@pytest.mark.parametrize("stop", [0, 1, 3])
@pytest.mark.parametrize("name", ["llava", "gemma3"])
def test_what_sees_the_model_as_it_was_does_so_when_it_goes_on(name: str, stop: int) -> None:
    whole, batches = made(name)
    stored: dict[int, dict[str, Weight]] = {}

    def keep(index: int, reports: list[LayerReport], hosts: dict[str, Any]) -> None:
        if index <= stop:
            stored[index] = {path: host.w for path, host in hosts.items()}

    walk(whole, batches, Before(), targets(name), on_layer=keep)
    rest, batches = made(name)
    walk(rest, batches, Before(), targets(name), done=stored.get)
    for (path, a), (_, b) in zip((*whole.linears(), *whole.embeddings()), (*rest.linears(), *rest.embeddings()),
                                 strict=True):  # fmt: skip
        assert torch.equal(a.w.codes, b.w.codes), path


def test_a_method_that_uses_no_second_moment_gets_that_of_few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "SOME", 5)
    gram = gather.empty(Wanda.CARD, 6)
    x = torch.randn(40, 6)
    for part in x.split(3):
        gram.add(part, torch.zeros(len(part), dtype=torch.int64))
    torch.testing.assert_close(gram.read(), x[:5].T @ x[:5])
    torch.testing.assert_close(gram.squares, x.square().sum(0))


@pytest.mark.parametrize("name", ["llava", "gemma3", "bert", "qwen2.5-vl", "qwen3-vl", "phi", "opt-narrow", "whisper"])
def test_replaying_gives_the_same_codes_as_one_pass(name: str) -> None:
    spies, found = [], []
    for held in (10**6, 0):
        anatomy, batches = made(name)
        spies.append(Spy())
        walk(anatomy, batches, spies[-1], targets(name), max_tokens=1, held=held)
        found.append({n: host.w.codes for n, host in anatomy.linears() if n != "pooler.dense"})
    for linear, gram in spies[0].grams.items():
        assert close(spies[1].grams[linear].read(), gram.read()), linear
    for linear, codes in found[0].items():
        assert torch.equal(codes, found[1][linear]), linear
    assert spies[0].groups == spies[1].groups


def test_stages_share_one_gram_and_name_their_group() -> None:
    anatomy, batches = made("llama")
    spy = Spy()
    walk(anatomy, batches, spy, ["language"], ignore=["k_proj"])
    q, v = (f"model.layers.1.self_attn.{n}_proj" for n in "qv")
    assert spy.grams[q] is spy.grams[v]
    assert spy.groups[q] == (q, v)
    assert isinstance(dict(anatomy.linears())["model.layers.1.self_attn.k_proj"].w, Dense)
    assert list(spy.grams)[-1] == "model.layers.3.mlp.down_proj"


@pytest.mark.parametrize("max_tokens", [10**6, 1])
def test_a_tied_embedding_is_fitted_first_on_the_untrimmed_heads_input(max_tokens: int) -> None:
    anatomy, batches = made("gemma3")
    rows = through_the_library(anatomy, batches)["lm_head"]
    assert anatomy.aliases() == [("model.embed_tokens", "lm_head")]
    spy, order = Spy(), []
    reports = walk(
        anatomy,
        batches,
        spy,
        ["language", "head"],
        max_tokens=max_tokens,
        on_layer=lambda i, r, h: order.append(list(h)),
    )
    assert order[0] == ["model.embed_tokens"]
    assert close(spy.grams["model.embed_tokens"].read(), rows.T @ rows)
    embedding, head = dict(anatomy.embeddings())["model.embed_tokens"], dict(anatomy.linears())["lm_head"]
    assert isinstance(head.w, Quantized)
    assert embedding.w is head.w
    assert [r.name for r in reports].count("lm_head") == 0
    assert order[-1] == []


def test_an_untied_embedding_is_rounded_first_and_the_head_comes_last() -> None:
    anatomy, batches = made("llama")
    table = dict(anatomy.embeddings())["model.embed_tokens"]
    expected = RTN(4, 8)(table.w, Site("", table.w.dense))
    spy, order = Spy(), []
    walk(anatomy, batches, spy, EVERYTHING[:1] + EVERYTHING[3:], on_layer=lambda i, r, h: order.append(list(h)))
    assert order[0] == ["model.embed_tokens"]
    assert order[-1] == ["lm_head"]
    assert torch.equal(table.w.codes, expected.state_dict()["codes"])
    assert "model.embed_tokens" not in spy.grams
    assert list(spy.grams)[-1] == "lm_head"


@pytest.mark.parametrize("name", ["llava", "gemma3", "clip"])
@pytest.mark.parametrize("stop", [0, 2, 5])
def test_a_walk_that_was_stopped_goes_on_to_the_same_codes(name: str, stop: int) -> None:
    class Stopped(Exception):
        pass

    def fresh() -> tuple[Any, list[dict[str, Tensor]]]:
        anatomy, batches = made(name)
        return anatomy, batches if name != "clip" else batches[:1]

    stored: dict[int, dict[str, Weight]] = {}

    def keep(index: int, reports: list[LayerReport], hosts: dict[str, Any]) -> None:
        stored[index] = {path: host.w for path, host in hosts.items()}
        if index == stop:
            raise Stopped

    whole, batches = fresh()
    everything = [t for t in EVERYTHING if name != "gemma3" or t not in ("vision", "projector")]
    all_reports = walk(whole, batches, GPTQ(4, 8), everything)
    half, batches = fresh()
    with pytest.raises(Stopped):
        walk(half, batches, GPTQ(4, 8), everything, on_layer=keep)
    rest, batches = fresh()
    calls: list[tuple[int, int, int]] = []
    reports = walk(
        rest, batches, GPTQ(4, 8), everything, done=stored.get,
        on_layer=lambda i, r, h: calls.append((i, len(r), len(h))),
    )  # fmt: skip
    for (path, a), (_, b) in zip(whole.linears(), rest.linears(), strict=True):
        for key, value in a.w.state_dict().items():
            assert torch.equal(value, b.w.state_dict()[key]), path
    assert reports == all_reports[len(all_reports) - len(reports) :]
    assert [i for i, _, _ in calls] == list(range(len(whole.blocks()) + 2))
    assert all(made == 0 for i, made, _ in calls if i <= stop)
    assert [n for i, _, n in calls if i <= stop] == [len(stored[i]) for i in range(stop + 1)]
    assert rest.aliases() == whole.aliases()


def test_the_report_says_the_relative_output_error() -> None:
    anatomy, batches = made("llava")
    before = {n: host.w.dense().double().clone() for n, host in anatomy.linears()}
    reports = {r.name: r for r in walk(anatomy, batches, GPTQ(3, 8), ["language", "vision"])}
    seen = through_the_library(anatomy, batches)
    hosts = dict(anatomy.linears())
    for name, report in reports.items():
        w, v, x = before[name], hosts[name].w.dense().double(), seen[name]
        assert report.error == pytest.approx((((w - v) @ x.T).norm() / (w @ x.T).norm()).item(), rel=1e-3)
        assert 0 < report.error < 0.6
        assert report.part == anatomy.part_of(name)
        assert report.bits == 3 + (32 + 8) / 8


def test_rows_are_counted_by_kind() -> None:
    anatomy, batches = made("llava")
    reports = {r.name: r.seen for r in walk(anatomy, batches, GPTQ(4, 8), ["language", "vision", "projector"])}
    pictures = sum(len(b["pixel_values"]) for b in batches)
    valid = sum(int(b["attention_mask"].sum()) for b in batches)
    image = pictures * tiny.PATCHES
    assert reports["model.vision_tower.encoder.layers.0.mlp.fc1"]["image"] == pictures * (tiny.PATCHES + 1)
    assert reports["model.vision_tower.embeddings.patch_embedding"]["image"] == image
    assert reports["model.multi_modal_projector.linear_1"]["image"] == image
    language = reports["model.language_model.layers.0.self_attn.q_proj"]
    assert (language["image"], language["text"]) == (image, valid - image)
    assert language["padding"] >= sum(int((b["attention_mask"] == 0).sum()) for b in batches)


def test_what_listens_is_fitted_on_the_sound_and_counts_its_rows() -> None:
    anatomy, batches = made("whisper")
    reports = {r.name: r.seen for r in walk(anatomy, batches, GPTQ(4, 8), targets("whisper"))}
    sound = sum(len(b["input_features"]) for b in batches) * anatomy.model.config.max_source_positions
    valid = sum(int(b["decoder_attention_mask"].sum()) for b in batches)
    for name, seen in reports.items():
        if "model.encoder." in name or name.endswith(("encoder_attn.k_proj", "encoder_attn.v_proj")):
            assert seen == {"text": 0, "image": 0, "video": 0, "padding": 0, "audio": sound}, name
        else:
            assert (seen["text"], seen["audio"]) == (valid, 0), name


def test_what_reads_one_norm_side_by_side_is_one_stage() -> None:
    anatomy, batches = made("phi")
    spy = Spy()
    walk(anatomy, batches, spy, ["language"])
    q, fc1 = "model.layers.1.self_attn.q_proj", "model.layers.1.mlp.fc1"
    assert spy.grams[q] is spy.grams[fc1]
    assert spy.groups[q] == (*(f"model.layers.1.self_attn.{n}_proj" for n in "qkv"), fc1)


def test_a_method_without_data_runs_no_block() -> None:
    anatomy, _ = made("llava-penultimate")

    def never() -> Any:
        raise AssertionError("a batch was read")
        yield

    dense = {n: host.w for n, host in (*anatomy.linears(), *anatomy.embeddings())}
    reports = walk(anatomy, never(), RTN(4, 8), EVERYTHING)
    assert {r.name for r in reports} == set(dense)
    hosts = {**dict(anatomy.linears()), **dict(anatomy.embeddings())}
    for report in reports:
        old, new = dense[report.name], hosts[report.name].w
        expected = RTN(4, 8)(old, Site("", old.dense))
        assert torch.equal(new.state_dict()["codes"], expected.state_dict()["codes"])
        error = (old.dense() - new.dense()).double().norm() / old.dense().double().norm()
        assert report.error == pytest.approx(error.item(), rel=1e-4)
        assert set(report.seen.values()) == {0}


def test_vision_that_no_sample_reaches_is_refused_unless_allowed() -> None:
    anatomy, batches = made("llava")
    blind = [{"input_ids": torch.randint(3, 90, (4, 12)), "attention_mask": torch.ones(4, 12, dtype=torch.int64)}]
    with pytest.raises(Refused, match=r"vision_tower.*text_only"):
        walk(anatomy, blind, GPTQ(4, 8), ["vision"])
    anatomy, _ = made("llava")
    reports = {r.name: r for r in walk(anatomy, blind, GPTQ(4, 8), ["vision", "language"], unseen="round")}
    assert set(reports["model.vision_tower.encoder.layers.0.mlp.fc1"].seen.values()) == {0}
    assert reports["model.language_model.layers.0.mlp.down_proj"].seen["text"] == 48
    mixed = [batches[0], *blind]
    anatomy, _ = made("llava")
    reports = {r.name: r for r in walk(anatomy, mixed, GPTQ(4, 8), ["vision"], max_tokens=1)}
    assert reports["model.vision_tower.encoder.layers.0.mlp.fc1"].seen["image"] == 4 * (tiny.PATCHES + 1)


def test_layers_that_nothing_runs_are_rounded() -> None:
    anatomy, batches = made("llava-penultimate")
    idle = anatomy.idle()
    assert idle
    reports = {r.name: r for r in walk(anatomy, batches, GPTQ(4, 8), ["vision"])}
    assert all(set(reports[name].seen.values()) == {0} for name in idle)
    assert all(isinstance(dict(anatomy.linears())[name].w, Quantized) for name in idle)


def test_knobs_that_do_not_fit_are_refused_before_any_work() -> None:
    anatomy, batches = made("llava")
    with pytest.raises(BadInput, match=r"patch_embedding.*group_size: got 32 for a row of 48; nearest.*: (16|48)"):
        walk(anatomy, batches, GPTQ(4, 32), EVERYTHING)
    assert all(isinstance(host.w, Dense) for _, host in anatomy.linears())


@pytest.mark.parametrize(
    ("targets", "ignore", "says"),
    [
        (["langauge"], [], r"nearest: 'language'"),
        (["q_prj"], [], r"nearest: 'q_proj'"),
        (["("], [], r"no regular expression"),
        (["vision"], [".*"], r"leaves no layer"),
        (["vision"], ["visoin"], r"ignore: 'visoin'.*'vision'"),
        (["proj"], [], r"matches no layer"),
    ],
)
def test_targets_that_mean_nothing_are_refused(targets: list[str], ignore: list[str], says: str) -> None:
    anatomy, batches = made("llava")
    with pytest.raises(BadInput, match=says):
        walk(anatomy, batches, GPTQ(4, 8), targets, ignore=ignore)


def test_targets_by_alias_ending_and_expression() -> None:
    def fitted(targets: list[str], ignore: tuple[str, ...] = ()) -> set[str]:
        anatomy, _ = made("llava")
        return {r.name for r in walk(anatomy, [], RTN(4, 8), targets, ignore=ignore)}

    anatomy, _ = made("llava")
    every = {name for name, _ in anatomy.linears()}
    assert fitted(["all-linear"]) == every - {"lm_head"}
    assert fitted(["head"]) == {"lm_head"}
    assert fitted(["embedding"]) == {"model.language_model.embed_tokens"}
    assert fitted([r"layers\.1\..*"]) == {n for n in every if ".layers.1." in n}
    assert fitted(["down_proj"]) == {n for n in every if n.endswith("down_proj")}
    assert fitted(["language"], ("down_proj",)) == {
        n for n in every if "language_model.layers" in n and not n.endswith("down_proj")
    }


def test_what_needs_gradients_or_has_no_data_free_form_is_refused() -> None:
    @dataclass(frozen=True)
    class Other:
        CARD: ClassVar[Card] = Card("other", "quantize", "", 2020, "", "bytes", needs="data")

        def check(self, width: int, rows: int | None = None) -> None: ...
        def stored(self, rows: int, width: int, before: int) -> int:
            return before

        def __call__(self, w: Weight, site: Site) -> Weight:
            return w

    @dataclass(frozen=True)
    class Steep(Other):
        CARD: ClassVar[Card] = Card("steep", "quantize", "", 2020, "", "bytes", needs="gradients")

    anatomy, batches = made("llama")
    with pytest.raises(BadInput, match="other: has no data-free form"):
        walk(anatomy, batches, Other(), ["embedding"])
    with pytest.raises(BadInput, match="steep: needs gradients"):
        walk(anatomy, batches, Steep(), ["language"])
    with pytest.raises(BadInput, match="got no batch"):
        walk(anatomy, [], Other(), ["language"])


def test_the_source_of_a_site_is_read_by_name() -> None:
    names = []

    @dataclass(frozen=True)
    class Reader(RTN):
        def __call__(self, w: Weight, site: Site) -> Weight:
            names.append((site.name, float(site.source().sum())))
            return w

    anatomy, _ = made("llama")
    name = "model.layers.0.mlp.up_proj"
    w = dict(anatomy.linears())[name].w.dense().double()
    (report,) = walk(anatomy, [], Reader(4, 8), [name], source=lambda name: torch.full(w.shape, float(len(name))))
    assert names == [(name, float(w.numel() * len(name)))]
    assert report.error == pytest.approx(((len(name) - w).norm() / len(name) / w.numel() ** 0.5).item(), rel=1e-5)


def plain(name: str, width: int) -> Gram:
    return Gram(width)


def stream(kinds: Tensor) -> Stream:
    here = torch.arange(kinds.shape[1]).expand_as(kinds)
    return Stream(torch.randn(*kinds.shape, 6), here, kinds, kinds != PADDING, here)


def test_a_linear_that_a_block_calls_twice_is_an_anomaly() -> None:
    host = Linear(Dense(torch.randn(6, 6)), None, "twice")

    def call(s: Stream, slots: Any, see: Any) -> Stream:
        host(host(s.x))
        return s

    how, streams = gather.How(plain, 100), [stream(torch.zeros(2, 3, dtype=torch.int64)) for _ in range(4)]
    with lanes() as side, pytest.raises(Anomaly, match="twice: called twice"):
        gather.together(Block("b", "language", call), streams, [[host]], lambda s, g: None, how, side)
    assert host.tap is None


def test_rows_that_cannot_be_told_apart_are_an_anomaly() -> None:
    mixed = stream(torch.tensor([[0, 1, 1, 3]]))
    with pytest.raises(Anomaly, match="pooled: saw 1 rows of a stream of 4 tokens"):
        gather.add(Gram(6), torch.randn(1, 6), mixed, "pooled")
    gram = Gram(6)
    gather.add(gram, torch.randn(1, 6), stream(torch.tensor([[3, 1, 1, 1]])), "pooled")
    assert dict(zip(KINDS, gram.seen.tolist(), strict=True)) == dict.fromkeys(KINDS, 0) | {"image": 1}


def test_batches_are_joined_as_far_as_memory_allows() -> None:
    def batch(rows: int, length: int) -> dict[str, Tensor]:
        mask = torch.ones(rows, length, dtype=torch.int64)
        mask[0, 0] = 0
        ids = torch.randint(5, 9, (rows, length))
        return {"input_ids": ids, "attention_mask": mask, "pixel_values": torch.randn(1, 3, 4, 4)}

    parts = [batch(2, 5), batch(3, 7), batch(1, 4), batch(2, 40)]
    found = joined(parts, 42)
    assert [tuple(b["input_ids"].shape) for b in found] == [(6, 7), (2, 40)]
    whole = found[0]
    assert torch.equal(whole["pixel_values"], torch.cat([p["pixel_values"] for p in parts[:3]]))
    assert whole["attention_mask"].sum() == sum(p["attention_mask"].sum() for p in parts[:3])
    assert torch.equal(whole["input_ids"][:2, :5], parts[0]["input_ids"])
    assert (whole["attention_mask"][:2, 5:] == 0).all()
    assert whole["input_ids"].min() >= 5
    assert [len(b["input_ids"]) for b in joined(parts, 41)] == [5, 1, 2]
    other = {"input_ids": parts[0]["input_ids"], "attention_mask": parts[0]["attention_mask"]}
    assert len(joined([parts[0], other], 10**6)) == 2


def originals(anatomy: Any) -> dict[str, Tensor]:
    return {n: host.w.dense().detach().clone() for n, host in (*anatomy.linears(), *anatomy.embeddings())}


@pytest.mark.parametrize("fit", [AWQ(3, 8), SparseGPT(0.5), SparseGPT(0.5, "2:4")])
@pytest.mark.parametrize("name", ["llava", "gemma3"])
def test_other_methods_see_the_trimmed_model_and_what_they_make_runs(name: str, fit: Any) -> None:
    anatomy, batches = made(name)
    before, spy = originals(anatomy), Spy(fit)
    reports = {r.name: r for r in walk(anatomy, batches, spy, ["language"])}
    seen, hosts = through_the_library(anatomy, batches), dict(anatomy.linears())
    for linear, gram in spy.grams.items():
        assert close(gram.read(), seen[linear].T @ seen[linear]), linear
        assert close(gram.mean_abs(), seen[linear].abs().mean(0)), linear
        w, v, x = before[linear].double(), hosts[linear].w.dense().double(), seen[linear]
        assert reports[linear].error == pytest.approx((((w - v) @ x.T).norm() / (w @ x.T).norm()).item(), rel=1e-3)
        assert reports[linear].bits == bits(hosts[linear].w) / w.numel()
        assert isinstance(hosts[linear].w, Chain if isinstance(fit, AWQ) else Masked)


@pytest.mark.parametrize("first", [GPTQ(2, 8), SparseGPT(0.5)])
@pytest.mark.parametrize("name", ["llava", "gemma3", "llama"])
def test_what_was_lost_is_given_back_on_the_compressed_models_inputs(name: str, first: Any) -> None:
    """Errors are against the original matrices, and the thin factors are counted."""
    anatomy, batches = made(name)
    before, everything = originals(anatomy), targets(name)
    compressed = {r.name: r for r in walk(anatomy, batches, first, everything)}
    was = {n: host.w for n, host in (*anatomy.linears(), *anatomy.embeddings())}
    spy = Spy(EoRA(4))
    reports = walk(anatomy, batches, spy, everything, source=before.__getitem__)
    assert {r.name for r in reports} == set(compressed)
    seen, hosts = through_the_library(anatomy, batches), dict(anatomy.linears()) | dict(anatomy.embeddings())
    tied = {other for pair in anatomy.aliases() for other in pair}
    assert ("lm_head" in tied) == (name == "gemma3")
    for report in reports:
        w = hosts[report.name].w
        assert isinstance(w, Sum)
        assert next(iter(w)) is was[report.name], "what there was stays as it was"
        assert report.bits == pytest.approx(
            compressed[report.name].bits + 32 * 4 * sum(w.shape) / (w.shape[0] * w.shape[1])
        )
        if report.name in seen and report.name not in tied and report.name in spy.grams:
            x, gap = seen[report.name], before[report.name].double() - w.dense().double()
            assert close(spy.grams[report.name].read(), x.T @ x), report.name
            whole = (before[report.name].double() @ x.T).norm()
            assert report.error == pytest.approx(((gap @ x.T).norm() / whole).item(), rel=2e-3, abs=1e-6)
            plain = SVD(4)(was[report.name], Site("", lambda n=report.name: before[n])).dense().double()
            assert report.error <= ((before[report.name] - plain) @ x.T).norm() / whole * (1 + 1e-3) + 1e-6
            bare = ((before[report.name] - was[report.name].dense().double()) @ x.T).norm() / whole
            assert report.error < bare
    with torch.no_grad():
        assert anatomy.model(**batches[0]).logits.isfinite().all()


def test_a_table_whose_input_is_never_seen_gets_the_plain_svd() -> None:
    anatomy, batches = made("llama")
    before = originals(anatomy)
    walk(anatomy, batches, RTN(2, 8), ["embedding"])
    table = dict(anatomy.embeddings())["model.embed_tokens"]
    expected = SVD(3)(table.w, Site("", lambda: before["model.embed_tokens"])).dense()
    (report,) = walk(anatomy, batches, EoRA(3), ["embedding"], source=before.__getitem__)
    assert torch.equal(table.w.dense(), expected)
    gap = before["model.embed_tokens"] - expected
    assert report.error == pytest.approx((gap.norm() / before["model.embed_tokens"].norm()).item(), rel=1e-4)


def test_a_rank_above_a_side_is_refused_before_any_work() -> None:
    anatomy, batches = made("llava")
    before = originals(anatomy)
    with pytest.raises(BadInput, match=r"r: got 33 for \d+ x \d+; accepted: 1 to \d+ \(nearest: \d+\)"):
        walk(anatomy, batches, EoRA(33), ["language"], source=before.__getitem__)
    assert all(isinstance(host.w, Dense) for _, host in anatomy.linears())


@pytest.mark.parametrize("stop", [0, 2, 4])
def test_giving_back_goes_on_where_it_was_stopped(stop: int) -> None:
    def fresh() -> tuple[Any, list[dict[str, Tensor]], dict[str, Tensor]]:
        anatomy, batches = made("gemma3")
        before = originals(anatomy)
        walk(anatomy, batches, AWQ(3, 8), ["language", "embedding"])
        return anatomy, batches, before

    stored: dict[int, dict[str, Weight]] = {}
    whole, batches, before = fresh()
    walk(whole, batches, EoRA(3), ["language", "embedding"], source=before.__getitem__,
         on_layer=lambda i, r, h: stored.setdefault(i, {n: host.w for n, host in h.items()}))  # fmt: skip
    rest, batches, before = fresh()
    asked: list[str] = []

    def read(name: str) -> Tensor:
        asked.append(name)
        return before[name]

    walk(rest, batches, EoRA(3), ["language", "embedding"], source=read,
         done=lambda index: stored[index] if index <= stop else None)  # fmt: skip
    for (path, a), (_, b) in zip(whole.linears(), rest.linears(), strict=True):
        for key, value in a.w.state_dict().items():
            assert torch.equal(value, b.w.state_dict()[key]), path
        assert [type(leaf) for leaf in leaves(a.w)] == [type(leaf) for leaf in leaves(b.w)]
    assert set(asked) == {name for index, made in stored.items() if index > stop for name in made}


@pytest.mark.parametrize("method", [GPTQ(4, 8), AWQ(4, 8), Wanda(0.5)], ids=lambda one: one.CARD.name)
def test_every_layer_runs_once_over_each_batch(method: Any) -> None:
    """One forward for a layer, whatever its stages: as many as the library's own over the same batches."""
    anatomy, batches = made("llama")
    counts: defaultdict[str, int] = defaultdict(int)
    for name, layer in anatomy.model.model.layers.named_children():
        layer.register_forward_hook(lambda *_, name=name: counts.update({name: counts[name] + 1}))
    sets = len(joined(batches, 1))
    assert sets > 1
    walk(anatomy, batches, method, ["language"], max_tokens=1)
    assert counts == dict.fromkeys(counts, sets)
    assert len(counts) == len(anatomy.model.model.layers)
