"""Laws of Fit: every layer-wise method of the tables, on layers with correlated inputs."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import fields
from importlib import import_module

import numpy as np
import pytest
import torch
from torch import Tensor

import trimtab.factorize
import trimtab.prune
import trimtab.quantize
from trimtab.core.factors import Diagonal, LowRank
from trimtab.core.fit import Fit, Site
from trimtab.core.joins import leaves
from trimtab.core.sparse import Masked
from trimtab.core.stats import Gram
from trimtab.core.weight import Dense, Quantized, Weight, bits
from trimtab.quantize.rtn import RTN

FAMILIES = [trimtab.quantize, trimtab.prune, trimtab.factorize]
METHODS = {
    name: place for family in FAMILIES for name, place in (family.METHODS | getattr(family, "CONTROLS", {})).items()
}
SEEDS = range(20)

GRIDS = [
    {"bits": 2, "group_size": 8},
    {"bits": 3, "group_size": 16},
    {"bits": 4, "group_size": 16},
    {"bits": 4, "group_size": 8, "symmetric": True},
    {"bits": 8, "group_size": -1, "clip": False},
    {"bits": 3, "group_size": -1},
]
MASKS = [{"keep": 0.5}, {"keep": 0.3}, {"keep": 0.5, "pattern": "2:4"}, {"keep": 0.25, "pattern": "2:8"}]
BUDGETS = [
    {"bits": 4.5, "group_size": 16},
    {"budget": "0.34375x", "method": "rtn", "group_size": 16},
    {"bits": 5.0, "method": "gptq", "group_size": 16, "symmetric": True, "choices": (4, 2)},
]
"""What 3, 4 and 4 bits take, with scales of 16 bits."""
SHARES = [{"alpha": 0.25}, {"alpha": 0.5}, {"alpha": 0.75}]
RANKS = [{"r": 1}, {"r": 3}, {"r": 5}]
KNOBS = {
    "rtn": GRIDS,
    "gptq": GRIDS,
    "awq": GRIDS,
    "w8a8": [{}],
    "smoothquant": SHARES,
    "mixed": BUDGETS,
    "magnitude": MASKS,
    "wanda": MASKS,
    "sparsegpt": MASKS,
    "eora": RANKS,
    "svd": RANKS,
}
CHANGES = ("sparsegpt",)
"""Pruners that change what stays."""


def cases(knobs: list[dict] | None = None) -> list:
    """Every method with each of its knobs, or only those that take ``knobs``."""
    chosen = [name for name in KNOBS if knobs in (None, KNOBS[name])]
    return [pytest.param(name, one, id=f"{name}-{i}") for name in chosen for i, one in enumerate(KNOBS[name])]


CASES = cases()


def method(name: str) -> type:
    module, _, found = METHODS[name].partition(":")
    return getattr(import_module(module), found)


def layer(out: int, width: int, tokens: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """A matrix, calibration rows and held-out rows; inputs are correlated, of unequal size, off zero."""
    g = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=g) / width**0.5 + 0.3 * torch.eye(width)
    scale = torch.logspace(-0.5, 0.5, width)[torch.randperm(width, generator=g)]
    x, held = ((torch.randn(tokens, width, generator=g) @ mix + 0.2) * scale for _ in range(2))
    return torch.randn(out, width, generator=g) * 0.1, x, held


def site(w: Tensor, x: Tensor) -> Site:
    gram = Gram(x.shape[1])
    gram.add(x, torch.zeros(len(x), dtype=torch.int64))
    return Site("layer", lambda: w, gram)


def start(name: str, w: Tensor) -> Weight:
    """What a method is given: the matrix, or, where it makes up for what was lost, the matrix on a coarse grid."""
    return RTN(3, 16)(Dense(w), Site("", lambda: w)) if method(name).CARD.wants_source else Dense(w)


def leaf(w: Weight, kind: type) -> Weight:
    """The one leaf of ``kind``."""
    (found,) = (one for one in leaves(w) if isinstance(one, kind))
    return found


def objective(w: Tensor, fitted: Weight, x: Tensor) -> float:
    """tr(D H D^T) with D = W - W', H = X^T X, in float64."""
    d = (w.double() - fitted.dense().double()) @ x.double().T
    return d.square().sum().item()


