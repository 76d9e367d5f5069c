"""One matrix of a model fitted and put in place, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Literal, Protocol, cast

import torch
from torch import Tensor

from trimtab.anatomy import Anatomy
from trimtab.core.acts import Rounding
from trimtab.core.errors import Anomaly, BadInput, Refused
from trimtab.core.fit import CalibratesInput, Fit, RoundsInput, Site
from trimtab.core.linear import Host, Linear
from trimtab.core.products import quadratic
from trimtab.core.sensitivity import Sensitivity
from trimtab.core.stats import KINDS, Gram
from trimtab.core.weight import Dense, Weight, bits, rows
from trimtab.run.finite import broken_inputs, broken_weights

Unseen = Literal["refuse", "dense", "round"]
"""What becomes of a linear that no calibration sample reached: an error, left as it is, or the data-free form."""

NO_GROUP: Mapping[str, Weight] = MappingProxyType({})
"""Of a matrix that is fitted alone."""


@dataclass(frozen=True)
class LayerReport:
    """``error``: ||(W - W') X||_F / ||W X||_F over calibration (over its first rows where the card says
    ``wants_moment`` False), without data ||W - W'||_F / ||W||_F; W is the matrix before the step, or the original one
    where the method wants that. ``bits``: stored for each weight. ``seen``: rows at the input by kind (all 0 without
    data). ``damp``: what was added to the diagonal of H as a share of its mean,
    None where no H was factorized. ``unreached``: what became of a layer that no sample reached, empty for others."""

    name: str
    part: str
    error: float
    bits: float
    seen: Mapping[str, int]
    damp: float | None = None
    unreached: str = ""


class DataFree(Protocol):
    """A method that has a form for matrices at whose input nothing is seen."""

    def without_data(self) -> Fit: ...


@dataclass(frozen=True)
class Bench:
    """Where ``fit`` works on the hosts of ``anatomy``.

    ``unseen``: what becomes of linears that no sample reached. ``source`` reads an original matrix by name; None takes
    the matrix as it is. ``sensitivity``: for methods that need gradients.
    """

    anatomy: Anatomy
    fit: Fit
    unseen: Unseen = "refuse"
    source: Callable[[str], Tensor] | None = None
    sensitivity: Sensitivity | None = None

    @cached_property
    def hosts(self) -> dict[str, Host]:
        return {**dict(self.anatomy.embeddings()), **dict(self.anatomy.linears())}

    @cached_property
    def aliases(self) -> list[tuple[str, str]]:
        """Hosts that share a weight as the walk begins; they go on sharing it."""
        return self.anatomy.aliases()

    @property
    def fed(self) -> bool:
        """Whether the method wants calibration data."""
        return self.fit.CARD.needs != "nothing"

    def check(self, names: Sequence[str]) -> None:
        """Raises BadInput where the knobs do not fit a target, a target holds weights that are no numbers, or the
        method needs what a walk does not give."""
        if self.fit.CARD.needs == "gradients" and self.sensitivity is None:
            raise BadInput(f"{self.fit.CARD.name}: needs gradients, and a walk over the blocks gathers inputs only; "
                           "accepted: a sensitivity that was measured before (trimtab.run.sensitivity)")  # fmt: skip
        wrong = []
        for name in names:
            try:
                self.fit.check(*reversed(self.hosts[name].w.shape))
            except ValueError as error:
                wrong.append(f"{name}: {error}")
        wrong = wrong or [f"{n}: {why}" for n in names if (why := broken_weights(self.hosts[n].w)) is not None]
        if wrong:
            raise BadInput("\n".join(wrong[:8]) + (f"\n... and {len(wrong) - 8} more" if len(wrong) > 8 else ""))

    def settle(self, name: str, gram: Gram | None, group: Mapping[str, Weight] = NO_GROUP) -> LayerReport:
        """Fit a matrix and put it in place. ``group``: the weights of its stage before any was fitted, by name. With no
        ``gram``, or an empty one, see ``without`` and ``unreached``.

        Raises Anomaly, naming the layer, where its inputs were no numbers."""
        if gram is None or not gram.rows:
            return self.without(name) if gram is None else self.unreached(name)
        if (why := broken_inputs(gram)) is not None:
            raise Anomaly(f"{name}: {why}")
        seen = dict(zip(KINDS, gram.seen.tolist(), strict=True))
        return self._fitted(name, self.fit, gram, group, seen)

    def without(self, name: str) -> LayerReport:
        """Fit a matrix for which there is no input statistic, by the method's data-free form."""
        fit = self.fit
        if self.fed:
            if not hasattr(fit, "without_data"):
                raise BadInput(f"{fit.CARD.name}: has no data-free form, which {name} needs; put it under ignore")
            fit = cast(DataFree, fit).without_data()
        return self._fitted(name, fit, None, NO_GROUP, dict.fromkeys(KINDS, 0))

    def unreached(self, name: str) -> LayerReport:
        """A linear that no sample reached (an expert that was never chosen). Raises Refused unless that was allowed."""
        if self.unseen == "refuse":
            raise Refused(
                f"{name}: no calibration sample reached it (an expert that was never chosen, samples without "
                "pictures?). Calibrate on more samples like the task's, or set calibrate.unseen: dense (left as it is) "
                "or round (without data); calibrate.allow: text_only rounds what pictures pass through"
            )
        if self.unseen == "round":
            return replace(self.without(name), unreached="rounded without data")
        w = self.hosts[name].w
        stored = bits(w) / (w.shape[0] * w.shape[1])
        kinds = dict.fromkeys(KINDS, 0)
        return LayerReport(name, self.anatomy.part_of(name), 0.0, stored, kinds, unreached="left as it was")

    def _fitted(
        self, name: str, fit: Fit, gram: Gram | None, group: Mapping[str, Weight], seen: Mapping[str, int]
    ) -> LayerReport:
        old, read = self.hosts[name].w, self.source
        aim = old if read is None else Dense(read(name).detach())
        site = Site(name, aim.dense, gram, tuple(group), self.sensitivity, peers=tuple(group.values()))
        new = fit(old, site)
        self.put(name, new, rounding(fit, site))
        error = relative_error(aim, new, None if gram is None else gram.read())
        stored, damp = bits(new) / (new.shape[0] * new.shape[1]), site.notes.get("damp_percent")
        return LayerReport(name, self.anatomy.part_of(name), error, stored, seen, damp)

    def place(self, stored: Mapping[str, Weight] | None, acts: Mapping[str, Rounding]) -> None:
        """Weights that were fitted before, by host name."""
        for name, w in (stored or {}).items():
            self.put(name, w, acts.get(name))

    def put(self, name: str, w: Weight, acts: Rounding | None) -> None:
        """``w`` as the weight of host ``name`` and of those tied to it, ``acts`` as what linears do to their input;
        kernels of the old weight go."""
        for other in (name, *(second for first, second in self.aliases if first == name)):
            host = self.hosts[other]
            host.w = w
            host.kernel = None
            if isinstance(host, Linear):
                host.acts = acts


def rounding(fit: Fit, site: Site) -> Rounding | None:
    """What the method has a linear do to its input."""
    if isinstance(fit, CalibratesInput):
        return fit.rounding(site)
    return fit.acts if isinstance(fit, RoundsInput) else None


def relative_error(old: Weight, new: Weight, h: Tensor | None, at_once: int = 4096) -> float:
    """sqrt(tr(D H D^T) / tr(W H W^T)), D = W - W', the identity for H where it is None; 0 where W X is 0. Rows are read
    in parts: a dense copy of an embedding may be the largest thing in memory. D of bfloat16
    weights is rounded to bfloat16, for the products' sake (relative error of the result: 1e-4 at most)."""
    lost = whole = 0.0
    for index in torch.split(torch.arange(old.shape[0]), at_once):
        w = rows(old, index)
        d = w.float() - rows(new, index).float()
        if h is None:
            lost, whole = lost + float(d.square_().sum()), whole + float(w.float().square_().sum())
        else:
            lost, whole = (
                lost + quadratic(d.to(w.dtype) if w.dtype == torch.bfloat16 else d, h),
                whole + quadratic(w, h),
            )
    return (max(lost, 0.0) / whole) ** 0.5 if whole > 0 else 0.0
