"""What each step established, re-checked after every later one.

An invariant has an address (a host's path, or a policy's place in the list) and a predicate over what is stored. A
step that removes one must declare on its card that it consumes it; otherwise the run is ANOMALOUS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from trimtab.core.linear import Host
from trimtab.core.pack import unpack
from trimtab.core.sparse import Masked
from trimtab.core.weight import Quantized, bits


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
    w = host.w
    if not isinstance(w, Quantized):
        return f"stored as {type(w).__name__}, not on a grid"
    if (w.bits, w.group_size) != (one.expect["bits"], one.expect["group_size"]):
        return f"on a grid of {w.bits} bits, group {w.group_size}"
    if bits(w) > one.expect["stored_bits"]:
        return f"takes {bits(w)} bits where {one.expect['stored_bits']} were claimed"
    if int(unpack(w.codes, w.bits).max()) >= 2**w.bits or not bool(torch.isfinite(w.scale).all()):
        return "codes or scales outside the grid"
    return None


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
    w = host.w
    if not isinstance(w, Masked):
        return f"stored as {type(w).__name__}, with nothing left out"
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


PREDICATES: dict[str, Callable[[State, Invariant], str | None]] = {
    "on_grid": _on_grid, "masked": _masked, "tokens_kept": partial(_kept, "token"),
    "cache_kept": partial(_kept, "cache"),
}  # fmt: skip
COUNTS = {"token": 256, "cache": 4096}  # any numbers show whether a policy still keeps its share


def kept(policy: Any, address: str, step: str) -> Invariant:
    """What a token or cache policy promises, as it is now."""
    axis = policy.at.axis
    expect = {"of": COUNTS[axis], **_holds(policy, COUNTS[axis])}
    return Invariant("tokens_kept" if axis == "token" else "cache_kept", address, expect, step)


def on_grid(hosts: Mapping[str, Host], step: str) -> list[Invariant]:
    """The grid of every quantized host among ``hosts``, as it is now."""
    found = []
    for path, host in hosts.items():
        if isinstance(host.w, Quantized):
            expect = {"bits": host.w.bits, "group_size": host.w.group_size, "stored_bits": bits(host.w)}
            found.append(Invariant("on_grid", path, expect, step))
    return found


def masked(hosts: Mapping[str, Host], step: str) -> list[Invariant]:
    """The mask of every pruned host among ``hosts``, as it is now, with its pattern n of m where it has one."""
    found = []
    for path, host in hosts.items():
        if isinstance(host.w, Masked):
            expect = {"kept": host.w.values.numel(), "stored_bits": bits(host.w), "pattern": _pattern(host.w.kept())}
            found.append(Invariant("masked", path, expect, step))
    return found


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
