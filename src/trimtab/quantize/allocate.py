"""Which grid each matrix gets, so that the sum of losses is least under a budget: an integer program, solved exactly.

    minimize  sum_l sum_c L_lc z_lc    with  sum_c z_lc = 1 for each l,    sum_l sum_c B_lc z_lc <= B,    z in {0, 1}

L_lc is what matrix l adds to the loss on grid c, B_lc the bits it then takes; a budget of time is one more row.
It is the multiple-choice knapsack problem (Sinha and Zoltners 1979); for the bits of layers: Yao et al. 2021, HAWQ-V3,
arXiv 2011.10680, section 3.4. It is solved by HiGHS, branch and bound without a gap; every answer is then added up in
integers, and one that only the solver's tolerance let through is shut out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from trimtab.core.errors import BadInput, Infeasible

if TYPE_CHECKING:
    import highspy

FEASIBLE = 1e-9
"""The solver's tolerance."""
SPREAD = 1e5
"""Losses are brought to this range, so that what the tolerance hides is 1e-14 of them."""


Number = float | int
"""Bits are whole, and summed as such."""


class Choice(NamedTuple):
    """What a matrix on one grid would cost: ``loss``, ``bits`` that are stored, ``seconds`` that its product takes."""

    loss: Number
    bits: int
    seconds: Number = 0.0


class Limit(NamedTuple):
    """A budget: at most ``most`` of what ``costs`` says, by matrix and choice."""

    costs: Sequence[Sequence[Number]]
    most: Number

    def used(self, chosen: Sequence[int]) -> Number:
        """What an assignment takes of it; exact where the costs are integers."""
        return sum(row[c] for row, c in zip(self.costs, chosen, strict=True))


def allocate(tables: Sequence[Sequence[Choice]], bits: int, seconds: Number | None = None) -> list[int]:
    """For each matrix the index of its choice. Of equal assignments the solver's is taken, the same each time.

    Raises Infeasible, naming the least possible, where no assignment keeps to ``bits`` and ``seconds``; BadInput where
    HiGHS is not installed.
    """
    limits = [Limit([[c.bits for c in row] for row in tables], bits)]
    _feasible("bits", limits[0], limits)
    if seconds is not None:
        limits.append(Limit([[c.seconds for c in row] for row in tables], seconds))
        _feasible("seconds", limits[1], limits)
    return _solved([[c.loss for c in row] for row in tables], limits)


def _feasible(unit: str, limit: Limit, limits: Sequence[Limit]) -> None:
    """Raises Infeasible where the least of ``limit`` that the budgets before it leave is above it."""
    earlier = [one for one in limits if one is not limit]
    least = limit.used(_solved(limit.costs, earlier) if earlier else [min(range(len(r)), key=r.__getitem__)
                                                                      for r in limit.costs])  # fmt: skip
    if least > limit.most:
        within = " within the bits" if earlier else ""
        raise Infeasible(f"budget: got {limit.most:.6g} {unit} for {len(limit.costs)} matrices; the least possible is "
                         f"{least:.6g}{within}")  # fmt: skip


def _solved(costs: Sequence[Sequence[Number]], limits: Sequence[Limit]) -> list[int]:
    """The assignment of least cost that keeps to every limit, of which there is one."""
    solver = _solver(costs, limits)
    starts = [sum(map(len, costs[:index])) for index in range(len(costs))]
    while True:
        solver.run()
        if solver.getModelStatus().name != "kOptimal":
            raise RuntimeError(f"the program of {len(costs)} matrices ended with {solver.getModelStatus().name}")
        found = list(solver.getSolution().col_value)
        chosen = [max(range(len(row)), key=found[at : at + len(row)].__getitem__)
                  for at, row in zip(starts, costs, strict=True)]  # fmt: skip
        if all(limit.used(chosen) <= limit.most for limit in limits):
            return chosen
        shut = [at + c for at, c in zip(starts, chosen, strict=True)]  # let through by the tolerance only
        solver.addRow(-solver.inf, len(shut) - 1.0, len(shut), shut, [1.0] * len(shut))


def _solver(costs: Sequence[Sequence[Number]], limits: Sequence[Limit]) -> highspy.Highs:
    """The program. A matrix's own least is taken off its costs and limits, and both are brought to a fixed range."""
    try:
        import highspy
    except ImportError as error:
        raise BadInput("mixed: needs HiGHS, which is not installed; next: pip install 'trimtab[mixed]'") from error
    solver = highspy.Highs()
    for key, value in (("output_flag", False), ("mip_rel_gap", 0.0), ("mip_abs_gap", 0.0), ("threads", 1),
                       ("mip_feasibility_tolerance", FEASIBLE), ("primal_feasibility_tolerance", FEASIBLE),
                       ("dual_feasibility_tolerance", FEASIBLE)):  # fmt: skip
        solver.setOptionValue(key, value)
    above = [[cost - min(row) for cost in row] for row in costs]
    scale = SPREAD / (max(map(max, above)) or 1.0)
    count = sum(map(len, costs))
    solver.addVars(count, [0.0] * count, [1.0] * count)
    solver.changeColsIntegrality(count, list(range(count)), [highspy.HighsVarType.kInteger] * count)
    solver.changeColsCost(count, list(range(count)), [cost * scale for row in above for cost in row])
    at = 0
    for row in costs:
        solver.addRow(1.0, 1.0, len(row), list(range(at, at + len(row))), [1.0] * len(row))
        at += len(row)
    for limit in limits:
        spare = [[cost - min(row) for cost in row] for row in limit.costs]
        unit = max(map(max, spare)) or 1.0
        left = (limit.most - sum(map(min, limit.costs))) / unit
        solver.addRow(-solver.inf, left, count, list(range(count)), [cost / unit for row in spare for cost in row])
    return solver
