"""Which points nothing beats, and how much of what is possible they cover. Every coordinate is a cost: less is better.

    a dominates b:                 a_i <= b_i for every i, and a_j < b_j for some j
    hypervolume of S below r:      the volume of the union over a in S of the boxes [a_1, r_1] x ... x [a_n, r_n]

The volume is summed by slices along the last coordinate (While, Hingston, Barone and Huband 2006, IEEE Transactions on
Evolutionary Computation 10): between two neighbouring values of it the union is that of the points below, one dimension
less. In three dimensions n points take about n^2 log n, which for a search's hundreds is nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

Costs = tuple[float, ...]


def dominates(a: Costs, b: Costs) -> bool:
    """Whether ``a`` is nowhere worse than ``b`` and somewhere better. Raises ValueError for unequal lengths."""
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b


def pareto(points: Sequence[Costs]) -> list[int]:
    """The indices of the points that no other dominates, in order; of equal points the first stands for all."""
    return [
        index for index, point in enumerate(points)
        if not any(dominates(other, point) for other in points) and point not in points[:index]
    ]  # fmt: skip


def hypervolume(points: Sequence[Costs], reference: Costs) -> float:
    """The volume that ``points`` dominate below ``reference``; those that are not below it in every coordinate add
    nothing."""
    return _volume([one for one in points if all(x < r for x, r in zip(one, reference, strict=True))], reference)


def _volume(points: Sequence[Costs], reference: Costs) -> float:
    if not points:
        return 0.0
    if len(reference) == 1:
        return reference[0] - min(points)[0]
    ordered = sorted((points[i] for i in pareto(points)), key=lambda one: one[-1])
    ends = [*(one[-1] for one in ordered[1:]), reference[-1]]
    return sum(
        (end - one[-1]) * _volume([below[:-1] for below in ordered[: index + 1]], reference[:-1])
        for index, (one, end) in enumerate(zip(ordered, ends, strict=True)) if end > one[-1]
    )  # fmt: skip


def shares(points: Sequence[Costs], reference: Costs) -> list[float]:
    """What each point alone adds to the hypervolume of all."""
    whole = hypervolume(points, reference)
    return [whole - hypervolume([*points[:at], *points[at + 1 :]], reference) for at in range(len(points))]
