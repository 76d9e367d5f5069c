"""What a token counts where: the decoder's blocks alone are weighed, and the Grams of a walk are those of the rule."""

from __future__ import annotations

import pytest
import torch

from trimtab import anatomy
from trimtab.anatomy import tiny
from trimtab.core.errors import BadInput
from trimtab.core.fit import Site
from trimtab.core.reservoir import Reservoir
from trimtab.core.sensitivity import Sensitivity
from trimtab.core.stats import IMAGE, KINDS, TEXT, Gram
from trimtab.core.weight import Weight
from trimtab.prune import Wanda
from trimtab.quantize import GPTQ, MBQ
from trimtab.run.arms import ARMS
from trimtab.run.walk import walk
from trimtab.run.weigh import maker, weights

LAYER = "model.language_model.layers.{}.self_attn.q_proj"


def known(ratio: float) -> Sensitivity:
    sizes = torch.zeros(5, len(KINDS))
    sizes[:, TEXT], sizes[:, IMAGE] = 1.0, ratio
    return Sensitivity(tuple(f"model.language_model.layers.{i}" for i in range(4)), sizes, sizes, (1, 1, 0, 0, 0))


def test_each_way_to_weigh() -> None:
    assert weights("pooled", "layer", None) is None
    assert weights("text", "layer", None).tolist() == [1, 0, 0, 0, 0]
    assert weights("image", "layer", None).tolist() == [0, 1, 0, 0, 0]
    assert weights("balanced", LAYER.format(2), known(0.5)).tolist() == [1, 0.5, 1, 1, 1]
    with pytest.raises(BadInput, match=r"balanced.*sensitivity"):
        weights("balanced", "layer", None)


@pytest.mark.parametrize("how", ARMS)
def test_outside_the_decoder_all_count_alike(how: str) -> None:
    body = anatomy.of(tiny.make("llava")[0])
    make = maker(body, GPTQ(), how, known(0.5))
    blocks = tuple(body.blocks()[index].name for index in body.layers())
    for name, _ in body.linears():
        assert (make(name, 8).weights is not None) == (how != "pooled" and name.startswith(blocks)), name
    assert make("head", 8).weights is None
    assert make("model.language_model.layers.10.x", 8).weights is None, "layer 1 is no part of layer 10"


def test_rows_are_kept_for_methods_that_ask() -> None:
    body = anatomy.of(tiny.make("llava")[0])
    assert maker(body, GPTQ(), "pooled", None)("head", 8).sample is None
    assert isinstance(maker(body, MBQ(ratio=1.0), "pooled", None)("head", 8).sample, Reservoir)


@pytest.mark.parametrize("several", [False, True])
def test_a_walk_gathers_what_was_said(several: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one stream and replayed: with text alone the Gram of an early layer is that of the text tokens."""
    model, batch = tiny.make("llava")
    body, seen = anatomy.of(model), {}

    def fit(self: Wanda, w: Weight, site: Site) -> Weight:
        seen[site.name] = site.gram
        return w

    monkeypatch.setattr(Wanda, "__call__", fit)
    batches, first = [batch], {"text": Gram(32), "image": Gram(32)}
    if several:
        other = tiny.batch("llava", model)
        batches = [batch, other]
    with torch.no_grad():
        for one in batches:
            stream = body.embed(one)
            x = body.model.model.language_model.layers[0].input_layernorm(stream.x)
            for name, kind in (("text", TEXT), ("image", IMAGE)):
                rows = x[stream.valid & (stream.kinds == kind)]
                first[name].add(rows, torch.full((len(rows),), kind))
    for how in ("text", "image"):
        walk(body, batches, Wanda(), ["language"], make=maker(body, Wanda(), how, None), max_tokens=1)
        gram = seen[LAYER.format(0)]
        torch.testing.assert_close(gram.read(), first[how].read(), rtol=1e-4, atol=1e-3)
        assert gram.seen[TEXT] > 0
        assert gram.seen[IMAGE] > 0, "counts stay counts"
