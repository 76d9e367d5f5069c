"""A side that stays: it loads once, says so, and then answers a line of JSON for each line that it is asked."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any


def status() -> dict[str, int]:
    """Bytes of this process: resident now, of it anonymous, and the most that ever were."""
    found: dict[str, int] = {}
    with open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name in ("VmRSS", "RssAnon", "VmHWM"):
                found[name] = int(value.split()[0]) * 1024
    return found


def answer_all(answer: Callable[[dict[str, Any]], dict[str, Any]], loaded: dict[str, Any]) -> None:
    """``loaded`` is told first; until the end of what is asked, each answer with what the process holds."""
    out = sys.stdout
    sys.stdout = sys.stderr  # what a library prints is no answer
    print(json.dumps(loaded | status()), file=out, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line)) | status()), file=out, flush=True)
