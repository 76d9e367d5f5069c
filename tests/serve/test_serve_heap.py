"""Freed memory goes back to the system: soon, not at every word, and when nobody asks any more."""

from __future__ import annotations

import sys

import pytest
import torch
from serving import entry, served, talking, until

from trimtab.serve import heap
from trimtab.serve.heap import Heap, of_this_process


def test_it_is_due_after_use_and_not_more_often_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    times, done = [100.0], list[float]()
    monkeypatch.setattr(heap.time, "monotonic", lambda: times[0])
    one = Heap(lambda: done.append(times[0]))
    one.tidy()
    assert (one.due, done) == (None, []), "nothing was used"
    for now, due in ((100.0, 0.0), (101.0, heap.EVERY - 1.0), (100.0 + heap.EVERY, 0.0)):
        times[0] = now
        one.use()
        assert one.due == due
        one.tidy()
    assert done == [100.0, 100.0 + heap.EVERY]
    assert one.due is None
    none = Heap(None)
    none.use()
    assert none.due is None


def test_a_server_that_nobody_asks_any_more_has_tidied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap, "EVERY", 0.05)
    with served(entry(talking())) as one:
        done = list[bool]()
        one.house.scheduler.heap.trim = lambda: done.append(one.house.scheduler.running == 0)
        one.post("/v1/completions", prompt="w5", max_tokens=20)
        until(lambda: done[-1:] == [True])
        until(lambda: one.house.scheduler.heap.due is None)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_what_was_freed_is_given_back() -> None:
    trim = of_this_process().trim
    if trim is None:
        pytest.skip("no glibc")
    trim()

    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    before = resident()
    held = [torch.ones(4000) for _ in range(10_000)]  # 160 MB in blocks of 16 kB, below what is mapped by itself
    last = torch.ones(4000)  # keeps the top of the heap in use
    assert resident() - before > 120e6
    del held
    trim()
    assert resident() - before < 40e6
    assert last.sum() == 4000
