"""Peers, each in a virtual environment of its own that is made when it is first asked for."""

from __future__ import annotations

import os
import subprocess
import venv
from pathlib import Path

PEERS = {
    "llmcompressor": ("torch==2.13.0", "llmcompressor==0.14.0.1", "transformers==5.17.0"),
}
"""What pip is asked for, in order: torch first, so that nothing pulls another."""


def python_of(peer: str, folder: Path) -> Path:
    """The interpreter of ``peer``'s environment under ``folder``. Raises CalledProcessError where pip fails."""
    home = folder / peer
    done, python = home / ".installed", home / "bin" / "python"
    wanted = "\n".join(PEERS[peer])
    if not done.is_file() or done.read_text(encoding="utf-8") != wanted:
        venv.create(home, with_pip=True, clear=True)
        index = os.environ.get("TORCH_INDEX")
        for package in PEERS[peer]:
            where = ["--index-url", index] if index and package.startswith("torch==") else []
            subprocess.run([python, "-m", "pip", "install", "--quiet", *where, package], check=True)
        done.write_text(wanted, encoding="utf-8")
    return python
