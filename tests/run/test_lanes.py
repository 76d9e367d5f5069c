"""Lanes: results in order, errors from any of them, threads shared and given back."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import torch

from trimtab.core.threads import some_threads
from trimtab.run.lanes import ROOM, Lanes, lanes


@pytest.fixture(name="three")
def _three() -> Iterator[Lanes]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with lanes() as side:
            yield side
            assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 10])
def test_parts_are_neighbours_and_whole(three: Lanes, count: int) -> None:
    parts = three.parts(range(count))
    assert [item for part in parts for item in part] == list(range(count))
    assert len(parts) == max(1, min(3, count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_wide_statistics_get_fewer_lanes(three: Lanes) -> None:
    most = int((ROOM / 4) ** 0.5)
    assert [len(three.parts(range(9), width)) for width in (64, most // 2 + 1, most, 4 * most)] == [3, 3, 1, 1]


def test_results_come_in_the_items_order_from_threads_that_stay(three: Lanes) -> None:
    def work(item: int) -> tuple[int, int, int, bool]:
        return item, threading.get_ident(), torch.get_num_threads(), torch.is_grad_enabled()

    first, second = three.map(work, range(7)), three.map(work, range(7))
    assert first == second
    assert [found[0] for found in first] == list(range(7))
    assert len({found[1] for found in first} - {threading.get_ident()}) == 3
    assert {found[2:] for found in first} == {(1, False)}, "each has its share, and no gradients"


def test_one_task_has_all_threads_and_is_the_callers(three: Lanes) -> None:
    assert three.run([lambda: (threading.get_ident(), torch.get_num_threads())]) == [(threading.get_ident(), 3)]


def test_threads_are_shared_by_the_lanes_that_are_used() -> None:
    with some_threads(4), lanes() as side:
        for count, share in ((2, 2), (4, 1), (2, 2), (3, 1)):
            assert side.run([torch.get_num_threads] * count) == [share] * count


def test_more_tasks_than_lanes_are_not_lost(three: Lanes) -> None:
    with pytest.raises(AssertionError):
        three.run([int] * 4)


def test_the_first_error_is_raised_when_all_have_ended(three: Lanes) -> None:
    ended = []

    def work(item: int) -> None:
        if item == 1:
            raise KeyError(item)
        time.sleep(0.2 * item)
        ended.append(item)

    with pytest.raises(KeyError, match="1"):
        three.map(work, range(3))
    assert ended == [0, 2]
    assert three.map(lambda item: item, range(3)) == [0, 1, 2], "lanes go on"
