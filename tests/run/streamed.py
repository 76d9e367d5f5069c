"""What a process of its own does in test_streamed.py: trim a model, in memory or from its files, and say its memory."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from trimtab import methods
from trimtab.load import artifact
from trimtab.load.sources import open_source
from trimtab.measure.memory import peak
from trimtab.run.walk import walk


def trimmed(folder: str, out: Path, name: str, stream: bool) -> str:
    """The content hash of the artifact of ``folder`` at two bits, which take little beside the model."""
    ids = torch.randint(3, 60, (2, 64), generator=torch.Generator().manual_seed(0))
    fit = methods.make(name, {"bits": 2, "group_size": 128})
    loaded = open_source(folder, stream=stream)
    walk(loaded.anatomy, [{"input_ids": ids}], fit, ["language", "embedding", "head"])
    return artifact.write(out, loaded, {}).content_hash


def main() -> None:
    """``streamed.py SMALL FOLDER OUT true|false METHOD ...``: the peak above what it was when everything was imported
    (a model of the same kind had been trimmed), and the hashes."""
    small, folder, out, stream, *names = sys.argv[1:]
    torch.set_num_threads(1)
    for name in names:
        trimmed(small, Path(out) / "small", name, False)
    before = peak()
    hashes = [trimmed(folder, Path(out) / name, name, stream == "true") for name in names]
    print(json.dumps({"peak": peak() - before, "hashes": hashes}))


if __name__ == "__main__":
    main()
