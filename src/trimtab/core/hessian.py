"""H = X X^T of a linear's inputs, made fit to be factorized: what methods that minimize tr(D H D^T) share."""

from __future__ import annotations

import logging

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from trimtab.core.errors import Anomaly, BadInput
from trimtab.core.fit import Site

log = logging.getLogger(__name__)


def live(h: Float[Tensor, "n n"]) -> Bool[Tensor, " n"]:
    """The inputs that were not always 0."""
    return h.diagonal() > 0


def scaled(h: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """H over the mean of its live diagonal. Raises ValueError where H is not finite or has a negative diagonal."""
    diagonal, seen = h.diagonal(), live(h)
    if not h.isfinite().all() or (diagonal < 0).any():
        raise ValueError("the second moment of the input is not finite or has a negative diagonal")
    mean = diagonal[seen].mean() if seen.any() else torch.tensor(1.0)
    return h / mean


def conditioned(h: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """``scaled``, with 1 on the diagonal where an input was always 0: it meets no other, and H has an inverse."""
    made: Tensor = scaled(h) + torch.diag((~live(h)).float())
    return made


def inverse_root(h: Float[Tensor, "n n"], damp: float) -> tuple[Float[Tensor, "n n"], float]:
    """U, upper triangular, with (H + damp I)^-1 = U^T U, by one Cholesky and one triangular inverse; and damp.

    With J the reversal, J H J = L L^T makes J L J an upper root R of H = R R^T, and U = R^-1 = J L^-1 J. Where H is not
    positive definite in float32, damp grows tenfold, up to the mean of the diagonal; then ValueError.
    """
    eye = torch.eye(h.shape[0])
    while damp <= 1:
        lower, failed = torch.linalg.cholesky_ex((h + damp * eye).flip(0, 1))
        if not failed:
            inverse: Tensor = torch.linalg.solve_triangular(lower, eye, upper=False)
            return inverse.flip(0, 1), damp
        damp = max(10 * damp, 1e-4)
        log.warning("Cholesky failed; damp_percent raised to %g", damp)
    raise ValueError("the second moment of the input is not positive definite, whatever the damping")


def seen(site: Site, method: str) -> Float[Tensor, "n n"]:
    """``scaled`` H of a site, for ``method``. Raises BadInput where no input was seen, Anomaly where H is no number."""
    try:
        return scaled(_moment(site, method))
    except ValueError as error:
        raise _blamed(site, error) from error


def rooted(site: Site, method: str, damp: float) -> tuple[Float[Tensor, "n n"], Float[Tensor, "n n"]]:
    """``conditioned`` H of a site, for ``method``, and its ``inverse_root``: once for the linears that share an input.
    How much was damped goes into the site's notes. Raises as ``seen`` does, and Anomaly where H cannot be factorized.
    """
    moment, key = _moment(site, method), f"root {damp}"
    assert site.gram is not None
    done = site.gram.derived
    try:
        if key not in done:
            done["conditioned"] = conditioned(moment)
            done[key], used = inverse_root(done["conditioned"], damp)
            done[f"{key}: used"] = torch.tensor(used, dtype=torch.float64)
    except ValueError as error:
        raise _blamed(site, error) from error
    site.notes["damp_percent"] = float(done[f"{key}: used"])
    return done["conditioned"], done[key]


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
