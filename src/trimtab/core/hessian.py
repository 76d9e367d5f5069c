"""H = X X^T of a linear's inputs, made fit to be factorized: what methods that minimize tr(D H D^T) share."""

from __future__ import annotations

import logging
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from trimtab.core.blocks import rotated_moment
from trimtab.core.errors import Anomaly, BadInput
from trimtab.core.finite import finite
from trimtab.core.fit import Site
from trimtab.core.triangular import cholesky, inverted

log = logging.getLogger(__name__)


def live(h: Float[Tensor, "n n"]) -> Bool[Tensor, " n"]:
    """The inputs that were not always 0."""
    return h.diagonal() > 0


def scaled(h: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """H over the mean of its live diagonal. Raises ValueError where H is not finite or has a negative diagonal."""
    diagonal, seen = h.diagonal(), live(h)
    if not finite(h) or (diagonal < 0).any():
        raise ValueError("the second moment of the input is not finite or has a negative diagonal")
    mean = diagonal[seen].mean() if seen.any() else torch.tensor(1.0)
    return h / mean


def conditioned(h: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """``scaled``, with 1 on the diagonal where an input was always 0: it meets no other, and H has an inverse."""
    made = scaled(h)
    made.diagonal().add_((~live(h)).float())
    return made


def inverse_root(h: Float[Tensor, "n n"], damp: float) -> tuple[Float[Tensor, "n n"], float]:
    """U, upper triangular, with (H + damp I)^-1 = U^T U, by one Cholesky and one triangular inverse; and damp.

    With J the reversal, J H J = L L^T makes J L J an upper root R of H = R R^T, and U = R^-1 = J L^-1 J. Where H is not
    positive definite in float32, damp grows tenfold, up to the mean of the diagonal; then ValueError.
    """
    while damp <= 1:
        damped = h.flip(0, 1)
        damped.diagonal().add_(damp)
        lower = cholesky(damped)
        if lower is not None:
            made = inverted(lower)
            del damped, lower  # at most three matrices of this size at a time
            return made.flip(0, 1), damp
        damp = max(10 * damp, 1e-4)
        log.warning("Cholesky failed; damp_percent raised to %g", damp)
    raise ValueError("the second moment of the input is not positive definite, whatever the damping")


def seen(site: Site, method: str) -> Float[Tensor, "n n"]:
    """``scaled`` H of a site, for ``method``. Raises BadInput where no input was seen, Anomaly where H is no number."""
    try:
        return scaled(_moment(site, method))
    except ValueError as error:
        raise _blamed(site, error) from error


def falling(diagonal: Float[Tensor, " n"], group: int) -> Integer[Tensor, " n"]:
    """The columns in order of falling second moment: groups of ``group`` neighbours by the sum over the group, columns
    so within each; what is equal stays as it was."""
    groups = diagonal.unflatten(0, (-1, group))
    within = groups.argsort(dim=1, descending=True, stable=True) + torch.arange(0, len(diagonal), group)[:, None]
    return within[groups.sum(1).argsort(descending=True, stable=True)].flatten()


class Rooted(NamedTuple):
    """``diagonal`` of the ``conditioned`` H of a site and its ``inverse_root``, columns in ``order``."""

    order: Integer[Tensor, " n"]
    diagonal: Float[Tensor, " n"]
    root: Float[Tensor, "n n"]


def rooted(site: Site, method: str, damp: float, group: int | None = None, rotate: int = 0) -> Rooted:
    """Of a site, for ``method``, once for the linears that share an input; in ``falling`` order of groups of ``group``
    columns, or as they stand; of inputs that are ``rotated`` in blocks of ``rotate`` (0: as they are). How much was
    damped goes into the site's notes. Raises as ``seen`` does, and Anomaly where H cannot be factorized."""
    moment, key = _moment(site, method), f"root {damp} {group} {rotate}"
    assert site.gram is not None
    done = site.gram.derived
    try:
        if f"{key}: root" not in done:
            h = conditioned(rotated_moment(moment, rotate))
            order = torch.arange(len(h)) if group is None else falling(h.diagonal(), group)
            h = h if group is None else h.index_select(0, order).index_select(1, order)
            root, used = inverse_root(h, damp)
            made = {"order": order, "diagonal": h.diagonal().clone(), "root": root}
            done |= {f"{key}: {name}": value for name, value in made.items()}
            done[f"{key}: used"] = torch.tensor(used, dtype=torch.float64)
    except ValueError as error:
        raise _blamed(site, error) from error
    site.notes["damp_percent"] = float(done[f"{key}: used"])
    return Rooted(*(done[f"{key}: {name}"] for name in Rooted._fields))


def check_damp(damp: float) -> None:
    """Raises ValueError where ``damp`` is no share."""
    if not 0 <= damp <= 1:
        raise ValueError(f"damp_percent: got {damp}; accepted: 0 to 1, a share (0.01 is usual)")


def _moment(site: Site, method: str) -> Float[Tensor, "n n"]:
    if site.gram is None:
        raise BadInput(f"{site.name}: {method} needs calibration data, and no input was seen (accepted: site.gram)")
    return site.gram.read().float()


def _blamed(site: Site, error: ValueError) -> Anomaly:
    return Anomaly(f"{site.name}: {error}. Look at the calibration data of this layer")
