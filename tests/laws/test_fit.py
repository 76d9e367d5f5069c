"""Laws of Fit: every layer-wise method of the tables, on layers with correlated inputs."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import fields
from importlib import import_module

import ml_dtypes
import numpy as np
import pytest
import torch
from torch import Tensor

import trimtab.factorize
import trimtab.prune
import trimtab.quantize
from trimtab.core.blocks import Blocks
from trimtab.core.codebook import LEVELS, Codebook
from trimtab.core.factors import Diagonal, LowRank
from trimtab.core.fit import Fit, Site
from trimtab.core.joins import leaves
from trimtab.core.pack import pack
from trimtab.core.reservoir import Reservoir
from trimtab.core.sensitivity import Sensitivity
from trimtab.core.sparse import Masked
from trimtab.core.stats import IMAGE, KINDS, TEXT, Gram
from trimtab.core.weight import Dense, Quantized, Weight, bits
from trimtab.quantize.rtn import RTN

FAMILIES = [trimtab.quantize, trimtab.prune, trimtab.factorize]
METHODS = {
    name: place for family in FAMILIES for name, place in (family.METHODS | getattr(family, "CONTROLS", {})).items()
}
SEEDS = range(20)
RATIO = 0.25
"""What an image token counts, for methods that ask."""

GRIDS = [
    {"bits": 2, "group_size": 8},
    {"bits": 3, "group_size": 16},
    {"bits": 4, "group_size": 16},
    {"bits": 4, "group_size": 8, "symmetric": True},
    {"bits": 8, "group_size": -1, "clip": False},
    {"bits": 3, "group_size": -1},
]
NF4S = [{"group_size": 8}, {"group_size": 16, "double_quant": False}, {"group_size": -1}]
FP4S = [
    {"format": "mxfp4"},
    {"format": "nvfp4"},
    {"format": "mxfp4", "rotate": 32},
    {"format": "nvfp4", "rotate": 16},
]
HALVES = [
    {"bits": 4, "group_size": 8},
    {"bits": 8, "group_size": 16, "alpha": 0.0},
    {"bits": 4, "group_size": -1, "alpha": 0.0},
    {"bits": 3, "group_size": 8, "alpha": 0.05, "symmetric": False},
    {"bits": 2, "group_size": 5},
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
TURNED = [
    *GRIDS,
    {"bits": 3, "group_size": 16, "rotate": 16},
    {"bits": 4, "group_size": -1, "symmetric": True, "rotate": 16},
]
KNOBS = {
    "rtn": TURNED,
    "gptq": TURNED,
    "awq": GRIDS,
    "mbq": GRIDS,
    "nf4": NF4S,
    "fp4": [*FP4S, {"format": "nvfp4", "clip": False}, {"format": "mxfp4", "clip": False}],
    "mr_gptq": FP4S,
    "finequant": HALVES,
    "quantease": GRIDS,
    "w8a8": [{}],
    "w8a8_static": [{}, {"inputs": "percentile", "percentile": 99.0}, {"inputs": "kl"}],
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


def kinds_of(x: Tensor) -> Tensor:
    """Every second row is an image token."""
    return torch.where(torch.arange(len(x)) % 2 == 1, IMAGE, TEXT)


def site(w: Tensor, x: Tensor, kinds: Tensor | None = None, weights: Tensor | None = None) -> Site:
    gram = Gram(x.shape[1], weights, Reservoir(x.shape[1]))
    gram.add(x, kinds_of(x) if kinds is None else kinds)
    sizes = torch.tensor([[1.0, RATIO, 0.0, 0.0, 0.0]] * 2)
    return Site("layer", lambda: w, gram, sensitivity=Sensitivity(("layer",), sizes, sizes, (1, 1, 0, 0, 0)))


def fitting(name: str, width: int) -> int:
    """A width near ``width`` that the groups of a format of 4-bit floats divide."""
    return -(-width // 32) * 32 if name in ("fp4", "mr_gptq") else width


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
    w = slow_turn(w, knobs.get("rotate", 0))
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
    rotate = knobs.get("rotate", 0)
    return ordered_surgeon(slow_turn(w, rotate), slow_turn(x, rotate), knobs)[0]


def ordered_surgeon(w: np.ndarray, x: np.ndarray, knobs: dict) -> list[np.ndarray]:
    """Groups by falling second moment of their inputs, the columns of each so too."""
    size = knobs["group_size"] if knobs["group_size"] > 0 else w.shape[1]
    moments = (x**2).sum(0)
    groups = [list(range(start, start + size)) for start in range(0, w.shape[1], size)]
    groups.sort(key=lambda group: -moments[group].sum())
    order = [i for group in groups for i in sorted(group, key=lambda i: -moments[i])]
    back = np.argsort(order)
    return [found[:, back] for found in surgeon(w[:, order], x[:, order], knobs)]


def surgeon(w: np.ndarray, x: np.ndarray, knobs: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Optimal brain surgeon in column order: the whole inverse Hessian, a row and column eliminated per step. Codes,
    and the scale and zero of every weight."""
    codes, size = np.zeros(w.shape), knobs["group_size"] if knobs["group_size"] > 0 else w.shape[1]
    scales, zeros = np.zeros(w.shape), np.zeros(w.shape)
    h = x.T @ x
    h = h + 0.01 * np.mean(np.diag(h)) * np.eye(len(h))
    inverse, w = np.linalg.inv(h), w.copy()
    for i in range(w.shape[1]):
        if i % size == 0:
            grids = [slow_grid(row[i : i + size], np.diag(h)[i : i + size], knobs) for row in w]
        scales[:, i], zeros[:, i] = np.transpose(grids)
        for r, (scale, zero) in enumerate(grids):
            codes[r, i] = np.clip(np.rint(w[r, i] / scale) + zero, 0, 2 ** knobs["bits"] - 1)
            w[r] -= (
                (w[r, i] - (codes[r, i] - zero) * scale)
                / inverse[i, i]
                * np.where(np.arange(len(h)) >= i, inverse[i], 0)
            )
        inverse = inverse - np.outer(inverse[:, i], inverse[i]) / inverse[i, i]
        inverse[i, i] = 1.0
    return codes, scales, zeros


