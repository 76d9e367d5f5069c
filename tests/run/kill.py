"""A run in a process of its own that dies, as by ``kill -9``, at the n-th time it is about to write something durable.

Every file that Trimtab writes goes through ``os.fsync`` before it counts, so that is where a run can be cut; counting
down in fsync makes the moments reproducible. What a run imports is imported once, by the server from which the
processes are forked: that is most of a short run's time.
"""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.connection import Connection
from pathlib import Path

from trimtab.run.start import resolve, resume, run

DIED = 137
SERVER = multiprocessing.get_context("forkserver")


def start(out: Path, at: int, settings: list[str]) -> tuple[int | None, str]:
    """Begin or resume the run in ``out`` and let it die before its ``at``-th sync from here (0: never); the exit status
    and, of a run that came through, its artifact's hash."""
    SERVER.set_forkserver_preload(["trimtab.run.engine", "trimtab.run.start", "trimtab.report.write"])
    mine, its = SERVER.Pipe(duplex=False)
    process = SERVER.Process(target=main, args=(out, at, settings, its))
    process.start()
    its.close()
    process.join(timeout=1200)
    if process.is_alive():
        process.kill()
    return process.exitcode, mine.recv() if process.exitcode == 0 else ""


def main(out: Path, at: int, settings: list[str], said: Connection) -> None:
    left, sync = [at], os.fsync

    def fsync(handle: int) -> None:
        left[0] -= 1
        if left[0] == 0:
            os._exit(DIED)
        sync(handle)

    os.fsync = fsync
    if (out / "recipe.resolved.yaml").exists():
        result = resume(out)
    else:
        _, recipe = resolve(settings[0], settings[1:])
        result = run(recipe, out)
    said.send(result.data["artifact"]["content_hash"])
