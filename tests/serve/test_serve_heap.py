"""Freed memory goes back to the system when nobody asks any more, and no oftener than it may."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from serving import Served, entry, served, talking, until

from trimtab.core.heap import give_back
from trimtab.serve import heap
from trimtab.serve.heap import SHAPES, Heap


def test_it_is_due_after_use_and_not_more_often_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    times, done = [100.0], list[float]()
    monkeypatch.setattr(heap.time, "monotonic", lambda: times[0])
    one = Heap(lambda: done.append(times[0]))
    one.tidy()
    assert (one.due, done) == (None, []), "nothing was used"
    for now, due in ((100.0, 5.0), (101.0, 4.0), (105.0, 0.0), (105.5, 5.0), (110.25, 0.25), (111.0, 0.0)):
        times[0] = now
        one.use()
        assert one.due == due
        one.tidy()
    assert done == [105.0, 111.0]
    assert one.due is None


def tidied(one: Served, patch: pytest.MonkeyPatch) -> list[bool]:
    """Grows with every time, by whether nothing ran."""
    assert one.house.scheduler.heap.trim is give_back
    done = list[bool]()
    patch.setattr(heap, "EVERY", 0.3)
    patch.setattr(heap.gc, "collect", lambda: 0)  # takes half a second among the tests' objects
    one.house.scheduler.heap.trim = lambda: done.append(one.house.scheduler.running == 0)
    return done


def test_a_server_that_nobody_asks_any_more_has_tidied(monkeypatch: pytest.MonkeyPatch) -> None:
    with served(entry(talking())) as one:
        done = tidied(one, monkeypatch)
        one.post("/v1/completions", prompt="w5", max_tokens=20)
        time.sleep(0.5)  # the end of the request is a use too
        until(lambda: one.house.scheduler.heap.due is None and bool(done))
        assert all(done), "only when nothing runs"
        told = len(done)
        time.sleep(0.5)
        assert len(done) == told, "once; nothing was used since"


def test_so_has_one_that_only_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with served(entry(talking())) as one:
        done = tidied(one, monkeypatch)
        assert one.client.post("/v1/completions", json={"prompt": [{}] * 1000}).status_code == 400
        until(lambda: bool(done))


def test_few_shapes_are_asked_for_before_torch_is_there_unless_the_user_says_otherwise() -> None:
    name, other = SHAPES
    code = "import os, sys; from trimtab.serve.heap import few_shapes; few_shapes(); " \
           f"print(os.environ[{name!r}], os.environ[{other!r}], 'torch' in sys.modules)"  # fmt: skip
    own = {key: value for key, value in os.environ.items() if key not in SHAPES} | {other: "7"}
    done = subprocess.run([sys.executable, "-c", code], env=own, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [SHAPES[name], "7", "False"]
