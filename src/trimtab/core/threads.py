"""Threads for work that is many small steps: whole parts side by side, each step of a part on one thread.

Threads that share a short step wait for one another longer than they work, and beside another busy process a hundred
times longer. It also makes the result independent of the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


@contextmanager
def some_threads(count: int) -> Iterator[int]:
    """``count`` threads for each operation inside, the number there was before behind it; gives that number."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield before
    finally:
        torch.set_num_threads(before)


def one_thread() -> AbstractContextManager[int]:
    """One thread for each operation inside; see ``some_threads``."""
    return some_threads(1)


def each(work: Callable[[Tensor], T], parts: Sequence[Tensor]) -> list[T]:
    """``work`` on every part, as many at once as torch has threads; results in the order of the parts."""
    with one_thread() as threads:
        if min(threads, len(parts)) == 1:
            return [work(part) for part in parts]
        with ThreadPoolExecutor(min(threads, len(parts)), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(work, parts))


def evenly(rows: Tensor, most: int) -> Sequence[Tensor]:
    """``rows`` in parts of at most ``most`` for ``each``: as many as there are threads, or more."""
    return rows.split(max(1, min(most, -(-len(rows) // torch.get_num_threads()))))
