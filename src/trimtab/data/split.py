"""Which rows calibrate and which test: by group, from a seed and the rows' own content, whatever their order.

Each group (a patient; a picture where no group is given) is ranked by sha256(seed, group) and the first groups become
the test split until it has ``TEST_SHARE`` of the rows. ``choose`` ranks samples the same way, so that the 500 chosen by
a seed are among the 2,000 chosen by it, and figures on both are paired.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

from trimtab.core.errors import BadInput, Refused, nearest

TEST_SHARE = 2 / 3
LEAST_GROUPS, LEAST_ROWS = 2, 4
NAMES = {
    "train": "train", "training": "train", "calibration": "train", "calib": "train", "test": "test", "testing": "test",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
}  # fmt: skip
T = TypeVar("T")


def rank(seed: int, key: str) -> str:
    """A hexadecimal number in an order that looks random and depends on nothing but ``seed`` and ``key``."""
    return hashlib.sha256(f"{seed}/{key}".encode()).hexdigest()


def choose(items: Sequence[T], keys: Sequence[str], limit: int | None, seed: int) -> list[T]:
    """The ``limit`` items whose keys rank first, in the order of ``items``; all of them where there are no more."""
    if limit is None or limit >= len(items):
        return list(items)
    first = sorted(range(len(items)), key=lambda i: rank(seed, keys[i]))[:limit]
    return [items[i] for i in sorted(first)]


def divide(groups: Sequence[str], seed: int) -> list[str]:
    """``train`` or ``test`` for each row, by its group. Raises BadInput, with numbers, where there are too few."""
    sizes = Counter(groups)
    if len(sizes) < LEAST_GROUPS or len(groups) < 2 * LEAST_ROWS:
        raise BadInput(
            f"task.data: got {len(groups)} rows in {len(sizes)} groups; a calibration and a test split need at least "
            f"{2 * LEAST_ROWS} rows in {LEAST_GROUPS} groups (columns.group; one picture where that is not given)"
        )
    order = sorted(sizes, key=lambda group: rank(seed, group))
    test, filled = set(order[:1]), sizes[order[0]]
    for group in order[1:-1]:
        if filled + sizes[group] / 2 > TEST_SHARE * len(groups):
            break
        test.add(group)
        filled += sizes[group]
    for name, count in (("test", filled), ("calibration", len(groups) - filled)):
        if count < LEAST_ROWS:
            raise BadInput(
                f"task.data: {len(groups)} rows in {len(sizes)} groups leave {count} for {name}; at least "
                f"{LEAST_ROWS} are needed: add groups, or divide the rows yourself in a column 'split'"
            )
    return ["test" if group in test else "train" for group in groups]


def given(values: Sequence[str], groups: Sequence[str], where: Sequence[str]) -> list[str]:
    """The splits that a ``split`` column names. ``where`` says each row's place for errors.

    Raises BadInput on another name, Refused where a group stands in train and in test.
    """
    found: list[str] = []
    seen: dict[tuple[str, str], int] = {}
    for row, (value, group) in enumerate(zip(values, groups, strict=True)):
        name = NAMES.get(value.strip().casefold())
        if name is None:
            raise BadInput(f"{where[row]}: split: got {value!r}{nearest(value, NAMES)}; accepted: {', '.join(NAMES)}")
        found.append(name)
        seen.setdefault((group, name), row)
    both = [group for group, name in seen if name == "train" and (group, "test") in seen]
    if both:
        one, other = seen[both[0], "train"], seen[both[0], "test"]
        raise Refused(
            f"split: {len(both)} groups are in both train and test (first: {where[one]} and {where[other]}); "
            "the test would be on what calibration saw. Put all rows of a group into one split"
        )
    return found
