"""A run in a process of its own that dies, as by ``kill -9``, at the n-th time it is about to write something durable.

Every file that Trimtab writes goes through ``os.fsync`` before it counts, so that is where a run can be cut. Counting
down in fsync makes the moments reproducible: ``python kill.py OUT N -- SETTINGS`` begins or resumes the run in OUT and
dies before its N-th sync from here (0: never).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main() -> int:
    out, count, settings = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[4:]
    left, sync = [count], os.fsync

    def fsync(handle: int) -> None:
        left[0] -= 1
        if left[0] == 0:
            os._exit(137)
        sync(handle)

    os.fsync = fsync
    from trimtab.run.start import resolve, resume, run

    if (out / "recipe.resolved.yaml").exists():
        result = resume(out)
    else:
        _, recipe = resolve(settings[0], settings[1:])
        result = run(recipe, out)
    print(result.data["artifact"]["content_hash"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
