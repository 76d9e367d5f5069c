"""One layer's entries of the KV cache, and how they are moved when some are dropped or stored in another form.

Entries are in order, the newest last, with padding anywhere between. A layer begins with the same entries for all its
key heads, so positions and validity are (b, s); once the heads keep entries of their own they are (b, g, s). The oldest
may lie in ``older``, whole groups in another form, filled from the left in each row; the newest are plain tensors.

Index arithmetic depends on validity alone, so layers that hold the same tokens share it: ``once`` finds what was
computed for the layer before (``trimtab.anatomy.recent``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

Once = Callable[..., Any]  # once(function, *given): function(*given)


@runtime_checkable
class Older(Protocol):
    """Entries in groups of ``group_size``, as many groups for every row and key head; ``read`` is (k, v) as the model
    takes them, ``take`` some groups of each, ``join`` these groups and then others."""

    @property
    def group_size(self) -> int: ...
    @property
    def length(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    def read(self) -> tuple[Float[Tensor, "b g n d"], Float[Tensor, "b g n e"]]: ...
    def take(self, groups: Integer[Tensor, "b *g n"]) -> Older: ...
    def join(self, other: Any) -> Older: ...


@dataclass(frozen=True)
class Layout:
    """Where entries go: ``index`` of each in the old order and whether it is ``valid``; of these in ``older`` the
    ``groups``, of plain ones the ``newest`` that stay so, and those that are ``going`` into groups."""

    index: Tensor
    valid: Tensor
    newest: Tensor
    groups: Tensor | None = None
    going: Tensor | None = None


@dataclass
class Slot:
    """``k``, ``v``: the newest entries as they are, ``older``: those before them. ``size``: how many tokens each entry
    stands for, None for one everywhere. ``valid`` and ``positions`` cover both."""

    positions: Integer[Tensor, "b *g s"]
    valid: Bool[Tensor, "b *g s"]
    k: Float[Tensor, "b h t d"] | None = None
    v: Float[Tensor, "b h t e"] | None = None
    size: Float[Tensor, "b *g s"] | None = None
    older: Older | None = None

    @property
    def grouped(self) -> int:
        """Entries of a row in ``older``, padding included."""
        return 0 if self.older is None else self.older.length

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values in whatever form, and of positions and validity where they are this layer's own."""
        own = (self.positions, self.valid, self.size) if self.valid.ndim == 3 else ()
        plain = sum(t.nbytes for t in (self.k, self.v, *own) if t is not None)
        return plain + (0 if self.older is None else self.older.nbytes)

    def append(self, k: Float[Tensor, "b h n d"], v: Float[Tensor, "b h n e"]) -> None:
        """The keys and values of the newest entries."""
        self.k = k if self.k is None else torch.cat([self.k, k], 2)
        self.v = v if self.v is None else torch.cat([self.v, v], 2)

    def read(self) -> tuple[Tensor, Tensor]:
        """All keys and values. Raises ValueError before there are any."""
        k, v = self._plain()
        if self.older is None:
            return k, v
        old_k, old_v = self.older.read()
        return torch.cat([old_k, k], 2), torch.cat([old_v, v], 2)

    def keep(self, chosen: Bool[Tensor, "b *g s"], once: Once) -> None:
        """Store the ``chosen`` valid entries and free the others; rows that keep fewer are filled up with padding. In
        ``older`` a group goes when all of it does."""
        k, v = self._plain()
        plan = once(kept, chosen, self.grouped, 0 if self.older is None else self.older.group_size)
        if self.older is not None:
            self.older = self.older.take(plan.groups) if plan.groups.shape[-1] else None
        self._place(plan, k, v, once)

    def cut(self, start: int, once: Once) -> None:
        """Free the first ``start`` places, padding in every row and head: a slice costs less than choosing."""
        if not start:
            return
        k, v = self._plain()
        self.positions, self.valid = once(_from, self.positions, start), once(_from, self.valid, start)
        self.size = None if self.size is None else once(_from, self.size, start)
        self.k, self.v = k[..., start:, :].clone(), v[..., start:, :].clone()

    def fold(self, encode: Callable[[Tensor, Tensor], Older], group_size: int, residual: int, once: Once) -> None:
        """Move the oldest plain entries into ``older``, as ``encode`` makes it of (k, v), in whole groups; at least the
        newest ``residual`` of each row and head stay as they are."""
        if self.valid.shape[-1] - self.grouped < residual + group_size:
            return
        plan = once(folded, self.valid, self.grouped, group_size, residual)
        if plan is None:
            return
        k, v = self._plain()
        fresh = encode(along(k, plan.going), along(v, plan.going))
        self.older = (fresh if self.older is None else self.older.join(fresh)).take(plan.groups)
        self._place(plan, k, v, once)

    def _place(self, plan: Layout, k: Tensor, v: Tensor, once: Once) -> None:
        self.positions, self.valid = once(along, self.positions, plan.index), plan.valid
        self.size = None if self.size is None else once(along, self.size, plan.index)
        self.k, self.v = along(k, plan.newest), along(v, plan.newest)

    def _plain(self) -> tuple[Tensor, Tensor]:
        if self.k is None or self.v is None:
            raise ValueError("slot: got no keys and values yet")
        return self.k, self.v