def slow_quantease(w: np.ndarray, x: np.ndarray, knobs: dict) -> np.ndarray:
    """The catalogue's update, one weight at a time, its sum over all the others taken anew."""
    codes, scales, zeros = ordered_surgeon(w, x, knobs)
    h, top = x.T @ x, 2 ** knobs["bits"] - 1
    for _ in range(4):
        for r, j in np.ndindex(*w.shape):
            q = (codes[r] - zeros[r]) * scales[r]
            best = (w[r] @ h[j] - sum(q[k] * h[k, j] for k in range(len(h)) if k != j)) / h[j, j]
            codes[r, j] = np.clip(np.rint(best / scales[r, j]) + zeros[r, j], 0, top)
    return codes


def slow_mixed(w: np.ndarray, x: np.ndarray, knobs: dict) -> np.ndarray:
    """One matrix alone: the most bits that are paid for, where its scales take 32."""
    most = knobs["bits"] if "bits" in knobs else 16 * float(knobs["budget"].removesuffix("x"))
    beside = (32 if knobs.get("symmetric") else 40) / knobs["group_size"]
    how = knobs | {"bits": max(b for b in knobs.get("choices", (2, 3, 4, 8)) if b + beside <= most)}
    return slow_rtn(w, x, how) if knobs.get("method") == "rtn" else slow_gptq(w, x, how)


