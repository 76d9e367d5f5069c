"""Sequential calibration: the model block by block in running order, each linear fitted on what really reaches it.

Units of work, by index: 0 the embeddings, 1 to n the blocks, n + 1 the head and what no block runs. A tied embedding
and head are one matrix: it is fitted first, on the input that the head had before anything was changed, then frozen.
An embedding of its own has no input statistic and gets the method's data-free form; a head of its own comes last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor

from trimtab.anatomy import Anatomy
from trimtab.core.errors import BadInput
from trimtab.core.fit import Fit
from trimtab.core.keep import Stream
from trimtab.core.linear import Host, Linear
from trimtab.core.stats import Gram
from trimtab.core.weight import Weight
from trimtab.run import gather
from trimtab.run.batches import Batch, joined
from trimtab.run.settle import Bench, LayerReport
from trimtab.run.targets import select

__all__ = ["MAX_TOKENS", "LayerReport", "walk"]

MAX_TOKENS = 65_536
"""Tokens that a block runs over at once. Width 1,024 in float32 makes 256 MB for each activation."""

OnLayer = Callable[[int, "list[LayerReport]", dict[str, Host]], None]
Done = Callable[[int], "Mapping[str, Weight] | None"]


def walk(
    anatomy: Anatomy,
    batches: Iterable[Batch],
    fit: Fit,
    targets: Sequence[str],
    *,
    ignore: Sequence[str] = (),
    on_layer: OnLayer = lambda index, reports, hosts: None,
    done: Done = lambda index: None,
    max_tokens: int = MAX_TOKENS,
    allow_unseen: bool = False,
    source: Callable[[str], Tensor] | None = None,
) -> list[LayerReport]:
    """Fit every target in place and say how well; the reports of this call's units, in order.

    ``on_layer(index, reports, changed hosts)`` follows every unit. Where ``done(index)`` gives weights by host name
    they are put in place, nothing is fitted, and its reports are empty. Batches are joined up to ``max_tokens``; where
    one is not enough, blocks are replayed per batch. A tied weight is named once, by the host that comes first.
    ``allow_unseen``, ``source``: see ``Bench``. A method that needs no data runs no block. Raises BadInput before any
    work where targets or knobs do not fit, Refused for a linear that no sample reaches.
    """
    bench = Bench(anatomy, fit, allow_unseen, source)
    plan = units(anatomy, bench, select(anatomy, targets, ignore))
    bench.check([name for names in plan for name in names])
    sets = joined(batches, max_tokens) if bench.fed else []
    if bench.fed and not sets:
        raise BadInput(f"{fit.CARD.name}: needs calibration data; got no batch")
    last = max(index for index, names in enumerate(plan) if names)
    streams: list[Stream] = []
    reports: list[LayerReport] = []
    with torch.no_grad():
        for index, names in enumerate(plan):
            if index == 1 and last > 0:
                streams = [anatomy.start(batch) for batch in sets]
            stored = done(index)
            for name, w in (stored or {}).items():
                bench.put(name, w)
            todo = names if stored is None else []
            made, streams = _unit(bench, index, todo, sets, streams if index <= last else [])
            reports += made
            on_layer(index, made, {name: bench.hosts[name] for name in (names if stored is None else stored)})
    return reports


def units(anatomy: Anatomy, bench: Bench, chosen: Sequence[str]) -> list[list[str]]:
    """The chosen hosts by unit; a host that shares its weight stands for the others of its kind."""
    first = {second: owner for owner, second in bench.aliases}
    names = set(dict.fromkeys(first.get(name, name) for name in chosen))
    tables = [name for name, _ in anatomy.embeddings() if name in names]
    blocks = [[n for stage in anatomy.stages(b) for n in stage if n in names] for b in anatomy.blocks()]
    staged = {name for block in (tables, *blocks) for name in block}
    return [tables, *blocks, [name for name in bench.hosts if name in names - staged]]


def _unit(
    bench: Bench, index: int, names: Sequence[str], sets: Sequence[Batch], streams: Sequence[Stream]
) -> tuple[list[LayerReport], list[Stream]]:
    """Settle ``names`` in unit ``index``; the reports, and the streams behind it."""
    if index == 0:
        return _tables(bench, names, sets), []
    if index > len(bench.anatomy.blocks()):
        return _rest(bench, names, streams), []
    if not sets:
        return [bench.without(name) for name in names], []
    block, reports = bench.anatomy.blocks()[index - 1], list[LayerReport]()
    stages = [[cast(Linear, bench.hosts[n]) for n in stage if n in names] for stage in bench.anatomy.stages(block)]

    def settle(stage: gather.Stage, gram: Gram) -> None:
        group = {host.name: host.w for host in stage}
        reports.extend(bench.settle(name, gram, group) for name in group)

    behind = gather.run(block, streams, [stage for stage in stages if stage], settle)
    seen = {report.name for report in reports}
    reports += [bench.unseen(name) for name in names if name not in seen]
    return reports, behind


def _tables(bench: Bench, names: Sequence[str], sets: Sequence[Batch]) -> list[LayerReport]:
    """Embeddings; one that is tied to the head on the head's input."""
    tied = {owner for owner, second in bench.aliases if bench.anatomy.part_of(second) == "head"}
    gram = None
    if sets and tied & set(names):
        gram = _head_gram(bench.anatomy, (_through(bench.anatomy, batch) for batch in sets))
    return [bench.settle(name, gram if name in tied else None) for name in names]


def _rest(bench: Bench, names: Sequence[str], streams: Sequence[Stream]) -> list[LayerReport]:
    """The head on its own input; without data what no block runs, which changes no output."""
    heads = {name for name in names if bench.anatomy.part_of(name) == "head"}
    gram = _head_gram(bench.anatomy, streams) if heads and streams else None
    return [bench.settle(name, gram if name in heads else None) for name in names]


def _through(anatomy: Anatomy, batch: Batch) -> Stream:
    stream = anatomy.start(batch)
    for block in anatomy.blocks():
        stream = block(stream)
    return stream


def _head_gram(anatomy: Anatomy, streams: Iterable[Stream]) -> Gram:
    total, *others = (gather.gram_of(anatomy.head_input(stream), stream, "head") for stream in streams)
    for gram in others:
        total.merge(gram)
    return total