def _from(t: Tensor, start: int) -> Tensor:
    return t[..., start:].clone()


def along(t: Tensor, index: Tensor) -> Tensor:
    """The entries at ``index`` (b, n) or (b, g, n): of t (b, s), (b, g, s) or (b, g, s, ...)."""
    if t.ndim < index.ndim:
        t = t[:, None].expand(-1, index.shape[1], -1)
    elif t.ndim > 2 and index.ndim == 2:
        index = index[:, None].expand(-1, t.shape[1], -1)
    more = t.shape[index.ndim :]
    return t.gather(index.ndim - 1, index[(...,) + (None,) * len(more)].expand(*index.shape, *more))


def kept(chosen: Bool[Tensor, "b *g s"], grouped: int, group_size: int) -> Layout:
    """Chosen plain entries to the right; of the first ``grouped`` the groups with a chosen one to the left."""
    plain = chosen[..., grouped:]
    newest = _to_the_right(plain)
    index, valid = newest + grouped, plain.gather(-1, newest)
    if not grouped:
        return Layout(index, valid, newest)
    groups = _to_the_left(_alive(chosen, grouped, group_size))
    columns = _columns(groups, group_size)
    return Layout(
        torch.cat([columns, index], -1), torch.cat([chosen.gather(-1, columns), valid], -1), newest, groups
    )  # fmt: skip


def folded(valid: Bool[Tensor, "b *g s"], grouped: int, group_size: int, residual: int) -> Layout | None:
    """The layout with as many further groups in each row and head as leave ``residual`` plain ones; None for none."""
    plain = valid[..., grouped:]
    fresh = ((plain.sum(-1) - residual) // group_size).clamp(min=0)
    if not int(fresh.max()):
        return None
    goes = plain & (plain.cumsum(-1) <= (fresh * group_size)[..., None])
    going, newest = _to_the_left(goes), _to_the_right(plain & ~goes)
    before = _alive(valid, grouped, group_size).sum(-1)
    place = torch.arange(int((before + fresh).max()), device=valid.device)
    new = (place - before[..., None]).clamp(0, going.shape[-1] // group_size - 1)
    groups = torch.where(place < before[..., None], place, grouped // group_size + new)
    every = torch.arange(grouped, device=valid.device).expand(*valid.shape[:-1], grouped)
    columns = torch.cat([every, going + grouped], -1).gather(-1, _columns(groups, group_size))
    there = (place < (before + fresh)[..., None]).repeat_interleave(group_size, -1)
    return Layout(
        torch.cat([columns, newest + grouped], -1),
        torch.cat([there & valid.gather(-1, columns), (plain & ~goes).gather(-1, newest)], -1),
        newest, groups, going,
    )  # fmt: skip


def _alive(valid: Bool[Tensor, "*b s"], grouped: int, group_size: int) -> Bool[Tensor, "*b n"]:
    """Groups with a valid entry."""
    count = grouped // group_size
    return valid[..., :grouped].unflatten(-1, (count, group_size)).any(-1)


def _columns(groups: Integer[Tensor, "*b n"], group_size: int) -> Integer[Tensor, "*b m"]:
    """The entries of ``groups``, one after the other."""
    within = torch.arange(group_size, device=groups.device)
    return (groups[..., None] * group_size + within).flatten(-2)


def _to_the_right(which: Bool[Tensor, "*b n"]) -> Integer[Tensor, "*b m"]:
    """Indices of what is True, in order, last; before them whatever fills up a row that has fewer."""
    count = int(which.sum(-1).max())
    return which.long().argsort(dim=-1, stable=True)[..., which.shape[-1] - count :]


def _to_the_left(which: Bool[Tensor, "*b n"]) -> Integer[Tensor, "*b m"]:
    """Indices of what is True, in order, first; behind them whatever fills up a row that has fewer."""
    count = int(which.sum(-1).max())
    return (~which).long().argsort(dim=-1, stable=True)[..., :count]