def slow_grid(w: np.ndarray, weight: np.ndarray, knobs: dict) -> tuple[float, float]:
    top, best = 2 ** knobs["bits"] - 1, (np.inf, 0.0, 0.0)
    for step in range({2: 29, 3: 29, 4: 25, 8: 7}[knobs["bits"]] if knobs.get("clip", True) else 1):
        low, high = (1 - step / 40) * min(w.min(), 0), (1 - step / 40) * max(w.max(), 0)
        scale = 2 * max(-low / (top + 1), high / top) if knobs.get("symmetric") else (high - low) / top
        scale = float(np.float32(scale)) or 1.0
        zero = (top + 1) / 2 if knobs.get("symmetric") else float(np.rint(-low / scale))
        q = np.clip(np.rint(w / scale) + zero, 0, top)
        best = min(best, (float(weight @ ((q - zero) * scale - w) ** 2), scale, zero), key=lambda found: found[0])
    return best[1:]


def slow_rtn(w: np.ndarray, x: np.ndarray, knobs: dict) -> np.ndarray:
    codes, size = np.zeros(w.shape), knobs["group_size"] if knobs["group_size"] > 0 else w.shape[1]
    for r, row in enumerate(w):
        for a in range(0, w.shape[1], size):
            scale, zero = slow_grid(row[a : a + size], np.ones(size), knobs)
            codes[r, a : a + size] = np.clip(np.rint(row[a : a + size] / scale) + zero, 0, 2 ** knobs["bits"] - 1)
    return codes


INT8 = {"bits": 8, "group_size": -1, "symmetric": True, "clip": False}


def slow_w8a8(w: np.ndarray, x: np.ndarray, knobs: dict) -> np.ndarray:
    return slow_rtn(w, x, INT8)


def slow_smoothquant(w: np.ndarray, x: np.ndarray, knobs: dict) -> np.ndarray:
    """Codes of W diag(s), s from the largest input and the largest weight of each column."""
    s = [np.abs(x[:, j]).max() ** knobs["alpha"] / np.abs(w[:, j]).max() ** (1 - knobs["alpha"])
         for j in range(w.shape[1])]  # fmt: skip
    return slow_rtn(w / np.float32(np.sqrt(max(s) * min(s)) / s).astype(float), x, INT8)


def slow_gptq(w: np.ndarray, x: np.ndarray, knobs: dict) -> np.ndarray:
    """Optimal brain surgeon in column order: the whole inverse Hessian, a row and column eliminated per step."""
    codes, size = np.zeros(w.shape), knobs["group_size"] if knobs["group_size"] > 0 else w.shape[1]
    h = x.T @ x
    h = h + 0.01 * np.mean(np.diag(h)) * np.eye(len(h))
    inverse, w = np.linalg.inv(h), w.copy()
    for i in range(w.shape[1]):
        if i % size == 0:
            grids = [slow_grid(row[i : i + size], np.diag(h)[i : i + size], knobs) for row in w]
        for r, (scale, zero) in enumerate(grids):
            codes[r, i] = np.clip(np.rint(w[r, i] / scale) + zero, 0, 2 ** knobs["bits"] - 1)
            w[r] -= (
                (w[r, i] - (codes[r, i] - zero) * scale)
                / inverse[i, i]
                * np.where(np.arange(len(h)) >= i, inverse[i], 0)
            )
        inverse = inverse - np.outer(inverse[:, i], inverse[i]) / inverse[i, i]
        inverse[i, i] = 1.0
    return codes


def slow_mixed(w: np.ndarray, x: np.ndarray, knobs: dict) -> np.ndarray:
    """One matrix alone: the most bits that are paid for, where its scales take 32."""
    most = knobs["bits"] if "bits" in knobs else 16 * float(knobs["budget"].removesuffix("x"))
    beside = (32 if knobs.get("symmetric") else 40) / knobs["group_size"]
    how = knobs | {"bits": max(b for b in knobs.get("choices", (2, 3, 4, 8)) if b + beside <= most)}
    return slow_rtn(w, x, how) if knobs.get("method") == "rtn" else slow_gptq(w, x, how)


