"""Whose threads do the compiled library's work: torch's own, where it has GNU's; behind a fork the library's."""

from __future__ import annotations

import subprocess
import sys

import pytest

WORK = """
import os, torch
from trimtab.core.native import library
from trimtab.core.weight import Dense
from trimtab.runtime.compiled import Compiled
from trimtab.runtime.level import level
from trimtab.runtime.plan.layout import laid

torch.set_num_threads(2)
torch.randn(2000, 2000) @ torch.randn(2000, 2000)
count = lambda: len(os.listdir("/proc/self/task"))
product = Compiled(laid(Dense(torch.randn(1024, 1024))), level())
x = torch.randn(64, 1024)
before, wanted = count(), product(x)
print(before, count())
torch.set_num_threads(1)
alone = product(x)
torch.set_num_threads(2)
print(int(torch.equal(alone, wanted)), int(torch.equal(product(x), wanted)))
child = os.fork()
if child == 0:
    os._exit(0 if (product(x).numpy() == wanted.numpy()).all() else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_no_second_set_of_threads_is_started_and_a_child_has_its_own() -> None:
    """With any number of threads, and in a child of fork, with which OpenMP's do not go, the answer is the same."""
    done = subprocess.run([sys.executable, "-c", WORK],
                          capture_output=True, text=True, check=True, timeout=60)  # fmt: skip
    before, after, alone, again, child = map(int, done.stdout.split())
    assert before == after
    assert (alone, again, child) == (1, 1, 0)
