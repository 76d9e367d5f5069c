"""The ceilings of this machine, measured in some seconds: products, attention and operators on random numbers."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

import psutil
import torch
from torch import Tensor
from torch.nn import functional as F

from trimtab.measure.ceilings import STREAM, Attention, Ceilings, Curve, Products
from trimtab.measure.machine import facts
from trimtab.measure.probedecoder import compiled_attention, library_costs, plan_costs, plan_row, seeing_cost
from trimtab.measure.probes import read_bandwidth, typical
from trimtab.measure.work import CODES4, CODES8, PRUNED
from trimtab.runtime.compiled import Compiled
from trimtab.runtime.level import level
from trimtab.runtime.plan.layout import BLOCK, SOME16, Laid

ROWS = (1, 4, 16, 64, 256, 1024)
SIZES = (128, 512, 1536)
BRIEF = 0.015
"""Seconds for a product's repeats. What is compared with these figures are medians, so they are medians."""
NARROW = 640
STEADY, TRIES = 1.25, 3
GROUP = 64
TOKENS, ENTRIES = (64, 256, 1024), (64, 512, 2048)
HEADS, HEAD = 4, 64
Make = Callable[[int, int], Callable[[Tensor], Tensor]]


def ceilings() -> Ceilings:
    """Measured now; nothing else should run meanwhile. On a machine that is shared what memory gives may change from
    one minute to the next: it is read at the beginning, in between and at the end, and where these differ by more than
    ``STEADY`` all is measured again, ``TRIES`` times at most; the last counts, and is called unsteady."""
    for _ in range(TRIES):
        reads = [read_bandwidth(typical)]
        found = replace(_measured(reads), steady=steady(reads))
        if found.steady:
            break
    return found


def _measured(reads: list[dict[int, float]]) -> Ceilings:
    """All of it; what memory gives is read twice more into ``reads``."""
    here = level()
    with torch.inference_mode():
        products = {name: products_of(_dense(getattr(torch, name)), getattr(torch, name), size)
                    for name, size in (("bfloat16", 2.0), ("float32", 4.0))}  # fmt: skip
        for form, make, size in () if here is None else compiled_forms(here):
            products[f"compiled {form}"] = products_of(make, torch.bfloat16, size)
        reads.append(read_bandwidth(typical))
        attention = {"library": library_attention(False), "masked": library_attention(True)}
        elements, curves = element_rates(torch.mul), element_rates(lambda x, y: F.gelu(x, approximate="tanh"))
        host = 0.0 if here is None else typical(lambda: _tiny(here), BRIEF)
    library = library_costs()
    reads.append(read_bandwidth(typical))
    made = Ceilings(middle(reads), products, attention, elements, curves, host=host, **library,
                    disk=disk_rate(), machine=machine())  # fmt: skip
    made = replace(made, seeing=seeing_cost(made))
    return made if here is None else with_plan(made)


def steady(reads: Sequence[Mapping[int, float]]) -> bool:
    """Whether the largest arrays were read alike each time."""
    last = min(max(one) for one in reads)
    rates = [one[last] for one in reads]
    return max(rates) <= STEADY * min(rates)


def middle(reads: Sequence[Mapping[int, float]]) -> Curve:
    """The median at each size that all of them have."""
    sizes = sorted(set.intersection(*(set(one) for one in reads)))
    return Curve(tuple(map(float, sizes)), tuple(median(one[size] for one in reads) for size in sizes))


def with_plan(known: Ceilings) -> Ceilings:
    """What a plan costs beside its products, which are known already."""
    made = replace(known, **plan_costs())
    made = replace(made, attention={**made.attention, "compiled": compiled_attention(made)})
    return replace(made, plan_row=plan_row(made))


def machine() -> dict[str, object]:
    """By what the figures are known again: they hold for this processor, these threads and these libraries."""
    here = facts()
    return {"processor": here.processor, "flags": list(here.flags), "threads": here.threads, "level": level(),
            "versions": dict(here.versions), "memory": here.memory, "compute": here.compute}  # fmt: skip


def products_of(make: Make, dtype: torch.dtype, per_number: float) -> Products:
    """Of matrices that ``make(out, in)`` gives as a product; ``per_number``: bytes that one of its numbers takes."""
    start = typical(_call(make(BLOCK, 128), torch.randn(1, 128).to(dtype)), BRIEF)
    rates = []
    matrices = {size: make(size, size) for size in SIZES}
    for rows in ROWS:
        found = []
        for size, product in matrices.items():
            seconds = typical(_call(product, torch.randn(rows, size).to(dtype)), BRIEF)
            found.append(2.0 * rows * size * size / max(seconds - start, seconds / 4))
        rates.append(Curve(tuple(map(float, SIZES)), tuple(found)))
    stream = stream_rate(make, dtype, per_number)
    cold = cold_start(make, dtype, per_number, start, stream)
    return Products(tuple(map(float, ROWS)), tuple(rates), stream, cold)