def slow_awq(w: np.ndarray, x: np.ndarray, knobs: dict) -> np.ndarray:
    """Every exponent tried on the rows themselves; codes of the scaled weights."""
    size, (rows, n) = knobs["group_size"] if knobs["group_size"] > 0 else w.shape[1], w.shape
    means, h = np.abs(x).mean(0), np.mean(x**2, 0)

    def on_grid(v: np.ndarray, weight: np.ndarray, how: dict) -> tuple[np.ndarray, np.ndarray]:
        codes, values = np.zeros(v.shape), np.zeros(v.shape)
        for r, a in np.ndindex(rows, n // size):
            part = slice(a * size, (a + 1) * size)
            scale, zero = slow_grid(v[r, part], weight[part], how)
            codes[r, part] = np.clip(np.rint(v[r, part] / scale) + zero, 0, 2 ** how["bits"] - 1)
            values[r, part] = (codes[r, part] - zero) * scale
        return codes, values

    def lost(values: np.ndarray) -> np.ndarray:
        return np.square((w - values) @ x.T).sum(1)

    tried = []
    for i in range(20):
        s = np.maximum((means / means.max()) ** (i / 20), 1e-4)
        back = np.float32(1 / (s / np.sqrt(s.max() * s.min()))).astype(float)
        tried.append((lost(on_grid(w / back, h, knobs | {"clip": False})[1] * back).sum(), i, back))
    _, _, back = min(tried)
    codes, values = on_grid(w / back, h, knobs | {"clip": False})
    if knobs.get("clip", True):
        tight, clipped = on_grid(w / back, h * back**2, knobs)
        better = lost(clipped * back) < lost(values * back)
        codes, values = np.where(better[:, None], tight, codes), np.where(better[:, None], clipped, values)
    plain, rounded = on_grid(w, np.ones(n), knobs)
    return plain if lost(rounded).sum() <= lost(values * back).sum() else codes


def slow_mask(score: np.ndarray, knobs: dict) -> np.ndarray:
    """Entry by entry: True where fewer than so many of the row, or of the neighbours, are worth more."""
    mask, width = np.zeros(score.shape, dtype=bool), score.shape[1]
    n, m = map(int, knobs["pattern"].split(":")) if "pattern" in knobs else (round(knobs["keep"] * width), width)
    for r, row in enumerate(score):
        for j, value in enumerate(row):
            others = row[j // m * m : j // m * m + m]
            mask[r, j] = (others > value).sum() < n
    return mask


def slow_magnitude(w: np.ndarray, x: np.ndarray, knobs: dict) -> np.ndarray:
    return w * slow_mask(np.abs(w), knobs)


def slow_wanda(w: np.ndarray, x: np.ndarray, knobs: dict) -> np.ndarray:
    """What leaving out one weight alone changes of its row's output, measured by leaving it out."""
    score = np.zeros(w.shape)
    for r, j in np.ndindex(*w.shape):
        without = w[r].copy()
        without[j] = 0
        score[r, j] = np.linalg.norm(x @ w[r] - x @ without)
    return w * slow_mask(score, knobs)


def slow_sparsegpt(w: np.ndarray, x: np.ndarray, knobs: dict) -> np.ndarray:
    """Optimal brain surgeon in column order, each inverse of what is left taken anew; 0 where a weight is left out."""
    w, n = w.copy(), w.shape[1]
    h = x.T @ x
    h = h + 0.01 * np.mean(np.diag(h)) * np.eye(n)
    left = [np.linalg.inv(h[i:, i:])[0] for i in range(n)]
    size, mask = int(knobs["pattern"].split(":")[1]) if "pattern" in knobs else n, np.ones(w.shape, dtype=bool)
    for i in range(n):
        if i % size == 0:
            part = slice(i, i + size)
            mask[:, part] = slow_mask(w[:, part] ** 2 / [one[0] for one in left[part]], knobs)
        for r in np.flatnonzero(~mask[:, i]):
            w[r, i:] -= w[r, i] / left[i][0] * left[i]
    return np.where(mask, w, 0)


def slow_svd(w: np.ndarray, x: np.ndarray, knobs: dict) -> np.ndarray:
    coarse = start("svd", torch.tensor(w, dtype=torch.float32)).dense().double().numpy()
    u, s, v = np.linalg.svd(w - coarse, full_matrices=False)
    return coarse + (u * s)[:, : knobs["r"]] @ v[: knobs["r"]]


def slow_eora(w: np.ndarray, x: np.ndarray, knobs: dict) -> np.ndarray:
    """The catalogue's own steps, with a symmetric root of H."""
    coarse = start("eora", torch.tensor(w, dtype=torch.float32)).dense().double().numpy()
    values, q = np.linalg.eigh(x.T @ x)
    u, s, v = np.linalg.svd((w - coarse) @ q * np.sqrt(values), full_matrices=False)
    return coarse + (u * s)[:, : knobs["r"]] @ v[: knobs["r"]] / np.sqrt(values) @ q.T


REFERENCES: dict[str, Callable[[np.ndarray, np.ndarray, dict], np.ndarray]] = {
    "rtn": slow_rtn, "gptq": slow_gptq, "awq": slow_awq, "w8a8": slow_w8a8, "smoothquant": slow_smoothquant,
    "mixed": slow_mixed, "magnitude": slow_magnitude, "wanda": slow_wanda,
    "sparsegpt": slow_sparsegpt, "eora": slow_eora, "svd": slow_svd,
}  # fmt: skip


def test_every_method_is_seen() -> None:
    carded = {
        found.CARD.name
        for family in FAMILIES
        for info in pkgutil.iter_modules(family.__path__, family.__name__ + ".")
        for _, found in inspect.getmembers(import_module(info.name), inspect.isclass)
        if hasattr(found, "CARD")
    }
    assert carded == set(METHODS) == set(KNOBS) == set(REFERENCES)


@pytest.mark.parametrize("name", KNOBS)
def test_the_card_is_whole(name: str) -> None:
    card = method(name).CARD
    assert card.name == name
    assert card.where
    assert card.establishes
    assert card.baseline is None or card.baseline in METHODS


@pytest.mark.parametrize(("name", "knobs"), CASES)
def test_it_is_deterministic_and_leaves_its_input_alone(name: str, knobs: dict) -> None:
    w, x, _ = layer(8, 32, 128, 3)
    given, where = start(name, w.clone()), site(w, x)
    assert where.gram is not None
    before, sums = {key: value.clone() for key, value in given.state_dict().items()}, where.gram.read().clone()
    fit: Fit = method(name)(**knobs)
    first, second = fit(given, where), fit(given, where)
    assert all(torch.equal(value, before[key]) for key, value in given.state_dict().items())
    assert torch.equal(where.gram.read(), sums)
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), key


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("name", "knobs"), cases(GRIDS))
def test_the_result_lies_on_the_declared_grid(name: str, knobs: dict, dtype: torch.dtype) -> None:
    w, x, _ = layer(8, 32, 128, 4)
    fitted = method(name)(**knobs)(Dense(w.to(dtype)), site(w, x))
    q = leaf(fitted, Quantized)
    assert isinstance(q, Quantized)
    assert (fitted.shape, fitted.dtype) == ((8, 32), dtype)
    size = knobs["group_size"] if knobs["group_size"] > 0 else 32
    assert (q.bits, q.group_size, q.shape, q.dtype) == (knobs["bits"], size, (8, 32), dtype)
    assert (q.zero is None) == knobs.get("symmetric", False)
    assert q.scale.dtype == dtype
    assert (q.scale > 0).all()
    zero = torch.tensor(2.0 ** (q.bits - 1)) if q.zero is None else q.zero.float()[..., None]
    steps = q.dense().double().unflatten(1, (-1, size)) / q.scale.double()[..., None] + zero
    tolerance = {torch.float32: 1e-4, torch.float16: 0.07, torch.bfloat16: 0.51}[dtype]  # of 8 bits, near the ends
    assert (steps - steps.round()).abs().max() < tolerance
    assert steps.round().min() >= 0
    assert steps.round().max() <= 2**q.bits - 1


