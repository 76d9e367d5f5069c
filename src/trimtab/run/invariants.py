"""What each step established, re-checked after every later one.

An invariant has an address (a host's path, or a policy's place in the list) and a predicate over what is stored. Of a
layer that is a leaf of its expression, so what a later step adds beside the leaf leaves it standing. A step that
removes one must declare on its card that it consumes it; otherwise the run is ANOMALOUS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from trimtab.core.acts import parted
from trimtab.core.codebook import Codebook
from trimtab.core.factors import LowRank
from trimtab.core.joins import leaves
from trimtab.core.linear import Host, Linear
from trimtab.core.pack import unpack
from trimtab.core.sparse import Masked
from trimtab.core.weight import Quantized, Weight, bits

W = TypeVar("W", bound=Weight)


@dataclass(frozen=True)
class Invariant:
    """``name`` as on the card, ``address`` where, ``expect`` the numbers it promised, ``step`` who established it."""

    name: str
    address: str
    expect: dict[str, Any]
    step: str

    def row(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class State:
    """What invariants look at: every host by path, and the policies in order."""

    hosts: Mapping[str, Host]
    policies: Sequence[Any]


def _on_grid(state: State, one: Invariant) -> str | None:
    host = state.hosts.get(one.address)
    if host is None:
        return "the layer is gone"
    if "levels" in one.expect:
        return _any(host.w, Codebook, "not on levels", lambda w: _levels(w, one))
    return _any(host.w, Quantized, "not on a grid", lambda w: _grid(w, one))


def _any(w: Weight, kind: type[W], without: str, wrong: Callable[[W], str | None]) -> str | None:
    """Why no leaf of ``kind`` in an expression keeps a promise; None where one does."""
    found = [wrong(leaf) for leaf in leaves(w) if isinstance(leaf, kind)]
    if not found:
        return f"stored as {type(w).__name__}, {without}"
    return None if None in found else found[0]


def _grid(w: Quantized, one: Invariant) -> str | None:
    if (w.bits, w.group_size) != (one.expect["bits"], one.expect["group_size"]):
        return f"on a grid of {w.bits} bits, group {w.group_size}"
    if bits(w) > one.expect["stored_bits"]:
        return f"takes {bits(w)} bits where {one.expect['stored_bits']} were claimed"
    if int(unpack(w.codes, w.bits).max()) >= 2**w.bits or not bool(torch.isfinite(w.scale).all()):
        return "codes or scales outside the grid"
    return None


def _levels(w: Codebook, one: Invariant) -> str | None:
    if (w.levels, w.group_size) != (one.expect["levels"], one.expect["group_size"]):
        return f"on levels of {w.levels}, group {w.group_size}"
    if bits(w) > one.expect["stored_bits"]:
        return f"takes {bits(w)} bits where {one.expect['stored_bits']} were claimed"
    return None if bool(torch.isfinite(w.scales.read(slice(None))).all()) else "scales that are no numbers"


def _kept(axis: str, state: State, one: Invariant) -> str | None:
    index = int(one.address.removeprefix("policy "))
    if index >= len(state.policies) or state.policies[index].at.axis != axis:
        return "the policy is gone"
    count = one.expect["of"]
    found = _holds(state.policies[index], count)
    for what, number in found.items():
        if number != one.expect[what]:
            return f"{what} {number} of {count}, not {one.expect[what]}"
    return None


def _holds(policy: Any, count: int) -> dict[str, int]:
    """What a policy makes of ``count`` tokens or entries, in numbers."""
    if policy.at.axis == "token":
        return {"kept": policy.budget(count)}
    return dict(policy.holds(count))


def _masked(state: State, one: Invariant) -> str | None:
    host = state.hosts.get(one.address)
    if host is None:
        return "the layer is gone"
    return _any(host.w, Masked, "with nothing left out", lambda w: _mask(w, one))


def _mask(w: Masked, one: Invariant) -> str | None:
    mask = w.kept()
    if w.values.numel() != one.expect["kept"] or int(mask.sum()) != one.expect["kept"]:
        return f"keeps {int(mask.sum())} weights of {w.values.numel()} values, {one.expect['kept']} were claimed"
    if bits(w) > one.expect["stored_bits"]:
        return f"takes {bits(w)} bits where {one.expect['stored_bits']} were claimed"
    if one.expect["pattern"] is not None:
        most, size = one.expect["pattern"]
        if int(mask.unflatten(1, (-1, size)).sum(2).max()) > most:
            return f"more than {most} of {size} neighbours stay somewhere"
    return None if bool(torch.isfinite(w.values).all()) else "values that are no numbers"


def _low_rank(state: State, one: Invariant) -> str | None:
    host = state.hosts.get(one.address)
    if host is None:
        return "the layer is gone"
    return _any(host.w, LowRank, "without thin factors", lambda w: _thin(w, one))


def _thin(w: LowRank, one: Invariant) -> str | None:
    if w.rank != one.expect["rank"]:
        return f"of rank {w.rank} where {one.expect['rank']} was claimed"
    if w.scale != one.expect["scale"]:
        return f"of scale {w.scale} where {one.expect['scale']} was claimed"
    if bits(w) > one.expect["stored_bits"]:
        return f"takes {bits(w)} bits where {one.expect['stored_bits']} were claimed"
    finite = torch.isfinite(w.left).all() & torch.isfinite(w.right).all()
    return None if bool(finite) else "factors that are no numbers"


def _acts(state: State, one: Invariant) -> str | None:
    host = state.hosts.get(one.address)
    if not isinstance(host, Linear):
        return "the layer is gone"
    if host.acts is None or host.acts.spec() != one.expect:
        return "its input is not rounded" if host.acts is None else f"its input is rounded by {host.acts.spec()}"
    try:
        parted(host.w)
    except TypeError as error:
        return str(error)
    return None


PREDICATES: dict[str, Callable[[State, Invariant], str | None]] = {
    "on_grid": _on_grid, "masked": _masked, "low_rank": _low_rank, "adapter": _low_rank,
    "acts_8bit": _acts, "tokens_kept": partial(_kept, "token"), "cache_kept": partial(_kept, "cache"),
}  # fmt: skip
COUNTS = {"token": 256, "cache": 4096}  # any numbers show whether a policy still keeps its share


def kept(policy: Any, address: str, step: str) -> Invariant:
    """What a token or cache policy promises, as it is now."""
    axis = policy.at.axis
    expect = {"of": COUNTS[axis], **_holds(policy, COUNTS[axis])}
    return Invariant("tokens_kept" if axis == "token" else "cache_kept", address, expect, step)


def _of(
    hosts: Mapping[str, Host], name: str, kind: type[W], step: str, expect: Callable[[W], dict[str, Any]]
) -> list[Invariant]:
    """What ``expect`` says of the last leaf of ``kind`` in every host that has one, as it is now."""
    found = []
    for path, host in hosts.items():
        inside = [leaf for leaf in leaves(host.w) if isinstance(leaf, kind)]
        if inside:
            found.append(Invariant(name, path, expect(inside[-1]) | {"stored_bits": bits(inside[-1])}, step))
    return found


def on_grid(hosts: Mapping[str, Host], step: str) -> list[Invariant]:
    """The grid, or the levels, of every quantized host among ``hosts``."""
    even = _of(hosts, "on_grid", Quantized, step, lambda w: {"bits": w.bits, "group_size": w.group_size})
    return even + _of(hosts, "on_grid", Codebook, step, lambda w: {"levels": w.levels, "group_size": w.group_size})


def masked(hosts: Mapping[str, Host], step: str) -> list[Invariant]:
    """The mask of every pruned host among ``hosts``, with its pattern n of m where it has one."""
    return _of(hosts, "masked", Masked, step, lambda w: {"kept": w.values.numel(), "pattern": _pattern(w.kept())})


def low_rank(hosts: Mapping[str, Host], step: str) -> list[Invariant]:
    """The rank of what was last added to every host among ``hosts`` that has thin factors."""
    return _of(hosts, "low_rank", LowRank, step, lambda w: {"rank": w.rank, "scale": w.scale})


def acts_8bit(hosts: Mapping[str, Host], step: str) -> list[Invariant]:
    """What every linear among ``hosts`` that rounds its input does to it."""
    found = {path: host.acts for path, host in hosts.items() if isinstance(host, Linear)}
    return [Invariant("acts_8bit", path, acts.spec(), step) for path, acts in found.items() if acts is not None]


LAYERS: dict[str, Callable[[Mapping[str, Host], str], list[Invariant]]] = {
    "on_grid": on_grid, "masked": masked, "low_rank": low_rank, "acts_8bit": acts_8bit,
}  # fmt: skip
"""What a layer-wise method may establish, by name."""


def adapters(hosts: Mapping[str, Host], step: str) -> list[Invariant]:
    """The adapter beside every host among ``hosts`` that has one, the last that was put there."""
    return _of(hosts, "adapter", LowRank, step, lambda w: {"rank": w.rank, "scale": w.scale})


def _pattern(mask: Tensor) -> list[int] | None:
    """[n, m] where in every row n of every m neighbours stay, for the m that hardware knows."""
    for size in (4, 8, 16, 32):
        if mask.shape[1] % size == 0:
            counts = mask.unflatten(1, (-1, size)).sum(2)
            if int(counts.min()) == int(counts.max()) < size:
                return [int(counts.max()), size]
    return None


def check(state: State, standing: Sequence[Invariant]) -> list[dict[str, Any]]:
    """One row per kind of invariant and step: how many hold, and the first that do not, with the reason."""
    groups: dict[tuple[str, str], list[Invariant]] = {}
    for one in standing:
        groups.setdefault((one.name, one.step), []).append(one)
    rows = []
    for (name, step), members in groups.items():
        broken = [(one.address, why) for one in members if (why := PREDICATES[name](state, one)) is not None]
        detail = f"{len(members) - len(broken)} of {len(members)} hold"
        if broken:
            detail += "; " + "; ".join(f"{address}: {why}" for address, why in broken[:3])
        rows.append({"name": name, "step": step, "holds": not broken, "detail": detail})
    return rows
