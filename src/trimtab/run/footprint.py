"""Peak resident memory of a fresh process that loads a model and answers one batch: ``memory.peak``.

A process of its own, because the peak of this one would hold everything that the run has had in memory. It includes
Python and the libraries (a few hundred megabytes), which are the same on both sides.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from trimtab.core.errors import Anomaly


def peak_of(model: str, samples: Path, threads: int, revision: str | None = None, dtype: str | None = None) -> int:
    """Bytes. ``samples`` is a file of gate samples, whose first batch is answered. Raises Anomaly where it fails."""
    order = {"model": model, "samples": str(samples), "threads": threads, "revision": revision, "dtype": dtype}
    done = subprocess.run(
        [sys.executable, "-m", "trimtab.run.footprint", json.dumps(order)], capture_output=True, text=True, check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    if done.returncode:
        raise Anomaly(f"memory: the measuring process ended with status {done.returncode}: {done.stderr[-1000:]}")
    return int(done.stdout.split()[-1])


def main() -> None:
    """What the fresh process does: load, answer, say its peak."""
    import torch

    from trimtab.load import tensors
    from trimtab.load.sources import open_source
    from trimtab.measure.memory import peak

    order = json.loads(sys.argv[1])
    torch.set_num_threads(order["threads"])
    loaded = open_source(order["model"], revision=order["revision"], dtype=order["dtype"], stream=False)
    stored = tensors.load(Path(order["samples"]))
    start = "0.in."
    batch = {name.removeprefix(start): value for name, value in stored.items() if name.startswith(start)}
    with torch.no_grad():
        loaded.model(**batch)
    print(peak())


if __name__ == "__main__":
    main()
