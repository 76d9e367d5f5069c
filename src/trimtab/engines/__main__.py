"""A session in a process of its own: ``python -m trimtab.engines ENGINE PATH THREADS``.

It says what it is, and answers ``{"prompt": ids, "likeliest": count}`` or ``{"prompt": ids, "words": count}`` with the
seconds that the first word and all others took.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import psutil
import torch

from trimtab.core.errors import TrimtabError
from trimtab.engines.base import Session, engine_of


def answer(session: Session, asked: dict[str, Any]) -> dict[str, Any]:
    ids = asked["prompt"]
    if "likeliest" in asked:
        return {"words": list(session.likeliest(ids, asked["likeliest"]).items())}
    return session.answer(ids, asked["words"])._asdict() | {"resident": psutil.Process().memory_info().rss}


def main() -> int:
    name, path, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    engine = engine_of(name)
    try:
        session = engine.open_session(Path(path))
    except TrimtabError as error:
        print(json.dumps({"refused": str(error)}), file=out, flush=True)
        return 1
    print(json.dumps({"version": engine.version}), file=out, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(session, json.loads(line))), file=out, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
