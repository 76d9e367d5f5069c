"""Streams side by side: each lane is a thread that takes its part of them, with its share of torch's threads.

A block's operations are short, and between them lies what only one thread does: norms, sums, Python. Two lanes of one
thread are through earlier than one lane of two threads, whose every operation waits for both. Each lane gathers
statistics of its own, which are merged in order; where these would take too much memory there are fewer lanes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import pairwise
from typing import TypeVar

import torch

from trimtab.core.heap import few_arenas
from trimtab.core.threads import some_threads

T = TypeVar("T")
S = TypeVar("S")
ROOM = 1 << 27
"""Bytes that the statistics of all lanes at one linear may take."""


class Lanes:
    """What is run on one of them always runs in the same thread, without gradients."""

    def __init__(self, pools: Sequence[ThreadPoolExecutor]) -> None:
        self.pools = pools

    def run(self, tasks: Sequence[Callable[[], T]]) -> list[T]:
        """Task i on lane i, with its share of the threads; their results. One task alone runs in the caller's thread
        with all of them. The first error is raised when all have ended."""
        if len(tasks) == 1:
            return [_quietly(tasks[0])]
        assert len(tasks) <= len(self.pools)
        share = max(1, torch.get_num_threads() // len(tasks))
        with some_threads(share):
            running = [pool.submit(_sharing, task, share) for pool, task in zip(self.pools, tasks, strict=False)]
            wait(running)
        return [one.result() for one in running]

    def parts(self, items: Sequence[S], widest: int = 1) -> list[Sequence[S]]:
        """Neighbours of ``items`` for each lane, as many for one as for another or one more: for as many lanes as there
        are, and as ``ROOM`` allows where the widest input has ``widest`` numbers."""
        count = max(1, min(len(items), len(self.pools), ROOM // (4 * widest * widest)))
        ends = [len(items) * lane // count for lane in range(count + 1)]
        return [items[start:stop] for start, stop in pairwise(ends)]

    def map(self, work: Callable[[S], T], items: Sequence[S]) -> list[T]:
        """``work`` on every item; the results in the items' order."""

        def whole(part: Sequence[S]) -> list[T]:
            return [work(item) for item in part]

        made = self.run([partial(whole, part) for part in self.parts(items)])
        return [one for part in made for one in part]


def _sharing(task: Callable[[], T], threads: int) -> T:
    torch.set_num_threads(threads)
    return _quietly(task)


def _quietly(task: Callable[[], T]) -> T:
    with torch.no_grad():  # which each thread says for itself
        return task()


@contextmanager
def lanes() -> Iterator[Lanes]:
    """As many lanes as torch has threads; they end with the context. A walk keeps its own to its end: what a library
    holds for a thread is not given back when the thread ends (measured: 0.5 GB over 18 blocks)."""
    count = torch.get_num_threads()
    few_arenas(count)
    with ExitStack() as stack:
        yield Lanes([stack.enter_context(ThreadPoolExecutor(1)) for _ in range(count)])
