"""ToMe: matching against a slow one, sizes that add up, and merged duplicates that answer as the duplicates do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from oracle import close, make
from sights import batch, images_only, sample
from trimtab import anatomy
from trimtab.anatomy import masks, tiny
from trimtab.anatomy.loop import prefill, step
from trimtab.anatomy.slots import Slots
from trimtab.core.keep import SIZE, Stream
from trimtab.core.stats import IMAGE
from trimtab.tokens import FastV, RandomTokens, ToMe
from trimtab.tokens.tome import joined, matched


def slow(feature: Tensor, size: list[float], count: int) -> list[int]:
    """Round by round on lists: alternate, propose, carry out the strongest; features are means by size."""
    vectors, sizes = [row.double() for row in feature], list(size)
    into, left = list(range(len(vectors))), list(range(len(vectors)))
    while len(left) > count:
        a, b = left[0::2], left[1::2]
        best = {}
        for i in a:
            cosines = [float(vectors[i] @ vectors[j] / vectors[i].norm() / vectors[j].norm()) for j in b]
            best[i] = (max(cosines), b[cosines.index(max(cosines))])
        most = min(len(left) - count, len(left) // 2)
        going = {i: best[i][1] for i in sorted(a, key=lambda i: (-best[i][0], i))[:most]}
        fresh = {}
        for j in b:
            members = [j] + [i for i in a if going.get(i) == j]
            total = sum(sizes[i] for i in members)
            fresh[j] = (sum(sizes[i] * vectors[i] for i in members) / total, total)
        for j, (vector, total) in fresh.items():
            vectors[j], sizes[j] = vector, total
        into = [going.get(at, at) for at in into]
        left = [i for i in left if i not in going]
    return into


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("keep", [0.9, 0.5, 0.3, 0.1])
def test_it_merges_what_the_slow_reference_merges(seed: int, keep: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    n = 5 + 3 * seed
    feature = torch.randn(n, 6, generator=generator)
    size = torch.randint(1, 4, (n,), generator=generator).float()
    count = max(1, int(n * keep + 0.5))
    found = joined(feature, size, count)
    assert found.tolist() == slow(feature, size.tolist(), count)
    assert len(found.unique()) == count
    assert torch.equal(found[found], found), "what stays goes into itself"


def test_one_round_by_hand() -> None:
    """A: tokens 0, 2, 4, B: 1, 3. Token 4 is token 1 but for its length, 0 is close to 3, 2 close to nothing."""
    x = torch.tensor([[1.0, 0.1], [0.0, 2.0], [-1.0, -1.0], [1.0, 0.0], [0.0, 5.0]])
    assert joined(x, torch.ones(5), 4).tolist() == [0, 1, 2, 3, 1]
    assert joined(x, torch.ones(5), 3).tolist() == [3, 1, 2, 3, 1]
    sight = images_only(x)
    stream = sight.stream.fold(ToMe(0.6).policy().into(sight))
    assert torch.allclose(stream.x[0, 4], torch.tensor([1.0, 0.05]))  # tokens 0 and 3, behind the word before them
    assert torch.allclose(stream.x[0, 2], torch.tensor([0.0, 3.5]))
    assert stream.side[SIZE][0].tolist() == [1, 0, 2, 1, 2, 0, 1]
    assert torch.equal(stream.x[0, 3], sight.stream.x[0, 3]), "what nothing went into is not touched"


@pytest.mark.parametrize("keep", [0.75, 0.5, 0.2])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_merged_token_is_the_mean_of_all_that_it_stands_for(keep: float, side: str) -> None:
    """Over several rounds too, and over what was merged before; every floating side tensor likewise."""
    sight = batch([sample([9]), sample([2, 3]), sample([16])], side)
    size = torch.randint(1, 4, sight.stream.valid.shape).float()
    deep = torch.randn(*size.shape, 3)
    stream = replace(sight.stream, side={SIZE: size, "deep": deep, "grid": sight.stream.source * 7})
    into = ToMe(keep).policy().into(replace(sight, stream=stream))
    found = stream.fold(into)
    for row in range(3):
        for j in into[row].unique().tolist():
            members = (into[row] == j).nonzero()[:, 0]
            weight = size[row, members, None] / size[row, members].sum()
            assert torch.allclose(found.x[row, j], (weight * stream.x[row, members]).sum(0), atol=1e-5)
            assert torch.allclose(found.side["deep"][row, j], (weight * deep[row, members]).sum(0), atol=1e-5)
            assert found.side[SIZE][row, j] == size[row, members].sum()
            assert found.side["grid"][row, j] == stream.source[row, j] * 7
    assert torch.equal(found.side[SIZE].sum(1), size.sum(1))
    assert torch.equal(found.positions, stream.positions)


def test_from_the_second_layer_on_keys_say_what_is_alike() -> None:
    """Averaged over key heads; hidden states that would pair them otherwise are not looked at."""
    sight = sample([8], text=1)
    image = (sight.stream.kinds[0] == IMAGE).nonzero()[:, 0]
    k = sight.k.clone()
    k[0, :, image[0]] = k[0, :, image[5]] + torch.tensor([[1.0], [-1.0]])  # equal in the mean alone
    x = sight.stream.x.clone()
    x[0, image[0]] = x[0, image[1]]
    sight = replace(sight, k=k, stream=replace(sight.stream, x=x))
    assert int(ToMe(0.9, layer=2).policy().into(sight)[0, image[0]]) == int(image[5])
    assert int(ToMe(0.9, layer=0).policy().into(sight)[0, image[0]]) == int(image[1])
    with pytest.raises(ValueError, match="tome at layer 2: no keys of these tokens"):
        matched(replace(sight, k=None), torch.tensor([4]), 2)
    with pytest.raises(ValueError, match="layer: got -1"):
        ToMe(0.5, layer=-1).policy()


class Shown:
    """An anatomy that begins with a given stream."""

    def __init__(self, body: Any, stream: Stream) -> None:
        self.body, self.stream = body, stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.body, name)

    def embed(self, batch: Any) -> Stream:
        return self.stream


def doubled(stream: Stream) -> Stream:
    """Every image token twice, side by side at one position, each row filled up on the left."""
    rows = []
    for kinds, valid in zip(stream.kinds, stream.valid, strict=True):
        rows.append([i for i in range(len(kinds)) if valid[i] for _ in range(2 if kinds[i] == IMAGE else 1)])
    longest = max(map(len, rows))
    index = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
    there = torch.tensor([[False] * (longest - len(row)) + [True] * len(row) for row in rows])
    made = stream.gather(index, there)
    return replace(made, valid=there, source=torch.arange(longest).expand(len(rows), -1))


@pytest.mark.parametrize("name", ["llava", "llava-full"])
@pytest.mark.parametrize("later_layer", [None, 2])
def test_merged_duplicates_answer_as_the_duplicates_do(name: str, later_layer: int | None) -> None:
    """Twice every token of every picture, at the place of the first: halved by merging, nothing changes, neither in the
    prompt nor in what follows, since a merged key is attended to as two. Dropping as many changes a lot."""
    model, inputs = make(name)
    body = anatomy.of(model)
    with torch.no_grad():
        stream = doubled(body.embed(inputs))
        shown, said = Shown(body, stream), torch.randint(4, 90, (len(stream.x), 5))

        def run(*policies: Any) -> tuple[Tensor, Tensor, Slots]:
            slots = Slots()
            first = prefill(shown, inputs, policies, slots)
            more = [step(body, said[:, at : at + 1], slots).logits for at in range(5)]
            return first.logits, torch.cat(more, 1), slots

        before, after, whole = run()
        merged, then, slots = run(ToMe(0.5, layer=later_layer or 0).policy())
        text = (stream.kinds != IMAGE) & stream.valid
        close(merged[text], before[text])
        close(then, after)
        stayed = ~merged.isnan().any(-1)
        images = (stream.kinds == IMAGE).sum(1)
        assert torch.equal((stayed & (stream.kinds == IMAGE)).sum(1), images // 2)
        close(merged[stayed], before[stayed])
        assert slots.nbytes() < whole.nbytes()
        dropped, lost, _ = run(RandomTokens(0.5).policy())
        assert float((dropped[text] - before[text]).abs().max()) > 1e-2 * float(before[text].abs().max())
        assert float((lost - after).abs().max()) > 1e-2 * float(after.abs().max())


@pytest.mark.parametrize("keep", [0.6, 0.25])
def test_token_by_token_it_says_what_it_says_at_once(keep: float) -> None:
    """Slots remember the sizes of the keys that they store."""
    model, inputs = make("llava")
    body, said = anatomy.of(model), torch.randint(4, 90, (4, 6))
    policies, slots = [ToMe(keep).policy()], Slots()
    longer = {
        "input_ids": torch.cat([inputs["input_ids"], said], 1),
        "attention_mask": torch.cat([inputs["attention_mask"], torch.ones_like(said)], 1),
        "pixel_values": inputs["pixel_values"],
    }
    with torch.no_grad():
        wanted = prefill(body, longer, policies).logits[:, -6:]
        prefill(body, inputs, policies, slots)
        found = torch.cat([step(body, said[:, at : at + 1], slots).logits for at in range(6)], 1)
    close(found, wanted)
    sizes = slots.layers[3].size
    wanted_sum = inputs["attention_mask"].sum(1) + 6
    valid = slots.layers[3].valid
    assert torch.equal((sizes * valid).sum(1).long(), wanted_sum)


def test_two_mergings_add_up_and_later_policies_see_the_sizes() -> None:
    model, inputs = make("llava")
    body = anatomy.of(model)
    with torch.no_grad():
        out = prefill(body, inputs, [ToMe(0.6, layer=0).policy(), ToMe(0.5, layer=2).policy()])
        both = prefill(body, inputs, [ToMe(0.6).policy(), FastV(0.5, layer=2).policy()])
    valid = out.stream.valid
    assert torch.equal((out.stream.side[SIZE] * valid).sum(1).long(), inputs["attention_mask"].sum(1))
    image = inputs["input_ids"] == tiny.IMAGE_TOKEN
    first = [max(1, int(n * 0.6 + 0.5)) if n else 0 for n in image.sum(1).tolist()]
    second = [max(1, int(n * 0.5 + 0.5)) if n else 0 for n in first]
    for result in (out, both):
        assert (result.stream.kinds == IMAGE).sum(1).tolist() == second
        assert [int(n) for n in (result.kept[1].before - result.kept[1].after)] == [
            a - b for a, b in zip(first, second, strict=True)
        ]


def test_the_last_token_is_never_merged_away() -> None:
    """Where a prompt ends in its picture: the next token comes from there."""
    model, inputs = make("llava")
    body = anatomy.of(model)
    end = int((inputs["input_ids"][2] == tiny.IMAGE_TOKEN).nonzero().max()) + 1
    begin = int(inputs["attention_mask"][2].argmax())
    ids = inputs["input_ids"][2:3, begin:end]
    for cut in (0, 1):  # the last of an odd and of an even number, in A and in B
        short = torch.cat([ids[:, :1], ids[:, 1 + cut :]], 1)
        left, there = torch.tensor([[0, *range(1 + cut, ids.shape[1])]]), torch.ones_like(short).bool()
        stream = body.embed({"input_ids": ids, "pixel_values": inputs["pixel_values"][:1]}).gather(left, there)
        stream = replace(stream, source=torch.arange(short.shape[1])[None])
        with torch.no_grad():
            found = prefill(Shown(body, stream), {"input_ids": short}, [ToMe(0.1).policy()])
        assert not found.logits[0, -1].isnan().any()
        assert found.stream.source[0, -1] == short.shape[1] - 1


def test_the_mask_by_sizes_is_attention_over_that_many_equal_keys() -> None:
    q, k, v = (torch.randn(1, 2, n, 4) for n in (3, 5, 5))
    where, valid = torch.arange(5)[None], torch.tensor([[False, True, True, True, True]])
    size = torch.tensor([[1.0, 3.0, 1.0, 2.0, 1.0]])
    mask = masks.shown(where[:, -3:], where, valid, None, 2, None, False, size, torch.float32)
    found = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    every = [0, 1, 1, 1, 2, 3, 3, 4]
    plain = masks.causal(where[:, -3:], where, valid, None)[..., every]
    wanted = torch.nn.functional.scaled_dot_product_attention(q, k[:, :, every], v[:, :, every], attn_mask=plain)
    close(found, wanted)
    ones = masks.shown(where[:, -3:], where, valid, None, 2, None, False, torch.ones(1, 5), torch.float32)
    assert ones.dtype == torch.bool
    assert torch.equal(ones, masks.causal(where[:, -3:], where, valid, None))
