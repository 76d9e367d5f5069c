"""How the C library keeps memory, in processes of their own: what it was told holds for a whole process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from trimtab.core.heap import _glibc

COUNT = """
import ctypes, re, sys, threading
from trimtab.core.heap import few_arenas

most, threads, place = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
if most:
    few_arenas(most)
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
here = threading.Barrier(threads)

def take():
    here.wait()
    libc.malloc(ctypes.c_size_t(50_000))
    here.wait()

every = [threading.Thread(target=take) for _ in range(threads)]
for one in every:
    one.start()
for one in every:
    one.join()
file = ctypes.c_void_p(libc.fopen(place.encode(), b"w"))
assert libc.malloc_info(0, file) == 0 and libc.fclose(file) == 0
print(len(re.findall("<heap nr=", open(place).read())))
"""
"""How many arenas there are once each of so many threads has taken something."""


@pytest.mark.skipif(_glibc("mallopt") is None, reason="another C library has no arenas to count")
@pytest.mark.parametrize(("asked", "most"), [(1, 2), (2, 2), (4, 4), (100, 8)])
def test_arenas_are_as_many_as_threads_from_two_to_eight(asked: int, most: int, tmp_path: Path) -> None:
    place = str(tmp_path / "info.xml")

    def arenas(limit: int) -> int:
        done = subprocess.run([sys.executable, "-c", COUNT, str(limit), "12", place], check=True,
                              stdout=subprocess.PIPE, text=True)  # fmt: skip
        return int(done.stdout)

    if most < 8:  # which is what one core would give by itself
        assert arenas(0) > most, "without it there would be more"
    assert arenas(asked) == most


FREED = """
import psutil
from trimtab.core.heap import give_back

resident = lambda: psutil.Process().memory_info().rss
give_back()
before = resident()
work = [bytearray(b"x") * 50_000 for _ in range(4000)]
stays = bytearray(b"x") * 50_000  # behind all of it: the heap cannot end before
full = resident()
del work
kept = resident()
give_back()
print(before, full, kept, resident())
"""


@pytest.mark.skipif(_glibc("malloc_trim") is None, reason="another C library has no such call")
def test_what_stays_does_not_hold_what_was_freed_before_it() -> None:
    done = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, check=True)
    before, full, kept, now = map(int, done.stdout.split())
    assert full - before > 190e6
    assert kept - before > 150e6, "by itself nothing goes back"
    assert now - before < 20e6
