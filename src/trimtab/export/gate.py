"""An export is offered only when the other engine, in a process that never imports Trimtab, answers as our model does.

Accepted: the greedy token equal at 99 % or more of the teacher-forced positions and perplexity within 1 % of the
reloaded artifact's; for a model without a vocabulary, a cosine of 0.999 or more at every place. An engine that
calculates in float32 with our own numbers (``exact``) is held to more, since a single wrong byte moves the averages of
a good model by less than that: every single loss within 0.001, or a cosine of 0.999999.
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
LOSS, SAME = 0.001, 0.999999
"""What an exact engine is held to: difference of each loss, cosine."""


@dataclass(frozen=True)
class Found:
    """What the other engine answered. ``equal``: share of positions with our greedy token. ``perplexity``: its own,
    ``reference``: ours. ``worst``: largest difference of a loss, None where the check does not say. ``cosine``: the
    least over places, None where there is a vocabulary (then the others are set).
    """

    tokens: int
    equal: float | None = None
    perplexity: float | None = None
    reference: float | None = None
    worst: float | None = None
    cosine: float | None = None

    def near(self, exact: bool = False) -> bool:
        """Whether it is near enough; a figure that is no number is not."""
        if self.cosine is not None:
            return self.cosine >= (SAME if exact else COSINE)
        assert self.equal is not None
        assert self.perplexity is not None
        assert self.reference is not None
        close = self.equal >= EQUAL and abs(self.perplexity / self.reference - 1) <= PERPLEXITY
        return close and (not exact or (self.worst is not None and self.worst <= LOSS))

    def text(self) -> str:
        """In a line."""
        if self.cosine is not None:
            return f"least cosine {self.cosine:.7f} over {self.tokens} places"
        loss = "" if self.worst is None else f", losses within {self.worst:.2g}"
        return (f"{self.equal:.2%} of {self.tokens} greedy tokens equal, perplexity {self.perplexity:.4f}, "
                f"ours {self.reference:.4f}{loss}")  # fmt: skip


def ask(check: Path, folder: Path, samples: Path, *more: str) -> Found:
    """Run the script ``check`` on ``folder`` in a fresh process, isolated, offline, in an empty working directory;
    ``more``: further words that the script knows.

    Raises Anomaly where it ends without an answer: the engine could not read the folder, say.
    """
    command = [sys.executable, "-I", str(check.resolve()), str(folder.resolve()), str(samples.resolve()), *more]
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


def judge(check: Path, folder: Path, samples: Path, exact: bool = False, *more: str, then: str = "") -> Found:
    """What ``ask`` found. Raises Anomaly where that is not near enough, and says what to do ``then``."""
    found = ask(check, folder, samples, *more)
    if not found.near(exact):
        wanted = f"{EQUAL:.0%} of greedy tokens and perplexity within {PERPLEXITY:.0%}, or a cosine of {COSINE}"
        if exact:
            wanted += f"; of this engine also every loss within {LOSS}, or a cosine of {SAME}"
        wanted += f"; next: {then}" if then else ""
        raise Anomaly(f"export: {check.stem}: the engine answers differently: {found.text()}; accepted: {wanted}")
    return found
