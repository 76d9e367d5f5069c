"""Writing an OpenVINO folder and checking it opens no connection and starts no process but the check."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trimtab.export import formats, samples
from trimtab.load.artifact import read
from untested import need

CHECK = formats.FORMATS["openvino"].check
WATCH = """
import atexit, json, sys

SEEN, ALLOWED = [], sys.argv.pop(1)
STARTS = ("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.system", "os.spawn")


def watch(event, args):
    if event.startswith("socket.") and event != "socket.__new__" and event != "socket.gethostname":
        pass
    elif event not in STARTS or (event == "subprocess.Popen" and ALLOWED in map(str, args[1])):
        return
    SEEN.append([event, repr(args)[:300]])
    raise RuntimeError(f"{event} is forbidden here")  # what the library swallows is seen all the same


sys.addaudithook(watch)
atexit.register(lambda: print("\\n" + json.dumps(SEEN)))
"""
DELIVER = """
from pathlib import Path
from trimtab.export.deliver import deliver
deliver(Path(sys.argv[1]), "openvino", Path(sys.argv[2]))
"""
ASK = """
import runpy
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
SETTLED = """
import openvino, openvino_telemetry  # a user's own, before ours
from trimtab.core.ovquiet import without_telemetry
with without_telemetry():
    pass
assert sys.modules["openvino_telemetry"] is openvino_telemetry
"""


def seen(code: str, home: Path, *words: object, allowed: str = "-") -> list[Any]:
    """Connections and processes that ``code`` tried to open, for a user who never said yes or no."""
    home.mkdir(exist_ok=True)
    env = {name: value for name, value in os.environ.items() if name not in ("CI", "TF_BUILD", "JENKINS_URL")}
    command = [sys.executable, "-c", WATCH + code, allowed, *map(str, words)]
    done = subprocess.run(command, env=env | {"HOME": str(home)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_the_watch_sees_what_a_plain_import_tries(tmp_path: Path) -> None:
    need("openvino_tokenizers")
    found = seen("import openvino", tmp_path / "home")
    assert [event for event, _ in found] != []
    assert (tmp_path / "home" / "intel").is_dir()
    code = "import socket\ntry:\n    socket.create_connection(('127.0.0.1', 9))\nexcept RuntimeError:\n    pass"
    assert [event for event, _ in seen(code, tmp_path / "home")] == ["socket.getaddrinfo"]


@pytest.mark.parametrize("subject", ["language", "seeing"])
def test_an_openvino_folder_is_written_and_checked_in_silence(subject: str, artifacts: Path, tmp_path: Path) -> None:
    need("openvino")
    home, out = tmp_path / "home", tmp_path / "out"
    assert seen(DELIVER, home, artifacts / subject, out, allowed=str(CHECK)) == []
    assert not (home / "intel").exists(), "nor does the check make it, which has the same home"
    samples.record(read(artifacts / subject, lowered=False), tmp_path / "samples")
    assert seen(ASK, home, CHECK, out, tmp_path / "samples") == []
    assert not (home / "intel").exists()


def test_what_was_imported_before_stands_again(tmp_path: Path) -> None:
    need("openvino_tokenizers")
    seen(SETTLED, tmp_path / "home")
