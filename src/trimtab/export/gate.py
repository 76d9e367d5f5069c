"""An export is offered only when the other engine, in a process that never imports Trimtab, answers as our model does.

Accepted: the greedy token equal at 99 % or more of the teacher-forced positions and perplexity within 1 % of the
reloaded artifact's; for a model without a vocabulary, a cosine of 0.999 or more at every place.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trimtab.core.errors import Anomaly

EQUAL, PERPLEXITY, COSINE = 0.99, 0.01, 0.999


@dataclass(frozen=True)
class Found:
    """What the other engine answered. ``equal``: share of positions with our greedy token. ``perplexity``: its own,
    ``reference``: ours. ``cosine``: the least over places, None where there is a vocabulary (then the others are set).
    """

    tokens: int
    equal: float | None = None
    perplexity: float | None = None
    reference: float | None = None
    cosine: float | None = None

    @property
    def passed(self) -> bool:
        """Whether it is near enough; a figure that is no number is not."""
        if self.cosine is not None:
            return self.cosine >= COSINE
        assert self.equal is not None
        assert self.perplexity is not None
        assert self.reference is not None
        return self.equal >= EQUAL and abs(self.perplexity / self.reference - 1) <= PERPLEXITY

    def text(self) -> str:
        """In a line."""
        if self.cosine is not None:
            return f"least cosine {self.cosine:.6f} over {self.tokens} places"
        return (f"{self.equal:.2%} of {self.tokens} greedy tokens equal, perplexity {self.perplexity:.4f}, "
                f"ours {self.reference:.4f}")  # fmt: skip


def ask(check: Path, folder: Path, samples: Path) -> Found:
    """Run the script ``check`` on ``folder`` in a fresh process, isolated, offline, in an empty working directory.

    Raises Anomaly where it ends without an answer: the engine could not read the folder, say.
    """
    command = [sys.executable, "-I", str(check.resolve()), str(folder.resolve()), str(samples.resolve())]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    with tempfile.TemporaryDirectory() as empty:
        done = subprocess.run(command, cwd=empty, env=offline, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        raise Anomaly(
            f"export: {check.stem}: the check ended with status {done.returncode}: {done.stderr.strip()[-2000:]}"
        )
    row: dict[str, Any] = json.loads(lines[-1])
    return Found(**row)


def judge(check: Path, folder: Path, samples: Path) -> Found:
    """What ``ask`` found. Raises Anomaly where that is not near enough."""
    found = ask(check, folder, samples)
    if not found.passed:
        wanted = f"{EQUAL:.0%} of greedy tokens and perplexity within {PERPLEXITY:.0%}, or a cosine of {COSINE}"
        raise Anomaly(f"export: {check.stem}: the engine answers differently: {found.text()}; accepted: {wanted}")
    return found
