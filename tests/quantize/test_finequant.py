"""What is special to FineQuant: groups follow outliers, half a step is the most that is lost, a plan says at most."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trimtab import anatomy as anatomies
from trimtab.anatomy import tiny
from trimtab.core.fit import Site
from trimtab.core.linear import Linear
from trimtab.core.weight import Dense, Quantized, bits
from trimtab.quantize import RTN, FineQuant
from trimtab.quantize import finequant as module
from trimtab.quantize.finequant import chosen, halvings, square_ranges
from trimtab.run import plan as plans
from trimtab.run.recipe import Recipe
from trimtab.run.walk import walk
from trimtab.runtime.kernels import INT4_ROWS
from trimtab.runtime.lower import lower


def fitted(w: Tensor, **knobs: Any) -> Quantized:
    found = FineQuant(**knobs)(Dense(w), Site("", lambda: w))
    assert isinstance(found, Quantized)
    return found


def planted(rows: int, width: int, share: float = 1.0, size: float = 30.0) -> Tensor:
    """Normal weights, and in a share of the rows one of ``size`` of their deviations."""
    w = torch.randn(rows, width)
    hit = torch.arange(round(share * rows))
    w[hit, torch.randint(0, width, (len(hit),))] = size
    return w


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("wide", [4, 8])
@pytest.mark.parametrize("width", [128, 512, 640, 1024])
def test_matrices_without_outliers_keep_a_scale_for_each_row(width: int, wide: int, symmetric: bool) -> None:
    for w in (torch.randn(48, width), torch.rand(48, width) - 0.5, torch.full((48, width), 0.3)):
        assert fitted(w, bits=wide, symmetric=symmetric).group_size == width


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("width", "group"), [(128, 64), (512, 64), (640, 80), (1024, 64), (192, 96), (96, 96)])
@pytest.mark.parametrize("share", [1.0, 0.1])
def test_planted_outliers_get_small_groups(width: int, group: int, share: float, symmetric: bool) -> None:
    w = planted(40, width, share)
    assert fitted(w, symmetric=symmetric).group_size == group


def test_an_outlier_in_every_small_group_needs_none_of_them() -> None:
    """Halving narrows no range."""
    w = torch.randn(16, 512)
    w[:, ::64] = 30.0
    assert fitted(w).group_size == 512


@pytest.mark.parametrize(
    ("width", "least", "wide", "sizes"),
    [
        (1024, 64, 4, [1024, 512, 256, 128, 64]),
        (640, 64, 4, [640, 320, 160, 80]),
        (96, 64, 4, [96]),
        (96, 6, 3, [96, 48, 24]),
        (48, 1, 2, [48, 24, 12]),
        (30, 1, 8, [30, 15]),
        (256, -1, 4, [256]),
    ],
)
def test_halves_are_whole_fill_bytes_and_stop_at_the_least(width: int, least: int, wide: int, sizes: list) -> None:
    assert halvings(width, least, wide) == sizes


def test_it_goes_on_while_a_halving_narrows_the_range_by_more_than_alpha() -> None:
    """Ranges 10, 8, 7.3: by 20 % and by 8.75 %."""
    ranges = torch.tensor([100.0, 64.0, 7.3**2], dtype=torch.float64)
    assert [chosen([256, 128, 64], ranges, alpha) for alpha in (0.0, 0.08, 0.09, 0.19, 0.21)] == [64, 64, 128, 128, 256]
    assert chosen([256, 128], torch.zeros(2), 0.1) == 256
    assert chosen([96], torch.ones(1), 0.0) == 96


@pytest.mark.parametrize("symmetric", [True, False])
def test_square_ranges_are_those_of_each_group(symmetric: bool) -> None:
    w, sizes = torch.randn(5, 48) + 1, [48, 24, 12, 6]
    for size, found in zip(sizes, square_ranges(w, sizes, symmetric), strict=True):
        expected = 0.0
        for row in w.tolist():
            spans = []
            for a in range(0, 48, size):
                low, high = min(0.0, *row[a : a + size]), max(0.0, *row[a : a + size])
                spans.append(2 * max(-low, high) if symmetric else high - low)
            expected += sum(span**2 for span in spans) / len(spans)
        assert found.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("wide", [2, 3, 4, 8])
def test_no_weight_is_more_than_half_a_step_off(wide: int, symmetric: bool) -> None:
    for w in (torch.randn(24, 256), planted(24, 256), torch.rand(24, 256) + 1, -torch.rand(24, 256).square()):
        q = fitted(w, bits=wide, symmetric=symmetric)
        step = q.scale.repeat_interleave(q.group_size, 1)
        assert ((q.dense() - w).abs() <= step * (0.5 + 1e-4)).all()


def squared(w: Tensor, q: Quantized) -> float:
    return float((q.dense() - w).square().sum())


def test_the_error_is_within_a_tenth_of_the_finest_grids_at_fewer_scales() -> None:
    """Weights spread evenly, as layers begin, and in two of eight matrices outliers: each matrix, and all of them."""
    matrices = [torch.rand(64, 512) - 0.5 for _ in range(8)]
    for w in matrices[::4]:
        w[torch.arange(64), torch.randint(0, 512, (64,))] *= 30
    ours, finest, coarsest = [fitted(w) for w in matrices], list[Quantized](), list[Quantized]()
    for w in matrices:
        for group, kind in ((64, finest), (-1, coarsest)):
            kind.append(RTN(4, group, True, clip=False)(Dense(w), Site("", lambda: w)))  # type: ignore[arg-type] # noqa: B023
    assert [q.group_size for q in ours] == [64, 512, 512, 512] * 2
    lost = [[squared(w, q) for w, q in zip(matrices, kind, strict=True)] for kind in (ours, finest, coarsest)]
    assert all(a <= 1.1 * b for a, b in zip(*lost[:2], strict=True))
    assert sum(lost[2]) > 3 * sum(lost[0])
    scales = [sum(q.scale.numel() for q in kind) for kind in (ours, finest)]
    assert scales[0] < 0.4 * scales[1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("wide", "w", "kernel", "group"),
    [
        (8, torch.randn(48, 320, generator=torch.Generator().manual_seed(0)), "int8pack", 320),
        (4, torch.randn(48, 320, generator=torch.Generator().manual_seed(1)), "int4pack", 320),
        (4, planted(48, 256), "int4pack", 64),
    ],
)
def test_the_fused_product_is_that_of_the_dequantized_matrix(
    wide: int, w: Tensor, kernel: str, group: int, dtype: torch.dtype
) -> None:
    """Whole rows of 4 bits by the kernel of smaller groups."""
    q = fitted(w.to(dtype), bits=wide)
    assert q.group_size == group
    host = Linear(q, None, "layer")
    assert lower(nn.Sequential(host), capability="AVX2", hold=0, compiled=False).kernels == {"layer": kernel}
    for rows in (1, 5, INT4_ROWS + 1):
        x = torch.randn(rows, w.shape[1], dtype=dtype)
        expected = x.double() @ q.dense().double().T
        few = rows <= (12 if wide == 8 else INT4_ROWS)
        limit = 1e-2 if few or dtype == torch.bfloat16 else 3e-6
        assert (host(x).double() - expected).abs().max() < limit * expected.abs().max()


def test_parts_change_nothing_and_another_dtype_decides_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    w = planted(50, 256, 0.2)
    whole = fitted(w)
    assert whole.group_size == fitted(w.bfloat16()).group_size == 64
    monkeypatch.setattr(module, "NUMBERS", 1000)
    assert torch.equal(fitted(w).codes, whole.codes)


def test_each_matrix_of_a_model_has_its_own_groups_and_the_plan_is_a_bound() -> None:
    model, _ = tiny.make("llama")
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight[:, 5] *= 30
    anatomy = anatomies.of(model)
    fit = FineQuant(group_size=8, alpha=0.25)
    foretold = {n: fit.stored(*host.w.shape, 0) for n, host in anatomy.linears()}
    walk(anatomy, [], fit, ["language"])
    groups = {n: host.w.group_size for n, host in anatomy.linears() if isinstance(host.w, Quantized)}
    name = "model.layers.1.mlp.down_proj"
    least = halvings(dict(anatomy.linears())[name].w.shape[1], 8, 4)[-1]
    assert groups.pop(name) == least
    assert min(groups.values()) > least
    for path, host in anatomy.linears():
        if path in groups:
            stored = bits(host.w) - 16 * host.w.scale.numel()  # here scales are float32, in a checkpoint of 16 bits 16
            assert stored <= foretold[path]


@pytest.mark.parametrize(("method", "bounded"), [("finequant", True), ("rtn", False)])
def test_a_plan_says_at_most_where_weights_decide(method: str, bounded: bool) -> None:
    task = {"dataset": "easyvqa"}
    found = plans.plan(Recipe.parse({"model": "builtin:easyvqa-llava", "task": task, "steps": [{method: {}}]}))
    assert found.at_most is bounded
    assert ("at most" in plans.show(found)) is bounded
    assert found.row()["at_most"] is bounded


@pytest.mark.parametrize(
    ("knobs", "says"),
    [
        ({"bits": 5}, "2, 3, 4, 8"),
        ({"group_size": 0}, r"group_size: got 0; .*nearest: 1"),
        ({"group_size": -2}, "group_size: got -2"),
        ({"alpha": 1.0}, r"alpha: got 1\.0; accepted: 0 to below 1"),
        ({"alpha": -0.1}, "alpha"),
        ({"bits": 3, "group_size": 4}, "group_size: got 12"),
    ],
)
def test_knobs_that_do_not_fit_are_refused(knobs: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        FineQuant(**knobs).check(12)
