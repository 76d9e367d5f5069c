"""Steps that train beside a model, put a trained adapter there, or merge one: ``lora``, ``load_adapter``, ``merge``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trimtab import methods
from trimtab.adapt import peft
from trimtab.adapt.load import LoadAdapter
from trimtab.adapt.lora import LoRA, attached, settled
from trimtab.adapt.merge import Merge, added
from trimtab.core.codebook import Codebook
from trimtab.core.errors import BadInput, nearest
from trimtab.core.factors import LowRank
from trimtab.core.fit import Site
from trimtab.core.joins import Sum, leaves
from trimtab.core.linear import Host, Linear
from trimtab.core.weight import Dense, Quantized, Weight, bits
from trimtab.load.loaded import Loaded
from trimtab.run.context import Context
from trimtab.run.layers import Layers
from trimtab.run.settle import relative_error
from trimtab.run.targets import select
from trimtab.run.teach import Lesson, lessons, taught
from trimtab.run.tune import Schedule, Tuning

Changed = dict[str, tuple[Weight, Weight]]
"""By host name what stood there and what stands there now."""


def apply(context: Context, index: int, label: str, name: str, knobs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Do the step, or put its stored result in place; the report's rows of what it changed."""
    stored = Layers(context.folder.state / f"step-{index}")
    found = stored.get(0)
    linears = dict(context.loaded.anatomy.linears())
    if found is not None:
        for path, w in found[0].items():
            _put(context, linears[path], w)
        return found[1]
    method = methods.make(name, knobs)
    changed: Changed = WORK[name](context, method, stored.folder.with_name(f"step-{index}-training.safetensors"), label)
    rows = [_row(context, path, old, new, label) for path, (old, new) in changed.items()]
    stored.put(0, {path: new for path, (_, new) in changed.items()}, rows)
    return rows


def _put(context: Context, host: Host, w: Weight) -> None:
    """``w`` at a host and at those that shared its weight."""
    _share(context.loaded, host.w, w)


def _share(loaded: Loaded, old: Weight, w: Weight) -> None:
    for other in (*dict(loaded.anatomy.linears()).values(), *dict(loaded.anatomy.embeddings()).values()):
        if other.w is old:
            other.w = w
            other.kernel = None


def _row(context: Context, path: str, old: Weight, new: Weight, label: str) -> dict[str, Any]:
    """As a layer-wise step's: the error is how much the matrix moved, ||W' - W|| / ||W||."""
    moved = relative_error(old, new, None)
    each = bits(new) / (new.shape[0] * new.shape[1])
    return {"name": path, "part": context.loaded.anatomy.part_of(path), "step": label, "error": moved,
            "bits_per_weight": each, "seen": {}}  # fmt: skip


def train(context: Context, method: LoRA, state: Path, label: str) -> Changed:
    """Adapters trained on the task's own training side, and written to ``adapter/`` as PEFT has them."""
    anatomy, library = context.loaded.anatomy, context.loaded.library
    chosen = set(select(anatomy, method.target_modules))
    hosts = {path: host for path, host in anatomy.linears() if path in chosen}
    sizes(method, hosts)
    before = {path: host.w for path, host in hosts.items()}
    generator = torch.Generator().manual_seed(method.seed)
    for value in library.parameters():
        value.requires_grad_(False)
    lows: dict[str, LowRank] = {}
    for path, host in hosts.items():
        lows[path] = method.start(host.w.shape, generator)
        _put(context, host, attached(host.w, lows[path]))
    parameters: dict[str, nn.Parameter] = {}
    for path, low in lows.items():
        parameters |= {f"{path}.left": low.left, f"{path}.right": low.right}
    school = lessons(context, method)
    schedule = Schedule(method.epochs, method.batch_size, method.learning_rate, method.patience, method.seed)

    def progress(done: int, total: int) -> None:
        context.progress(label, done, total)

    tuning: Tuning[Lesson] = Tuning(parameters, school.train, school.held, school.loss, schedule, state, progress)
    ended = tuning.run()
    context.log.info("%s: %d steps; %s", label, ended.step, ended.log)
    for host in hosts.values():
        assert isinstance(host.w, Sum)
        _put(context, host, settled(host.w, library.dtype))
    ends = {path: _last(host.w) for path, host in hosts.items()}
    kept = {path: low for path, low in ends.items() if isinstance(low, LowRank)}
    if kept:
        peft.write(
            context.folder.root / "adapter", kept, context.loaded.source.id, method.lora_alpha, method.use_rslora
        )
    return {path: (before[path], hosts[path].w) for path in hosts}


def _last(w: Weight) -> Weight:
    *_, last = leaves(w)
    return last


