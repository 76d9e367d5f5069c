"""Sequential calibration: the model block by block in running order, each linear fitted on what really reaches it, or
for methods whose card says so on what reached it before.

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
from trimtab.core.acts import Rounding
from trimtab.core.errors import BadInput
from trimtab.core.fit import Fit
from trimtab.core.heap import give_back
from trimtab.core.keep import Stream
from trimtab.core.linear import Host, Linear
from trimtab.core.onepass import in_one_pass
from trimtab.core.sensitivity import Sensitivity
from trimtab.core.stats import Gram
from trimtab.core.stored import Stored
from trimtab.core.weight import Weight
from trimtab.run import gather
from trimtab.run.batches import Batch, joined
from trimtab.run.lanes import Lanes, lanes
from trimtab.run.layers import NONE
from trimtab.run.settle import Bench, LayerReport, Unseen
from trimtab.run.targets import select

__all__ = ["MAX_TOKENS", "LayerReport", "walk"]

MAX_TOKENS = 1_024
"""Tokens that a block runs over at once in each lane: few enough that what is made on the way is little, and taken from
memory that was used before (allocations of more than 32 MiB are fresh pages each time)."""
HELD = 131_072
"""Tokens whose activations in one block are held while its stages are fitted; with more the block is replayed (but for
methods that are fitted on the model as it was: for these nothing is held)."""

OnLayer = Callable[[int, "list[LayerReport]", dict[str, Host]], None]
Done = Callable[[int], "Mapping[str, Weight] | None"]
Inputs = Callable[[int], "Mapping[str, Rounding]"]


def walk(
    anatomy: Anatomy,
    batches: Iterable[Batch],
    fit: Fit,
    targets: Sequence[str],
    *,
    ignore: Sequence[str] = (),
    on_layer: OnLayer = lambda index, reports, hosts: None,
    done: Done = lambda index: None,
    inputs: Inputs = lambda index: NONE,
    max_tokens: int = MAX_TOKENS,
    held: int = HELD,
    unseen: Unseen = "refuse",
    source: Callable[[str], Tensor] | None = None,
    sensitivity: Sensitivity | None = None,
    make: gather.Make | None = None,
) -> list[LayerReport]:
    """Fit every target in place and say how well; the reports of this call's units, in order.

    ``on_layer(index, reports, changed hosts)`` follows every unit. Where ``done(index)`` gives weights by host name
    they are put in place, nothing is fitted, and its reports are empty; ``inputs(index)`` says how those of them round
    their input that do. Batches are joined up to ``max_tokens``; where all have more than ``held``, blocks are replayed
    per stage. A tied weight is named once, by its first host. ``unseen``, ``source``, ``sensitivity``: see ``Bench``.
    ``make``: the empty Gram of a linear, to which all rows count alike where None. A method that needs no data runs no
    block; one whose card ``sees`` the model as it was before has its weights put in place behind every stream. The
    library's norms and gated units are computed in one pass (``core/onepass.py``). Raises BadInput before any work
    where targets, knobs or weights cannot be used, Refused for a linear that no sample reaches.
    """
    bench = Bench(anatomy, fit, unseen, source, sensitivity)
    how = gather.How.of(fit.CARD, held, make)
    plan = units(anatomy, bench, select(anatomy, targets, ignore))
    bench.check([name for names in plan for name in names])
    sets = joined(batches, max_tokens) if bench.fed else []
    if bench.fed and not sets:
        raise BadInput(f"{fit.CARD.name}: needs calibration data; got no batch")
    last = max(index for index, names in enumerate(plan) if names)
    streamed = any(isinstance(host.w, Stored) for host in bench.hosts.values())
    streams: list[Stream] = []
    reports: list[LayerReport] = []
    with torch.no_grad(), in_one_pass(anatomy.model.modules()), lanes() as side:
        for index, names in enumerate(plan):
            if index == (0 if how.before else 1) and last > 0:  # tables are read here, and by no block
                streams = [anatomy.start(batch) for batch in sets]
            stored = done(index)
            if not how.before:
                bench.place(stored, inputs(index))
            todo = names if stored is None else []
            made, streams = _unit(bench, index, todo, sets, streams if index <= last else [], how, side)
            if how.before:
                bench.place(stored, inputs(index))
            reports += made
            on_layer(index, made, {name: bench.hosts[name] for name in (names if stored is None else stored)})
            if streamed or index == 0:
                give_back()
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
    bench: Bench,
    index: int,
    names: Sequence[str],
    sets: Sequence[Batch],
    streams: list[Stream],
    how: gather.How,
    side: Lanes,
) -> tuple[list[LayerReport], list[Stream]]:
    """Settle ``names`` in unit ``index``; the reports, and the streams behind it."""
    if index == 0:
        return _tables(bench, names, sets, how.make, side), streams
    if index > len(bench.anatomy.blocks()):
        return _rest(bench, names, streams, how.make), []
    if not sets:
        return [bench.without(name) for name in names], []
    block, reports = bench.anatomy.blocks()[index - 1], list[LayerReport]()
    linears = [[cast(Linear, bench.hosts[n]) for n in stage] for stage in bench.anatomy.stages(block)]
    stages = [[host for host in stage if host.name in names] for stage in linears]

    with gather.unpacked([host for stage in linears for host in stage]) as unpack:

        def settle(stage: gather.Stage, gram: Gram) -> None:
            if stage[0] is linears[-1][0]:
                give_back()  # of what the passes made on their way: most is held now
            group = {host.name: host.w for host in stage}
            reports.extend(bench.settle(name, gram, group) for name in group)
            if not how.before:  # nothing runs through it again
                unpack(stage)

        behind = gather.run(block, streams, [stage for stage in stages if stage], settle, how, side)
    seen = {report.name for report in reports}
    reports += [bench.unreached(name) for name in names if name not in seen]
    return reports, behind


def _tables(
    bench: Bench, names: Sequence[str], sets: Sequence[Batch], make: gather.Make, side: Lanes
) -> list[LayerReport]:
    """Embeddings; one that is tied to the head on the head's input."""
    tied = {owner for owner, second in bench.aliases if bench.anatomy.part_of(second) == "head"}
    gram = None
    if sets and tied & set(names):
        gram = _head_gram(bench.anatomy, _through(bench.anatomy, sets, side), make)
    return [bench.settle(name, gram if name in tied else None) for name in names]