def slow_finequant(w: np.ndarray, x: np.ndarray, knobs: dict) -> np.ndarray:
    """Ranges group by group; halved as the rule says, then rounded without a search."""
    width, knobs = w.shape[1], {"symmetric": True, "alpha": 0.12} | knobs | {"clip": False}

    def spread(size: int) -> float:
        found = []
        for row in w:
            for a in range(0, width, size):
                low, high = min(0, *row[a : a + size]), max(0, *row[a : a + size])
                found.append(2 * max(-low, high) if knobs["symmetric"] else high - low)
        return float(np.sqrt(np.mean(np.square(found))))

    size, whole = width, {2: 4, 3: 8, 4: 2, 8: 1}[knobs["bits"]]
    while 0 < knobs["group_size"] <= size / 2 and size % (2 * whole) == 0:
        if spread(size // 2) >= (1 - knobs["alpha"]) * spread(size):
            break
        size //= 2
    return slow_rtn(w, x, knobs | {"group_size": size})


Lost = Callable[[np.ndarray], np.ndarray]


def slow_awq(w: np.ndarray, x: np.ndarray, knobs: dict) -> np.ndarray:
    return slow_scaled(w, x, knobs, lambda error: np.square(error).sum(1), np.ones(len(x)))


def slow_mbq(w: np.ndarray, x: np.ndarray, knobs: dict) -> np.ndarray:
    counts = np.where(kinds_of(torch.tensor(x)).numpy() == IMAGE, RATIO, 1.0)
    return slow_scaled(w, x, knobs, lambda error: (np.abs(error) * counts).sum(1), counts)


def slow_scaled(w: np.ndarray, x: np.ndarray, knobs: dict, cost: Lost, counts: np.ndarray) -> np.ndarray:
    """Every exponent tried on the rows themselves; codes of the scaled weights. ``cost`` of errors at the output (rows,
    tokens), ``counts`` what each token counts in the clip search."""
    size, (rows, n) = knobs["group_size"] if knobs["group_size"] > 0 else w.shape[1], w.shape
    means, h = np.abs(x).mean(0), np.mean(counts[:, None] * x**2, 0)

    def on_grid(v: np.ndarray, weight: np.ndarray, how: dict) -> tuple[np.ndarray, np.ndarray]:
        codes, values = np.zeros(v.shape), np.zeros(v.shape)
        for r, a in np.ndindex(rows, n // size):
            part = slice(a * size, (a + 1) * size)
            scale, zero = slow_grid(v[r, part], weight[part], how)
            codes[r, part] = np.clip(np.rint(v[r, part] / scale) + zero, 0, 2 ** how["bits"] - 1)
            values[r, part] = (codes[r, part] - zero) * scale
        return codes, values

    def lost(values: np.ndarray) -> np.ndarray:
        return cost((w - values) @ x.T)

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


def slow_nf4(w: np.ndarray, x: np.ndarray, knobs: dict) -> np.ndarray:
    """Level by level; 8-bit scales by the floats of ml_dtypes."""
    size, levels = knobs["group_size"] if knobs["group_size"] > 0 else w.shape[1], np.array(LEVELS["nf4"])
    scales = np.array([[np.abs(row[a : a + size]).max() for a in range(0, w.shape[1], size)] for row in w])
    if knobs.get("double_quant", True):
        mean, flat = np.float32(scales.mean()), scales.flatten()
        for a in range(0, len(flat), 256):
            left = flat[a : a + 256] - mean
            coarse = np.abs(left).max() / 448 or 1.0
            flat[a : a + 256] = (left / coarse).astype(ml_dtypes.float8_e4m3fn).astype(float) * coarse + mean
        scales = flat.reshape(scales.shape)
    return np.abs(w[..., None] / scales.repeat(size, 1)[..., None] - levels).argmin(2)


def slow_e2m1(v: np.ndarray) -> np.ndarray:
    """The codes that ml_dtypes gives."""
    return v.astype(ml_dtypes.float4_e2m1fn).view(np.uint8)


def slow_turn(v: np.ndarray, size: int) -> np.ndarray:
    """Every ``size`` columns times the Hadamard matrix, an entry at a time."""
    h = (
        np.array([[(-1) ** (i & j).bit_count() for j in range(size or 1)] for i in range(size or 1)])
        / (size or 1) ** 0.5
    )
    return np.concatenate([part @ h for part in np.split(v, v.shape[1] // (size or 1), 1)], 1)


def slow_scales(w: np.ndarray, knobs: dict) -> np.ndarray:
    """A scale for each weight: that of its group, of all that its form has within reach the best."""
    micro = knobs["format"] == "mxfp4"
    size, coarse = (32, 1.0) if micro else (16, np.float32(np.abs(w).max() / 2688))
    kind = ml_dtypes.float8_e8m0fnu if micro else ml_dtypes.float8_e4m3fn
    steps = (0, 1, -1) if micro else (0, *range(-8, 0), *range(1, 6))
    found = np.zeros(w.shape)
    for r, a in np.ndindex(len(w), w.shape[1] // size):
        group = w[r, a * size : (a + 1) * size]
        top = 2.0 ** np.floor(np.log2(np.abs(group).max()) - 2) if micro else np.abs(group).max() / 6 / coarse
        byte, best = int(np.array(top).astype(kind).view(np.uint8)), (np.inf, 0.0)
        for step in steps if knobs.get("clip", True) else (0,):
            scale = float(np.array(min(byte + step, 254 if micro else 126), dtype=np.uint8).view(kind)) * coarse
            values = (group / scale).astype(ml_dtypes.float4_e2m1fn).astype(float) * scale
            best = min(best, (np.square(values - group).sum(), scale), key=lambda one: one[0])
        found[r, a * size : (a + 1) * size] = best[1]
    return found


def slow_fp4(w: np.ndarray, x: np.ndarray, knobs: dict) -> np.ndarray:
    turned = slow_turn(w, knobs.get("rotate", 0))
    return slow_e2m1(turned / slow_scales(turned, knobs))


def slow_mr_gptq(w: np.ndarray, x: np.ndarray, knobs: dict) -> np.ndarray:
    """Optimal brain surgeon from the input of largest second moment to that of the least, the inverse of what is left
    taken anew for each."""
    rotate = knobs.get("rotate", 16)
    w, x = slow_turn(w, rotate), slow_turn(x, rotate)
    scales, codes, n = slow_scales(w, knobs), np.zeros(w.shape, dtype=np.uint8), w.shape[1]
    h = x.T @ x
    left = list(np.argsort(-np.diag(h), kind="stable"))
    h = h + 0.01 * np.mean(np.diag(h)) * np.eye(n)
    while left:
        i, inverse = left[0], np.linalg.inv(h[np.ix_(left, left)])[0]
        codes[:, i] = slow_e2m1(w[:, i] / scales[:, i])
        error = w[:, i] - codes[:, i].view(ml_dtypes.float4_e2m1fn).astype(float) * scales[:, i]
        w[:, left] -= np.outer(error, inverse / inverse[0])
        left.pop(0)
    return codes


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
    "rtn": slow_rtn, "gptq": slow_gptq, "awq": slow_awq, "mbq": slow_mbq, "magnitude": slow_magnitude,
    "wanda": slow_wanda, "sparsegpt": slow_sparsegpt, "eora": slow_eora, "svd": slow_svd, "nf4": slow_nf4,
    "fp4": slow_fp4, "mr_gptq": slow_mr_gptq, "finequant": slow_finequant, "quantease": slow_quantease,
    "w8a8": slow_w8a8, "w8a8_static": slow_w8a8, "smoothquant": slow_smoothquant, "mixed": slow_mixed,
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
@pytest.mark.parametrize(("name", "knobs"), [*cases(GRIDS), *cases(TURNED)])
def test_the_result_lies_on_the_declared_grid(name: str, knobs: dict, dtype: torch.dtype) -> None:
    w, x, _ = layer(8, 32, 128, 4)
    fitted = method(name)(**knobs)(Dense(w.to(dtype)), site(w, x))
    q = leaf(fitted, Quantized)
    assert isinstance(q, Quantized)
    assert (fitted.shape, fitted.dtype) == ((8, 32), dtype)
    size = knobs["group_size"] if knobs["group_size"] > 0 else 32
    assert (q.bits, q.group_size, q.shape, q.dtype) == (knobs["bits"], size, (8, 32), dtype)
    assert (q.zero is None) == knobs.get("symmetric", False)
    turns = [one.size for one in leaves(fitted) if isinstance(one, Blocks)]
    assert turns == ([knobs["rotate"]] if "rotate" in knobs else [])
    assert q.scale.dtype == dtype
    assert (q.scale > 0).all()
    zero = torch.tensor(2.0 ** (q.bits - 1)) if q.zero is None else q.zero.float()[..., None]
    steps = q.dense().double().unflatten(1, (-1, size)) / q.scale.double()[..., None] + zero
    tolerance = {torch.float32: 1e-4, torch.float16: 0.07, torch.bfloat16: 0.51}[dtype]  # of 8 bits, near the ends
    assert (steps - steps.round()).abs().max() < tolerance
    assert steps.round().min() >= 0
    assert steps.round().max() <= 2**q.bits - 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("name", "knobs"), [*cases(NF4S), *cases(KNOBS["fp4"]), *cases(FP4S)])
def test_the_result_lies_on_the_declared_levels(name: str, knobs: dict, dtype: torch.dtype) -> None:
    """Every weight is a level times its group's scale, and a rotation stands behind it where one was asked for."""
    w, x, _ = layer(8, 64, 128, 4)
    fitted = method(name)(**knobs)(Dense(w.to(dtype)), site(w, x))
    q, *behind = leaves(fitted)
    assert isinstance(q, Codebook)
    assert (fitted.shape, fitted.dtype, q.dtype) == ((8, 64), dtype, dtype)
    size = {"mxfp4": 32, "nvfp4": 16}.get(knobs.get("format", ""), knobs.get("group_size"))
    assert (q.levels, q.group_size) == ("nf4" if name == "nf4" else "e2m1", size if size > 0 else 64)
    rotate = knobs.get("rotate", 16 if name == "mr_gptq" else 0)
    assert [(type(one), one.shape, one.size) for one in behind] == ([(Blocks, (64, 64), rotate)] if rotate else [])
    levels, scale = torch.tensor(LEVELS[q.levels]), q.scales.read(slice(None))
    nearest = (q.dense().float().unflatten(1, (scale.shape[1], -1)) / scale[..., None])[..., None] - levels
    assert nearest.abs().min(-1).values.max() < {torch.float32: 1e-5, torch.bfloat16: 0.03}[dtype]


@pytest.mark.parametrize(("out", "width"), [(8, 16), (5, 48), (32, 64), (40, 32)])
@pytest.mark.parametrize(("name", "knobs"), CASES)
def test_a_slow_reference_gives_the_same_codes(name: str, knobs: dict, out: int, width: int) -> None:
    """The same codes, masks and values."""
    width = fitting(name, width)
    w, x, _ = layer(out, width, 3 * width, out)
    fitted = method(name)(**knobs)(start(name, w), site(w, x))
    expected = torch.tensor(REFERENCES[name](w.double().numpy(), x.double().numpy(), knobs))
    if isinstance(q := next(leaves(fitted)), Codebook):
        assert torch.equal(pack(expected.to(torch.uint8), 4), q.codes)
        return
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
    """Where weights decide, the most that they can be."""
    width = fitting(name, 48)
    w, x, _ = layer(24, width, 128, 5)
    given = start(name, w.bfloat16())
    fit: Fit = method(name)(**knobs)
    told, found = fit.stored(24, width, bits(given)), bits(fit(given, site(w, x)))
    assert told >= found if fit.CARD.bounded else told == found


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
        w, x, held = layer(64, fitting(name, 48), 384, seed)
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


FED = [name for name in KNOBS if method(name).CARD.needs == "data" and not method(name).CARD.wants_rows]
"""Methods that read the Gram alone: ``calibrate.weigh`` is for them."""


LARGEST = ("smoothquant",)
"""Methods that look at the largest of each input alone, which is the same however often it is seen."""


def weighing(image: float) -> Tensor:
    return torch.where(torch.arange(len(KINDS)) == IMAGE, image, 1.0)


def same(first: Weight, second: Weight) -> None:
    mine, other = first.state_dict(), second.state_dict()
    assert mine.keys() == other.keys()
    assert mine
    for key, value in mine.items():
        torch.testing.assert_close(value, other[key], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FED)
def test_a_kind_that_counts_four_times_is_seen_four_times(name: str) -> None:
    w, x, _ = layer(12, 32, 160, 11)
    fit: Fit = method(name)(**KNOBS[name][0])
    x[kinds_of(x) == IMAGE] = x[kinds_of(x) == IMAGE].flip(1) * 3
    often = torch.cat([x, *([x[kinds_of(x) == IMAGE]] * 3)])
    kinds = torch.cat([kinds_of(x), torch.full((len(often) - len(x),), IMAGE)])
    weighed = fit(start(name, w), site(w, x, weights=weighing(4.0)))
    same(weighed, fit(start(name, w), site(w, often, kinds)))
    alike = fit(start(name, w), site(w, x))
    assert torch.equal(weighed.dense(), alike.dense()) == (name in LARGEST), "and it matters"


@pytest.mark.parametrize("name", FED)
def test_a_kind_that_counts_nothing_is_not_seen(name: str) -> None:
    """And what it would have shown matters: with it the result is another one."""
    w, x, _ = layer(12, 32, 160, 12)
    image = kinds_of(x) == IMAGE
    x[image] = x[image].flip(1) * 3
    fit: Fit = method(name)(**KNOBS[name][0])
    without = fit(start(name, w), site(w, x, weights=weighing(0.0)))
    same(without, fit(start(name, w), site(w, x[~image], torch.full((int((~image).sum()),), TEXT))))
    assert not torch.equal(without.dense(), fit(start(name, w), site(w, x)).dense())


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


@pytest.mark.parametrize("name", ["rtn", "gptq", "awq", "mbq", "quantease"])
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


@pytest.mark.parametrize("name", ["rtn", "gptq"])
@pytest.mark.parametrize(
    ("rotate", "width", "says"),
    [
        (64, 96, r"rotate: got 64 for a row of 96; accepted: 0 \(none\), 16, 32 \(nearest: 32\)"),
        (16, 40, r"rotate: got 16 for a row of 40; accepted: 0 \(none\) \(nearest: 0\)"),
    ],
)
def test_rotations_that_do_not_fit_are_refused_before_work(name: str, rotate: int, width: int, says: str) -> None:
    fit = method(name)(group_size=8, rotate=rotate)
    with pytest.raises(ValueError, match=says):
        fit.check(width)
    with pytest.raises(ValueError, match=says):
        fit(Dense(torch.randn(4, width)), site(torch.randn(4, width), torch.randn(8, width)))


@pytest.mark.parametrize("name", ["fp4", "mr_gptq"])
@pytest.mark.parametrize(
    ("knobs", "width", "says"),
    [
        (
            {"format": "mxfp4", "rotate": 0},
            48,
            "format: got mxfp4 for a row of 48.* groups of 32 .*accepted there: nvfp4",
        ),
        ({"format": "nvfp4", "rotate": 0}, 40, "format: got nvfp4 for a row of 40.* put the layer under ignore"),
        (
            {"format": "nvfp4", "rotate": 64},
            96,
            r"rotate: got 64 for a row of 96; accepted: 0 .*, 16, 32 \(nearest: 32\)",
        ),
        ({"format": "nvfp4", "rotate": 8}, 64, r"rotate: got 8 .* 16, 32, 64 \(nearest: 16\)"),
        ({"format": "mxfp4", "rotate": 256}, 512, r"rotate: got 256 .* 16, 32, 64, 128 \(nearest: 128\)"),
    ],
)
def test_formats_that_do_not_fit_are_refused_before_work(name: str, knobs: dict, width: int, says: str) -> None:
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
