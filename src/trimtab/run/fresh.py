"""What a fresh process takes before it has a model: seconds to start, memory of its libraries, of a tokenizer's words.

Run as ``python -m trimtab.run.fresh`` it is that process: it opens what a run's processes open, with a model of a few
numbers, and says what that took.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from trimtab.core.errors import Anomaly

WORDS = 32_000


def process_costs() -> dict[str, Any]:
    """``start`` in seconds, ``resident`` in bytes, ``words``: bytes in memory of a byte of a tokenizer's file. Raises
    Anomaly where the process fails."""
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "trimtab.run.fresh"], capture_output=True, text=True, check=False,
                          env={**os.environ, "HF_HUB_OFFLINE": "1"})  # fmt: skip
    if done.returncode:
        raise Anomaly(f"doctor: the measuring process ended with status {done.returncode}: {done.stderr[-1000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found | {"start": time.monotonic() - begun - found.pop("spent")}


def main() -> None:
    """What the fresh process does; ``spent``: seconds that only this measurement needs."""
    import torch

    import trimtab.gate
    import trimtab.load.sources  # noqa: F401
    from trimtab.measure.memory import peak, resident
    from trimtab.measure.phases import words
    from trimtab.measure.probedecoder import probe

    with torch.no_grad():
        probe(2)(**words(16))
    base, begun = peak(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        per_byte = _tokenizer(Path(folder), resident())
    print(json.dumps({"resident": base, "words": per_byte, "spent": time.monotonic() - begun}))


def _tokenizer(folder: Path, before: int) -> float:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    from trimtab.measure.memory import resident

    pairs = [(f"a{n}", "b") for n in range(WORDS)]
    every = [*(a for a, _ in pairs), "b", *(a + b for a, b in pairs)]
    rows = {word: row for row, word in enumerate(dict.fromkeys(every))}
    file = folder / "tokenizer.json"
    Tokenizer(models.BPE(rows, pairs)).save(str(file))
    del rows, pairs, every
    kept = PreTrainedTokenizerFast(tokenizer_file=str(file))
    assert len(kept)
    return max(resident() - before, 0) / file.stat().st_size


if __name__ == "__main__":
    main()
