"""A run in a process of its own that dies, as by ``kill -9``, at the n-th time it is about to write something durable.

Every file that Trimtab writes goes through ``os.fsync`` before it counts, so that is where a run can be cut; counting
down in fsync makes the moments reproducible. What a run imports is imported once, by the server from which the
processes are forked where the system can do that: it is half of a short run's time.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import traceback
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path

from trimtab.run.start import resolve, resume, run

DIED = 137
SERVER = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")


def start(out: Path, at: int, settings: list[str]) -> tuple[int, str]:
    """Begin or resume the run in ``out`` and let it die before its ``at``-th sync from here (0: never). 0 and the
    artifact's hash, DIED and nothing, or 1 and what went wrong."""
    SERVER.set_forkserver_preload(["trimtab.run.engine", "trimtab.run.start", "trimtab.report.write"])
    mine, its = SERVER.Pipe(duplex=False)
    process = SERVER.Process(target=main, args=(out, at, settings, dict(os.environ), its))
    process.start()
    its.close()
    try:
        found: tuple[int, str] = mine.recv() if mine.poll(1200) else (1, "it did not end within 20 minutes")
    except EOFError:
        found = 1, "it died by itself"
    process.kill()  # what it had to say it has said
    process.join()
    return found


def main(out: Path, at: int, settings: list[str], environment: Mapping[str, str], said: Connection) -> None:
    os.environ.update(environment)  # the server's is that of its first process
    left, sync = [at], os.fsync

    def fsync(handle: int) -> None:
        left[0] -= 1
        if left[0] == 0:
            said.send((DIED, ""))
            os._exit(DIED)
        sync(handle)

    os.fsync = fsync
    try:
        if (out / "recipe.resolved.yaml").exists():
            result = resume(out)
        else:
            _, recipe = resolve(settings[0], settings[1:])
            result = run(recipe, out)
    except BaseException:
        said.send((1, traceback.format_exc()))
        raise
    said.send((0, result.data["artifact"]["content_hash"]))
