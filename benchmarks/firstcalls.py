"""How often the first answer of a fresh process is not its second, with and without ``settle_first_calls``.

    python benchmarks/firstcalls.py [PROCESSES]

A race cannot be asserted by a test that must pass each time; this counts it. See trimtab/core/firstcalls.py.
"""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import torch
torch.set_num_threads(2)
if {settle}:
    from trimtab.core.firstcalls import settle_first_calls
    settle_first_calls()
numbers = torch.linspace(0, 300, 337 * 64)
raise SystemExit(0 if torch.equal(torch.cos(numbers), torch.cos(numbers)) else 1)
"""


def wrong(processes: int, settle: bool) -> int:
    """Processes in which the two answers differ."""
    command = [sys.executable, "-c", SCRIPT.format(settle=settle)]
    return sum(subprocess.run(command, check=False).returncode for _ in range(processes))


def main() -> None:
    processes = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    for settle in (False, True):
        print(f"settled: {settle}; first cosine differs in {wrong(processes, settle)} of {processes} processes")


if __name__ == "__main__":
    main()