@pytest.mark.parametrize(("out", "width"), [(8, 16), (5, 48), (32, 64), (40, 32)])
@pytest.mark.parametrize(("name", "knobs"), CASES)
def test_a_slow_reference_gives_the_same_codes(name: str, knobs: dict, out: int, width: int) -> None:
    """The same codes, masks and values."""
    w, x, _ = layer(out, width, 3 * width, out)
    fitted = method(name)(**knobs)(start(name, w), site(w, x))
    expected = torch.tensor(REFERENCES[name](w.double().numpy(), x.double().numpy(), knobs))
    if name in trimtab.quantize.METHODS:
        q = leaf(fitted, Quantized)
        assert isinstance(q, Quantized)
        assert torch.equal(Quantized.of(expected.to(torch.uint8), q.scale, q.zero, q.bits).codes, q.codes)
        return
    if isinstance(fitted, Masked):
        assert torch.equal(fitted.kept(), expected != 0)
    tolerance = 1e-4 if name in ("sparsegpt", "eora", "svd") else 0
    torch.testing.assert_close(fitted.dense().double(), expected, rtol=0, atol=tolerance * w.abs().max().item())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("name", "knobs"), cases(MASKS))
def test_what_stays_is_as_it_was_and_as_many_as_was_said(name: str, knobs: dict, dtype: torch.dtype) -> None:
    w, x, _ = layer(8, 32, 128, 4)
    pruned = method(name)(**knobs)(Dense(w.to(dtype)), site(w, x))
    assert isinstance(pruned, Masked)
    mask = pruned.kept()
    assert (pruned.shape, pruned.dtype) == ((8, 32), dtype)
    assert (pruned.dense()[~mask] == 0).all()
    assert name in CHANGES or torch.equal(pruned.dense(), w.to(dtype) * mask)
    n, m = map(int, knobs["pattern"].split(":")) if "pattern" in knobs else (round(knobs["keep"] * 32), 32)
    assert (mask.unflatten(1, (-1, m)).sum(2) == n).all()
    assert bits(pruned) == 8 * 32 + mask.sum() * 8 * w.to(dtype).element_size()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("name", "knobs"), cases(RANKS))
