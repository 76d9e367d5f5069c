"""The matrix of rank r that best stands in for what a layer has lost: the math that EoRA and its control share."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from trimtab.core.factors import LowRank
from trimtab.core.fit import Site
from trimtab.core.weight import Weight, rows

EXACT = 2048
"""Up to this width eigenvectors are taken in float64, above it in float32."""
FLOOR = 1e-6
"""Of the largest eigenvalue of H: below it an input's direction counts as if it had so much, since float32 sums tell no
more, and so that H^1/2 can be undone."""
CHUNK = 4096
"""Rows worked on at once."""


def check_rank(r: int, width: int, rows: int | None) -> None:
    """Raises ValueError, with the nearest legal value, where a matrix of that shape cannot have the rank ``r``."""
    most = width if rows is None else min(width, rows)
    if not 1 <= r <= most:
        shape = f"rows of {width}" if rows is None else f"{rows} x {width}"
        raise ValueError(f"r: got {r} for {shape}; accepted: 1 to {most} (nearest: {min(max(r, 1), most)})")


def leading(m: Float[Tensor, "n n"], r: int) -> tuple[Float[Tensor, " r"], Float[Tensor, "n r"]]:
    """The ``r`` largest eigenvalues of a symmetric ``m`` >= 0, the largest first, and their vectors, each with its
    largest entry positive."""
    values, vectors = torch.linalg.eigh(m)
    values, vectors = values.flip(0)[:r].clamp(min=0), vectors.flip(1)[:, :r]
    peaks = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    return values, vectors * peaks.sign()


def root(squares: Float[Tensor, " r"]) -> Float[Tensor, " r"]:
    """S^1/2 of squared singular values, the largest first; where one is nothing to the largest, that of the largest."""
    counts = torch.where(squares > 1e-12 * squares[0], squares, squares[0])
    return torch.where(counts > 0, counts, 1.0).pow(0.25)


def differences(w: Weight, source: Float[Tensor, "out in"], kind: torch.dtype) -> Iterator[Float[Tensor, "part in"]]:
    """The rows of source - w in order, some at once."""
    for index in torch.split(torch.arange(len(source)), CHUNK):
        yield source[index].to(kind) - rows(w, index).to(kind)


def residue(w: Weight, site: Site, h: Float[Tensor, "in in"], r: int) -> LowRank:
    """B A of rank ``r`` that minimizes tr(E H E^T), E = D - B A, D = W - W_c, in W_c's dtype.

    With H = R R^T and D R = U S V^T it is B = U_r S_r^1/2, A = S_r^1/2 V_r^T R^-1 (Eckart and Young). Of the two ways
    to U or V the one with the smaller eigenproblem is taken: U from D H D^T, where A = S_r^-1/2 U_r^T D needs no root
    of H; or, R = Q L^1/2 from H = Q L Q^T, V from R^T D^T D R, where D is never whole in memory.
    """
    kind = torch.float64 if w.shape[1] <= EXACT else torch.float32
    source, h = site.source().detach(), h.to(kind)
    if w.shape[0] <= w.shape[1]:
        d = torch.cat(list(differences(w, source, kind)))
        squares, u = leading(d @ h @ d.T, r)
        left, right = u * root(squares), (u / root(squares)).T @ d
    else:
        values, q = leading(h, len(h))
        spread = values.clamp(min=FLOOR * float(values[0]) or 1.0).sqrt()
        moment = sum(d.T @ d for d in differences(w, source, kind))
        assert isinstance(moment, Tensor)
        squares, v = leading((q * spread).T @ moment @ (q * spread), r)
        into = q @ (spread[:, None] * v / root(squares))
        left = torch.cat([d @ into for d in differences(w, source, kind)])
        right = (v * root(squares)).T @ (q / spread).T
    return LowRank(left.to(w.dtype), right.to(w.dtype))
