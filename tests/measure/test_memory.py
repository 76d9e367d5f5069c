"""Resident memory is this process's own."""

from __future__ import annotations

import subprocess
import sys


def test_the_peak_of_a_child_is_its_own() -> None:
    """getrusage of a fresh process begins with its parent's peak on Linux; ours must not."""
    held = bytearray(400_000_000)
    script = "from trimtab.measure.memory import peak; print(peak())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 300_000_000 < len(held)