def test_what_is_added_has_the_rank_and_the_bytes_that_were_said(name: str, knobs: dict, dtype: torch.dtype) -> None:
    w, x, _ = layer(8, 32, 128, 4)
    given = start(name, w.to(dtype))
    fitted = method(name)(**knobs)(given, site(w, x))
    first, low = leaves(fitted)
    assert first is given, "what there was stays as it was"
    assert isinstance(low, LowRank)
    assert (fitted.shape, fitted.dtype, low.rank, low.dtype) == ((8, 32), dtype, knobs["r"], dtype)
    assert torch.linalg.matrix_rank(low.left.double() @ low.right.double()) == knobs["r"]
    assert bits(fitted) == bits(given) + knobs["r"] * (8 + 32) * 8 * dtype.itemsize


@pytest.mark.parametrize(("name", "knobs"), CASES)
def test_a_plan_foretells_its_bytes(name: str, knobs: dict) -> None:
    w, x, _ = layer(24, 48, 128, 5)
    given = start(name, w.bfloat16())
    fit: Fit = method(name)(**knobs)
    assert fit.stored(24, 48, bits(given)) == bits(fit(given, site(w, x)))


def lost(name: str, w: Tensor, fitted: Weight, x: Tensor) -> float:
    """A method's declared objective: of one that rounds inputs too, the error of the answer with both rounded."""
    if not hasattr(method(name), "acts"):
        return objective(w, fitted, x)
    return (method(name).acts(fitted, x).double() - x.double() @ w.double().T).square().sum().item()


def rivals(name: str, knobs: dict, w: Tensor, where: Site, most: int) -> list[Weight]:
    """The baseline with the same knobs, and with every finer grid that takes no more than ``most`` bits."""
    group = knobs.get("group_size", 0)
    finer = [knobs | {"group_size": size} for size in (8, 16, 24) if group == -1 or size < group]
    baseline = method(method(name).CARD.baseline)
    known = {one.name for one in fields(baseline)}
    made = [baseline(**{key: value for key, value in one.items() if key in known})(start(name, w), where)
            for one in (knobs, *finer)]  # fmt: skip
    return [made[0], *(one for one in made[1:] if bits(one) <= most)]