def sizes(method: LoRA, hosts: Mapping[str, Host]) -> None:
    """Raises BadInput, naming the layer, where the rank does not fit a matrix."""
    for path, host in hosts.items():
        try:
            out, width = host.w.shape
            method.check(width, out)
        except ValueError as error:
            raise BadInput(f"lora.{error} ({path})") from error


def check(context: Context, name: str, method: Any) -> None:
    """What can be known before any work. Raises BadInput for a rank above a dimension, targets that are not there,
    training on what is measured, or an adapter of another base."""
    linears = dict(context.loaded.anatomy.linears())
    if name == "lora":
        taught(context, method)
        chosen = select(context.loaded.anatomy, method.target_modules)
        tables = [path for path in chosen if path not in linears]
        if tables:
            raise BadInput(f"lora.target_modules: {', '.join(tables)}: a word embedding; accepted: linear layers")
        sizes(method, {path: linears[path] for path in chosen})
        unrounded(name, {path: linears[path] for path in chosen})
    elif name == "load_adapter":
        adapters = fitting(method.adapters(), linears, method.path)
        unrounded(name, {path: linears[path] for path in adapters})


def unrounded(name: str, hosts: Mapping[str, Linear]) -> None:
    """Raises BadInput, naming the first layer, where an input is rounded: an adapter would get the rounded one, and no
    gradient comes through it."""
    for path, host in hosts.items():
        if host.acts is not None:
            raise BadInput(f"{name}: {path} rounds its input to 8 bits (w8a8, w8a8_static, smoothquant), beside which "
                           "no adapter can stand; accepted: the model before that step, or other "
                           "target_modules")  # fmt: skip


def load(context: Context, method: LoadAdapter, state: Path, label: str) -> Changed:
    """A PEFT folder's adapters beside the matrices that they name."""
    linears = dict(context.loaded.anatomy.linears())
    changed: Changed = {}
    for path, adapter in fitting(method.adapters(), linears, method.path).items():
        old = linears[path].w
        changed[path] = old, adapter.beside(old)
        _put(context, linears[path], changed[path][1])
    return changed


def put_beside(loaded: Loaded, folder: str) -> None:
    """A PEFT folder's adapters beside the matrices of a model that is no run's. Raises as ``check`` does."""
    linears = dict(loaded.anatomy.linears())
    adapters = fitting(LoadAdapter(folder).adapters(), linears, folder)
    unrounded("load_adapter", {path: linears[path] for path in adapters})
    for path, adapter in adapters.items():
        old = linears[path].w
        _share(loaded, old, adapter.beside(old))


def fitting(
    adapters: Mapping[str, peft.Adapter], linears: Mapping[str, Linear], where: str
) -> Mapping[str, peft.Adapter]:
    """The adapters as they are. Raises BadInput, naming the first layer, for those of another base."""
    for path, adapter in adapters.items():
        if path not in linears:
            raise BadInput(f"load_adapter: {where}: adapts {path!r}, which this model does not have"
                           f"{nearest(path, linears)}; it was trained on another base")  # fmt: skip
        if adapter.low.shape != linears[path].w.shape:
            raise BadInput(f"load_adapter: {where}: {path} is {list(adapter.low.shape)} there and "
                           f"{list(linears[path].w.shape)} in this model; it was trained on another base")  # fmt: skip
    return adapters


def merge(context: Context, method: Merge, state: Path, label: str) -> Changed:
    """Every matrix with an adapter or thin factors as one. Raises BadInput where there is none, or one stands on a grid
    and may not be rounded."""
    changed: Changed = {}
    for path, host in context.loaded.anatomy.linears():
        if added(host.w):
            old = host.w
            try:
                changed[path] = old, method(old, path, rounded)
            except ValueError as error:
                raise BadInput(f"merge.{error}") from error
            _put(context, host, changed[path][1])
    if not changed:
        raise BadInput("merge: no layer has an adapter; put it behind lora, load_adapter or eora")
    return changed


def rounded(dense: Tensor, like: Quantized | Codebook) -> Weight:
    """``dense`` rounded to nearest on a grid of the bits and group of ``like``, or on its levels."""
    if isinstance(like, Quantized):
        fit = methods.make("rtn", {"bits": like.bits, "group_size": like.group_size, "symmetric": like.zero is None})
    elif like.levels == "nf4":
        fit = methods.make("nf4", {"group_size": like.group_size, "double_quant": like.form != "float32"})
    else:
        fit = methods.make("fp4", {"format": "mxfp4" if like.form == "e8m0" else "nvfp4"})
    made: Weight = fit(Dense(dense), Site("", lambda: dense))
    return made


WORK: dict[str, Callable[[Context, Any, Path, str], Changed]] = {"lora": train, "load_adapter": load, "merge": merge}


def touched(rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """The layers of a step's rows."""
    return {row["name"] for row in rows}