def stream_rate(make: Make, dtype: torch.dtype, per_number: float) -> float:
    """Bytes a second of a large matrix by one row."""
    width = 1024
    out = max(BLOCK, int(_stream() / per_number / width) // BLOCK * BLOCK)
    seconds = typical(_call(make(out, width), torch.randn(1, width).to(dtype)), 4 * BRIEF)
    return out * width * per_number / seconds


def _stream() -> int:
    """Bytes that no cache holds, or what is there of memory."""
    return int(min(STREAM, psutil.virtual_memory().available // 16))


def _call(product: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], Tensor]:
    return lambda: product(x)


def _dense(dtype: torch.dtype) -> Make:
    def make(out: int, width: int) -> Callable[[Tensor], Tensor]:
        w = torch.empty(out, width, dtype=dtype).normal_()
        return lambda x: F.linear(x, w)

    return make


def compiled_forms(here: int) -> Sequence[tuple[str, Make, float]]:
    """(form, what makes a product of it, bytes of one number); codes in groups of ``GROUP``, half of a pruned matrix
    kept."""
    kinds = ((CODES4, _codes4, 0.5 + 2 / GROUP), (CODES8, _codes8, 1 + 2 / GROUP), ("bfloat16", _pairs, 2.0),
             (PRUNED, _half, 1 + 1 / 8))  # fmt: skip
    return [(form, _compiled(lay, here), size) for form, lay, size in kinds]


def _compiled(lay: Callable[[int, int], Laid], here: int) -> Make:
    return lambda out, width: Compiled(lay(out, width), here)


def _bytes(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8)


def _scales(out: int, width: int) -> Tensor:
    return torch.rand(out // BLOCK, width // GROUP, BLOCK).bfloat16() / 100


def _codes4(out: int, width: int) -> Laid:
    return Laid(4, (out, width), _bytes(out // BLOCK, width // 8, BLOCK, 4), _scales(out, width))


def _codes8(out: int, width: int) -> Laid:
    return Laid(8, (out, width), _bytes(out // BLOCK, width // 4, BLOCK, 4), _scales(out, width))


def _pairs(out: int, width: int) -> Laid:
    return Laid(16, (out, width), torch.empty(out // BLOCK, width // 2, BLOCK, 2, dtype=torch.bfloat16).normal_())


def _half(out: int, width: int) -> Laid:
    """Every other number of a row: which ones does not matter to time."""
    kept = out // BLOCK * (BLOCK * width // 2)
    masks = torch.full((out // BLOCK, width // 2, BLOCK * 2 // 8), 0x55, dtype=torch.uint8)
    values = torch.empty(kept + 2 * BLOCK, dtype=torch.bfloat16).normal_()
    starts = torch.arange(out // BLOCK) * (BLOCK * width // 2)
    return Laid(SOME16, (out, width), masks.flatten(1), values=values, starts=starts)


def cold_start(make: Make, dtype: torch.dtype, per_number: float, start: float, stream: float) -> float:
    """Seconds of each of many matrices that no cache holds together, when its call and its bytes are taken off."""
    size = NARROW * NARROW * per_number
    many = [make(NARROW, NARROW) for _ in range(int(_stream() / size))]
    x = torch.randn(1, NARROW).to(dtype)
    hot = typical(lambda: [many[0](x) for _ in many], BRIEF) / len(many)
    each = typical(lambda: [one(x) for one in many], 4 * BRIEF) / len(many)
    return max(each - max(hot, start + size / stream), 0.0)


def _tiny(here: int) -> Tensor:
    return Compiled(_pairs(BLOCK, 32), here)(torch.ones(1, 32, dtype=torch.bfloat16))


def library_attention(masked: bool) -> Attention:
    """Of torch's scaled dot-product attention in bfloat16 where the CPU computes it, else in float32; ``masked``: under
    a mask of all pairs, as windows and padding need it."""
    dtype = torch.bfloat16 if facts().compute == "bfloat16" else torch.float32
    one = torch.randn(1, HEADS, 1, HEAD).to(dtype)
    start = typical(lambda: F.scaled_dot_product_attention(one, one, one), BRIEF)
    prompt, word = [], []
    for tokens in TOKENS:
        x = torch.randn(1, HEADS, tokens, HEAD).to(dtype)
        mask = torch.ones(tokens, tokens, dtype=torch.bool).tril_() if masked else None
        over = partial(F.scaled_dot_product_attention, x, x, x, attn_mask=mask, is_causal=not masked)
        seconds = typical(over, BRIEF)
        pairs = tokens * tokens if masked else tokens * (tokens + 1) / 2
        prompt.append(4.0 * HEADS * HEAD * pairs / max(seconds - start, seconds / 4))
    sizes = []
    for entries in ENTRIES:
        x = torch.randn(1, HEADS, entries, HEAD).to(dtype)
        mask = torch.ones(1, entries, dtype=torch.bool) if masked else None
        seconds = typical(lambda: F.scaled_dot_product_attention(one, x, x, attn_mask=mask), BRIEF)  # noqa: B023
        sizes.append(2.0 * x.nbytes)
        word.append(max(seconds - start, seconds / 4))
    return Attention(Curve(tuple(map(float, TOKENS)), tuple(prompt)), Curve(tuple(sizes), tuple(word)))


def element_rates(operator: Callable[[Tensor, Tensor], Tensor]) -> dict[str, float]:
    """Bytes a second, read and written, of an operator on each element of two arrays of a model's size."""
    found = {}
    for dtype in (torch.bfloat16, torch.float32):
        x = torch.rand(256, 2048).to(dtype)
        found[str(dtype).removeprefix("torch.")] = 3.0 * x.nbytes / typical(lambda: operator(x, x), BRIEF)  # noqa: B023
    return found


def disk_rate(size: int = 32 << 20) -> float:
    """Bytes a second of a file that was just written and is no longer in memory where the system can be told so."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "probe"
        path.write_bytes(os.urandom(size))
        with path.open("rb", buffering=0) as file:
            os.fsync(file.fileno())
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            begin = time.perf_counter()
            while file.read(1 << 22):
                pass
            return size / (time.perf_counter() - begin)