@pytest.mark.parametrize(("name", "knobs"), [case for case in CASES if method(case.values[0]).CARD.baseline])
def test_it_beats_its_baseline_at_equal_bytes(name: str, knobs: dict) -> None:
    card, seen, held_out = method(name).CARD, [], []
    for seed in SEEDS:
        w, x, held = layer(64, 48, 384, seed)
        where = site(w, x)
        ours = method(name)(**knobs)(start(name, w), where)
        theirs = rivals(name, knobs, w, where, bits(ours))
        factors = sum(bits(one) for one in leaves(ours) if isinstance(one, Diagonal))
        assert bits(ours) == bits(theirs[0]) + factors
        for ratios, rows in ((seen, x), (held_out, held)):
            ratios.append(lost(name, w, ours, rows) / min(lost(name, w, one, rows) for one in theirs))
    for ratios in (seen, held_out):
        assert np.mean(ratios) < 1
        assert sum(ratio < 1 for ratio in ratios) >= (len(SEEDS) if card.guarantee == "always" else 18), ratios


@pytest.mark.parametrize("name", ["magnitude", "wanda", "sparsegpt"])
@pytest.mark.parametrize(
    ("knobs", "width", "says"),
    [
        ({"keep": 0.0}, 64, "keep: got 0.0; accepted: above 0"),
        ({"keep": 0.5}, 12, "8 must divide it"),
        ({"keep": 0.5, "pattern": "2:12"}, 64, "12 does not divide"),
        ({"keep": 0.6, "pattern": "2:4"}, 64, "keep: got 0.6 .* it keeps 0.5"),
        ({"keep": 0.5, "pattern": "4:2"}, 64, "pattern: got '4:2'"),
    ],
)
def test_masks_that_do_not_fit_are_refused_before_work(name: str, knobs: dict, width: int, says: str) -> None:
    fit = method(name)(**knobs)
    with pytest.raises(ValueError, match=says):
        fit.check(width)
    with pytest.raises(ValueError, match=says):
        fit(Dense(torch.randn(4, width)), site(torch.randn(4, width), torch.randn(8, width)))


@pytest.mark.parametrize("name", ["rtn", "gptq", "awq"])
@pytest.mark.parametrize(
    ("knobs", "width", "says"),
    [
        ({"bits": 4, "group_size": 64}, 96, "nearest that divides it: 48|32|96"),
        ({"bits": 4, "group_size": 7}, 64, "16"),
        ({"bits": 3, "group_size": -1}, 12, "group_size: got 12"),
        ({"bits": 5, "group_size": 16}, 64, "2, 3, 4, 8"),
        ({"bits": 4, "group_size": 0}, 64, "16"),
    ],
)
def test_knobs_that_do_not_fit_are_refused_before_work(name: str, knobs: dict, width: int, says: str) -> None:
    fit = method(name)(**knobs)
    with pytest.raises(ValueError, match=says):
        fit.check(width)
    with pytest.raises(ValueError, match=says):
        fit(Dense(torch.randn(4, width)), site(torch.randn(4, width), torch.randn(8, width)))


@pytest.mark.parametrize("name", ["eora", "svd"])
@pytest.mark.parametrize(
    ("r", "says"),
    [
        (0, r"r: got 0 for 4 x 64; accepted: 1 to 4 \(nearest: 1\)"),
        (5, r"r: got 5 .* 1 to 4 \(nearest: 4\)"),
        (65, r"r: got 65"),
    ],
)
def test_ranks_that_do_not_fit_are_refused_before_work(name: str, r: int, says: str) -> None:
    fit, w = method(name)(r=r), torch.randn(4, 64)
    with pytest.raises(ValueError, match=says):
        fit.check(64, 4)
    with pytest.raises(ValueError, match=says):
        fit(Dense(w), site(w, torch.randn(8, 64)))