def _rest(bench: Bench, names: Sequence[str], streams: Sequence[Stream], make: gather.Make) -> list[LayerReport]:
    """The head on its own input; without data what no block runs, which changes no output."""
    heads = {name for name in names if bench.anatomy.part_of(name) == "head"}
    gram = _head_gram(bench.anatomy, streams, make) if heads and streams else None
    return [bench.settle(name, gram if name in heads else None) for name in names]


def _through(anatomy: Anatomy, sets: Sequence[Batch], side: Lanes) -> list[Stream]:
    """Every batch to the end, block by block: a matrix that lies in a file is read once for all of them."""
    linears, streams = dict(anatomy.linears()), [anatomy.start(batch) for batch in sets]
    for block in anatomy.blocks():
        hosts = [linears[name] for stage in anatomy.stages(block) for name in stage]
        with gather.unpacked([host for host in hosts if isinstance(host.w, Stored)]):
            streams = side.map(block, streams)
    return streams


def _head_gram(anatomy: Anatomy, streams: Iterable[Stream], make: gather.Make) -> Gram:
    inputs = ((anatomy.head_input(stream), stream) for stream in streams)
    x, stream = next(inputs)
    gram = make("head", x.shape[-1])
    gather.add(gram, x, stream, "head")
    for x, stream in inputs:
        gather.add(gram, x, stream, "head")
    return gram
