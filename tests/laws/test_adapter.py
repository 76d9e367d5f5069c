"""Laws of adapters: every method of the family, on every kind of base, is what its equation says and can be stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

import trimtab.adapt
from trimtab import methods
from trimtab.adapt import peft
from trimtab.adapt.lora import attached, settled
from trimtab.core.build import build
from trimtab.core.codebook import Codebook
from trimtab.core.factors import LowRank
from trimtab.core.fit import Fit, Site
from trimtab.core.joins import Sum, leaves
from trimtab.core.linear import Linear
from trimtab.core.sparse import Masked
from trimtab.core.weight import Dense, Quantized, Weight, bits
from trimtab.quantize.fp4 import FP4
from trimtab.quantize.nf4 import NF4
from trimtab.quantize.rtn import RTN
from trimtab.run.adapt import rounded
from trimtab.run.invariants import PREDICATES, State, adapters, masked, on_grid

OUT, IN, RANK = 16, 32, 3
KNOBS = {
    "lora": [{"r": RANK, "lora_alpha": 6.0}, {"r": RANK, "lora_alpha": 6.0, "use_rslora": True}],
    "load_adapter": [{"use_rslora": False}, {"use_rslora": True}],
    "merge": [{}, {"requantize": True}],
}


def quantized(method: Fit) -> Weight:
    w = Dense(torch.randn(OUT, IN))
    return method(w, Site("layer", w.dense))


BASES: dict[str, Callable[[], Weight]] = {
    "dense": lambda: Dense(torch.randn(OUT, IN)),
    "bfloat16": lambda: Dense(torch.randn(OUT, IN).bfloat16()),
    "on_grid": lambda: quantized(RTN(bits=4, group_size=8)),
    "nf4": lambda: quantized(NF4(group_size=8)),
    "mxfp4": lambda: quantized(FP4("mxfp4", rotate=16)),
    "nvfp4": lambda: quantized(FP4("nvfp4")),
    "masked": lambda: Masked.of(torch.randn(OUT, IN), torch.rand(OUT, IN) < 0.5),
}
ON_GRID = ("on_grid", "nf4", "mxfp4", "nvfp4")
CASES = [pytest.param(name, knobs, base, id=f"{name}-{i}-{base}") for name in KNOBS
         for i, knobs in enumerate(KNOBS[name]) for base in BASES]  # fmt: skip
every = pytest.mark.parametrize(("name", "knobs", "base"), CASES)


def random_low(scale: float) -> LowRank:
    return LowRank(nn.Parameter(torch.randn(OUT, RANK)), nn.Parameter(torch.randn(RANK, IN)), scale)


def made(name: str, knobs: dict[str, Any], w: Weight, folder: Path) -> tuple[Weight, Tensor]:
    """What the method leaves at ``w``, and the matrix that it is meant to be, in float64."""
    if name == "load_adapter":
        rslora = knobs["use_rslora"]
        scale = 6.0 / (RANK**0.5 if rslora else RANK)
        low = random_low(scale)
        peft.write(folder, {"layer": low}, "base", 6.0, rslora)
        method = methods.make(name, {"path": str(folder)})
        return method.adapters()["layer"].beside(w), _ideal(w, low, scale)
    method = methods.make("lora" if name == "merge" else name, KNOBS["lora"][0] if name == "merge" else knobs)
    low = random_low(method.scale)
    ideal = _ideal(w, low, method.scale)
    if isinstance(w, Masked):
        ideal = ideal * w.kept()
    left = settled(attached(w, low), w.dtype)
    return (left, ideal) if name == "lora" else (methods.make(name, knobs)(left, "layer", rounded), ideal)


def _ideal(w: Weight, low: LowRank, scale: float) -> Tensor:
    return (w.dense().double() + scale * low.left.double() @ low.right.double()).detach()


def test_every_method_of_the_family_is_here() -> None:
    assert set(KNOBS) == set(trimtab.adapt.METHODS)


@every
def test_it_is_the_base_plus_the_scaled_product(name: str, knobs: dict[str, Any], base: str, tmp_path: Path) -> None:
    w = BASES[base]()
    if name == "merge" and base in ON_GRID and not knobs:
        with pytest.raises(ValueError, match="requantize"):
            made(name, knobs, w, tmp_path)
        return
    left, ideal = made(name, knobs, w, tmp_path)
    x = torch.randn(5, IN)
    wanted = x.double() @ ideal.T
    share = 1e-5 if w.dtype == torch.float32 else 2e-2
    if name == "merge" and base in ON_GRID:
        before = next(leaves(w))
        assert isinstance(left, Quantized | Codebook)
        assert left.spec() == before.spec()
        share = 0.2  # rounded to 4 bits again
    assert (left(x).double() - wanted).abs().max() <= share * wanted.abs().max()


@every
def test_what_it_leaves_can_be_stored_and_counted(name: str, knobs: dict[str, Any], base: str, tmp_path: Path) -> None:
    if name == "merge" and base in ON_GRID:
        knobs = {"requantize": True}
    left, _ = made(name, knobs, BASES[base](), tmp_path)
    blob = save({key: value.contiguous() for key, value in left.state_dict().items()})
    again = build(left.spec())
    again.load_state_dict(load(blob), strict=True)
    assert torch.equal(again.dense(), left.dense())
    assert bits(left) == 8 * (len(blob) - 8 - int.from_bytes(blob[:8], "little"))
    assert not any(value.requires_grad for value in left.parameters()), "nothing is left to be trained"


@every
def test_the_invariants_of_its_card_hold(name: str, knobs: dict[str, Any], base: str, tmp_path: Path) -> None:
    w, card = BASES[base](), methods.get(name).CARD
    if name == "merge" and base in ON_GRID:
        knobs = {"requantize": True}
    host = Linear(w, None, "layer")
    before = [*on_grid({"layer": host}, "before"), *masked({"layer": host}, "before")]
    host.w, _ = made(name, knobs, w, tmp_path)
    state = State({"layer": host}, [])
    for one in before:
        if one.name in card.preserves:  # of the leaf: a foreign adapter beside a stored mask leaves it as it is
            assert PREDICATES[one.name](state, one) is None
    standing = adapters({"layer": host}, "now")
    assert bool(standing) == isinstance(host.w, Sum)
    assert all(PREDICATES["adapter"](state, one) is None for one in standing)
    for one in standing:
        low = next(part for part in host.w if isinstance(part, LowRank))
        low.left.data[0, 0] = torch.nan
        assert PREDICATES["adapter"](state, one) is not None
        host.w = w
        assert PREDICATES["adapter"](state, one) is not None
