"""Seconds of operations on this machine, from its ceilings alone.

Each operation takes max(bytes over the bandwidth at the working set, operations over the peak at its shape), and what
it costs to start. The working set is all that the call reads: a word of a model that is larger than the caches finds
nothing in them. The library starts every operator of torch from Python; a plan is started once, and its layers cost
little beside their products.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from trimtab.measure.ceilings import STREAM, Ceilings, Products
from trimtab.measure.roofline import Operation
from trimtab.measure.work import CODES8, OTHER, ROUNDED

CURVES = ("aten.silu", "aten.gelu", "aten.exp", "aten.tanh", "aten.sigmoid", "aten.erf", "aten._softmax", "aten.pow")
"""Operators with an exponential or a power for each element."""
PRODUCTS = ("aten.mm", "aten.bmm", "aten.addmm", "aten.baddbmm", "aten.convolution", "aten.linear", "aten.matmul")
HERE = ("bool", "int64", "int32", "uint8")
"""Dtypes of masks and positions, which a plan has none of."""
MANY = 16
"""Rows from which on matrices are made into tiles, and attention multiplies more than it reads."""
KEPT = "aten.cat"
"""How the loop's cache grows; a plan's does in its place."""


def library(operations: Sequence[Operation], known: Ceilings, compiled: bool = False) -> float:
    """Through torch, operator by operator, the forward's own share apart; ``compiled``: products with what is no dense
    matrix by our library, which also has attention that looks both ways."""
    held = working_set(operations)
    return sum(seconds_of(one, known, held, compiled) for one in operations)


def planned(operations: Sequence[Operation], known: Ceilings) -> float:
    """By a plan: the decoder's part of a prompt or a word."""
    held = working_set(operations)
    layers = sum(one.kind == "attention" for one in operations)
    found = known.plan_call + layers * known.plan_layer + known.plan_row * sum(map(passing, operations))
    for one in operations:
        if one.kind == "product":
            found += product(one, known, held, True)
        elif one.kind == "attention":
            found += attention(one, known, True, held)
    return found


def working_set(operations: Iterable[Operation]) -> float:
    """Bytes of matrices and caches that a call reads, each once."""
    return sum(one.weights + one.cache for one in operations)


def passing(one: Operation) -> float:
    """Bytes that stand for a layer's work beside products and attention: of operators on each element, the loop's own
    work on its cache apart, which happens in no module."""
    other = one.kind in ("product", "attention", KEPT) or one.dtype in HERE or not one.name
    return 0.0 if other else one.activations


def form_of(one: Operation, known: Ceilings, compiled: bool) -> str:
    """The key of ``Ceilings.products`` for a product: of our library, where it has one and is asked."""
    form = CODES8 if one.form == ROUNDED else one.form
    ours = f"compiled {form}"
    if compiled and ours in known.products:
        return ours
    return one.dtype if one.dtype in known.products else "float32"


def product(one: Operation, known: Ceilings, held: float, compiled: bool) -> float:
    """Seconds of a linear's product, without its start. Few rows are multiplied as the matrix comes; for many it is
    made into tiles first, and what that reads comes on top."""
    found: Products = known.products[form_of(one, known, compiled)]
    computing = one.flops / found.at(max(one.rows, 1), one.shape)
    reading = known.reading.at(held)
    made = 6.0 * one.shape[0] * one.shape[1] / known.elements["bfloat16"] if one.form == OTHER else 0.0
    if one.rows >= MANY:
        return made + computing + one.weights / reading
    cold = found.cold if reading < max(known.reading.values) / 2 else 0.0  # the caches do not hold what the call reads
    stream = found.stream * reading / known.reading.at(STREAM)
    return made + cold + max(computing, one.weights / stream)


def attention(one: Operation, known: Ceilings, compiled: bool, held: float) -> float:
    """Seconds of attention, without its start: a word's reads the cache, a prompt's multiplies. The library reads keys
    and values once for each head that asks, and under a mask computes every pair."""
    found = known.attention["compiled" if compiled else "masked" if one.masked else "library"]
    share = one.share if compiled or not one.masked else 1.0
    if one.rows >= MANY:
        return one.flops * share / found.prompt.at(one.rows)
    size = one.cache * share * (1.0 if compiled else one.shape[0] / one.shape[1])
    return max(found.reading(size), one.cache * share / known.reading.at(held))


def seconds_of(one: Operation, known: Ceilings, held: float, compiled: bool) -> float:
    """Of an operation that Python starts."""
    if one.kind == "product":
        form = form_of(one, known, compiled and one.form not in known.products)
        start = known.host if form.startswith("compiled") else known.operator
        return start + product(one, known, held, form.startswith("compiled"))
    if one.kind == "attention":
        ours = compiled and known.compiled and one.part in ("vision", "audio")
        return known.operator + attention(one, known, ours, held)
    if one.kind in PRODUCTS and one.flops:
        size = max(one.activations / 6, 1.0) ** 0.5
        peak = known.products[one.dtype if one.dtype in known.products else "float32"]
        return known.operator + one.flops / peak.at(max(size, 1.0), (int(size) + 1, int(size) + 1))
    rates = known.curves if one.kind in CURVES else known.elements
    rate = min(rates.get(one.dtype, rates["float32"]), known.reading.at(max(held, one.activations)))
    return known.operator + (one.activations / rate if one.name else 0.0)
