"""The compiled sweep against its forms in torch, which say what is computed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from trimtab.core import native
from trimtab.core.fit import Site
from trimtab.core.hessian import conditioned, inverse_root
from trimtab.core.native import Swept, sweep
from trimtab.core.stats import Gram
from trimtab.core.weight import Dense, Weight
from trimtab.quantize import AWQ, GPTQ, RTN
from trimtab.quantize.gptq import solve
from trimtab.quantize.grid import decode, shares, span
from trimtab.quantize.scaled import nearest, off

pytestmark = pytest.mark.usefixtures("compiled")
GRIDS = [(4, 16, False), (4, 32, True), (3, 64, False), (2, -1, True), (8, 16, True)]
SHAPES = [(64, 64), (128, 70), (192, 5)]


def layer(n: int, rows: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """W^T, H and its inverse root."""
    x = torch.randn(3 * n, n) @ (torch.randn(n, n) / n**0.5 + 0.3 * torch.eye(n))
    h = conditioned(x.T @ x)
    return (0.02 * torch.randn(n, rows)).to(dtype).float(), h, inverse_root(h, 0.01)[0]


def values(found: Swept, dtype: torch.dtype) -> Tensor:
    grouped = found.codes.float().unflatten(0, (len(found.scale), -1))
    return decode(grouped, found.scale.float()[:, None], found.zero.float()[:, None], dtype).flatten(0, 1)


def lost(w: Tensor, found: Swept, h: Tensor, dtype: torch.dtype) -> float:
    d = (w - values(found, dtype)).double()
    return float((h.double() @ d * d).sum())


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("n", "rows"), SHAPES)
@pytest.mark.parametrize(("bits", "group", "symmetric"), GRIDS)
def test_it_sweeps_as_torch_does(
    bits: int, group: int, symmetric: bool, n: int, rows: int, dtype: torch.dtype, clip: bool
) -> None:
    """All codes but those whose value lies on the edge between two, and no more lost."""
    w, h, u = layer(n, rows, dtype)
    weight, knobs = h.diagonal() + 0.01, GPTQ(bits, group, symmetric, clip=clip)
    ours = sweep(w, u, weight, shares(bits, clip), bits, span(group, n), symmetric, dtype)
    assert ours is not None
    theirs = solve(w.clone(), u, weight, knobs, dtype)
    assert (ours.codes == theirs.codes).float().mean() > 0.98
    assert lost(w, ours, h, dtype) == pytest.approx(lost(w, theirs, h, dtype), rel=0.01)
    assert torch.equal(ours.scale.to(dtype).float(), ours.scale), "scales are those that will be stored"


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("n", "rows"), SHAPES)
@pytest.mark.parametrize(("bits", "group", "symmetric"), GRIDS)
def test_it_rounds_as_torch_does(
    bits: int, group: int, symmetric: bool, n: int, rows: int, dtype: torch.dtype, clip: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    w, h, _ = layer(n, rows, dtype)
    weight, knobs = h.diagonal(), AWQ(bits, group, symmetric)
    ours = nearest(w, weight, knobs, clip, dtype)
    monkeypatch.setattr("trimtab.quantize.scaled.sweep", lambda *_: None)
    theirs = nearest(w, weight, knobs, clip, dtype)
    assert (ours.codes == theirs.codes).float().mean() > 0.98
    ours_lost, theirs_lost = ((weight @ (w - one.values(dtype)) ** 2).sum() for one in (ours, theirs))
    torch.testing.assert_close(ours_lost, theirs_lost, rtol=1e-3, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("n", "rows"), SHAPES)
@pytest.mark.parametrize(("bits", "group", "symmetric"), GRIDS)
def test_what_rounding_loses_is_what_torch_says(
    bits: int, group: int, symmetric: bool, n: int, rows: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    w, back, knobs = torch.randn(n, rows), torch.rand(n) + 0.3, AWQ(bits, group, symmetric)
    ours = off(w, back, knobs, dtype)
    monkeypatch.setattr("trimtab.quantize.scaled.lost", lambda *_: None)
    theirs = off(w, back, knobs, dtype)
    assert torch.isclose(ours, theirs, rtol=1e-4, atol=1e-6).float().mean() > 0.98, "but on the edge between two codes"
    torch.testing.assert_close(ours.square().sum(), theirs.square().sum(), rtol=1e-3, atol=0)


@pytest.mark.parametrize("fit", [GPTQ(3, 16), RTN(4, 16, True), AWQ(2, 16)])
def test_a_method_gives_the_same_without_it(fit: GPTQ | RTN | AWQ, monkeypatch: pytest.MonkeyPatch) -> None:
    w, x = torch.randn(72, 64).bfloat16(), torch.randn(256, 64) @ torch.randn(64, 64)
    gram = Gram(64)
    gram.add(x, torch.zeros(256, dtype=torch.int64))

    def error(found: Weight) -> float:
        return float(((w.double() - found.dense().double()) @ x.double().T).square().sum())

    site = Site("layer", lambda: w, gram)
    fast = fit(Dense(w), site)
    monkeypatch.setattr(native, "library", lambda: None)
    slow = fit(Dense(w), site)
    assert slow.spec() == fast.spec()
    assert error(fast) == pytest.approx(error(slow), rel=0.02)


def test_a_library_that_cannot_be_loaded_is_as_none(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / native.NAME).write_bytes(b"not a library")
    monkeypatch.setattr(native, "FOLDER", tmp_path)
    native.library.cache_clear()
    try:
        assert native.library() is None
        assert sweep(torch.randn(16, 4), None, torch.ones(16), torch.ones(1), 4, 16, False, torch.float32) is None
    finally:
        native.library.cache_clear()
