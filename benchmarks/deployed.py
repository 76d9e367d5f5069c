"""``make check-deploy``: what ``trimtab deploy`` writes, given to vLLM's own parser and to a Ray of one node.

    python benchmarks/deployed.py [--parts vllm ray] [--out runs/check-deploy]

vLLM (a build for CPUs, in an environment of its own, 3.5 GB) parses the command of every folder and makes its own
config of it: architecture, dtype, length, quantization, how matrices are shared. No weights are read. Ray Serve reads
the YAML by its own schema, in which every key has to be known, and then ``serve run`` starts it on this machine, where
a question with a picture is answered as by the artifact itself. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

from PIL import Image

import trimtab
from jobs import SIDES
from peers import RAY, VLLM, python_of
from soakbodies import chat
from soakserver import free_port
from trimtab import methods
from trimtab.evaluate.ask import ask
from trimtab.export.deliver import deliver
from trimtab.load.artifact import read, write
from trimtab.load.sources import open_source
from trimtab.run.walk import walk
from trimtab.serve.deploy import rayconfig, vllm

ASKED, WORDS, READY = "What is in the picture?", 8, 180.0
FORMATS = ("dense", "compressed-tensors", "gptq", "awq")


def artifact(folder: Path, knobs: dict[str, Any]) -> Path:
    """The built-in VLM with codes in its decoder."""
    if not folder.is_dir():
        loaded = open_source("builtin:easyvqa-llava", dtype="bfloat16")
        walk(loaded.anatomy, (), methods.make("rtn", {"group_size": 64} | knobs), ["language"])
        write(folder, loaded, {"recipe": {"benchmark": "deployed"}})
    return folder


def in_vllm(place: Path) -> list[dict[str, Any]]:
    """What vLLM makes of the command of every format. Raises CalledProcessError where it does not take one."""
    python = python_of(VLLM, place / "vllm")
    commands = []
    for name in FORMATS:
        folder = place / name
        if not folder.is_dir():
            deliver(artifact(place / "even", {"bits": 4, "symmetric": True}), name, folder)
        commands.append(vllm.command(folder, vllm.Wanted(port=free_port(), items=2, device="cpu")).arguments)
    (place / "job.json").write_text(json.dumps(commands), encoding="utf-8")
    path = os.pathsep.join([str(SIDES / "shared"), str(SIDES / "torchvision_ops")])
    environment = os.environ | VLLM.environment | {"PYTHONPATH": path}
    done = subprocess.run([str(python), "-P", str(SIDES / "deploy_vllm.py"), str(place / "job.json")], check=True,
                          env=environment, stdout=subprocess.PIPE, text=True)  # fmt: skip
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    for command, one in zip(commands, found, strict=True):
        options = dict(zip(command[3::2], command[4::2], strict=True))
        assert one["length"] == int(options["--max-model-len"]), one
        assert one["dtype"] == f"torch.{options['--dtype']}", one
        assert one["images"] == 2, one
        assert one["port"] == int(options["--port"]), one
    return found


def in_ray(place: Path) -> list[dict[str, Any]]:
    """What Ray makes of the file, and what its one replica answers beside the artifact."""
    python = python_of(RAY, place / "ray")
    folder = artifact(place / "even", {"bits": 4, "symmetric": True})
    wanted = rayconfig.Wanted(port=free_port(), replicas=1, cpus=1)
    file = place / "serve.yaml"
    file.write_text(rayconfig.dumped(rayconfig.config(folder, wanted), wanted), encoding="utf-8")
    source = str(Path(trimtab.__file__).parents[1])
    # Ray keeps a token of its own at home, and all else below a folder whose path has to be short
    own = {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")]),
           "HOME": str(place)}  # fmt: skip
    environment = os.environ | own
    done = subprocess.run([str(python), "-P", str(SIDES / "deploy_ray.py"), str(file)], check=True, env=environment,
                          stdout=subprocess.PIPE, text=True)  # fmt: skip
    found = [json.loads(done.stdout.splitlines()[-1])]
    with (place / "ray.log").open("wb") as log:
        process = subprocess.Popen([str(python.parent / "serve"), "run", str(file)], stdout=log, stderr=log,
                                   env=environment, start_new_session=True, preexec_fn=_interruptible)  # fmt: skip
        try:
            said, streamed = _answers(wanted.port, process)
        finally:
            _ended(process)
    (place / "red.png").write_bytes(red())
    right = ask(read(folder), ASKED, [place / "red.png"], WORDS)
    assert said == streamed == right, f"by Ray {said!r}, streamed {streamed!r}, by the artifact itself {right!r}"
    return [*found, {"answer": "the same as the artifact's own, whole and streamed"}]


def _interruptible() -> None:
    """Whoever runs this in the background of a shell has interrupts ignored, and children take that over."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _ended(process: subprocess.Popen[bytes]) -> None:
    """With all that it started, even where it does not end when told to."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def red() -> bytes:
    """A picture."""
    kept = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(kept, "PNG")
    return kept.getvalue()


def _answers(port: int, process: subprocess.Popen[bytes]) -> tuple[str, str]:
    """To the question, whole and streamed, when somebody answers. Raises RuntimeError where nobody does."""
    url = f"data:image/png;base64,{base64.b64encode(red()).decode()}"
    until = monotonic() + READY
    while process.poll() is None and monotonic() < until:
        try:
            with urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=30) as answer:
                model = json.loads(answer.read())["data"][0]["id"]
            whole = json.loads(_post(port, chat(model, ASKED, url, max_tokens=WORDS)))
            lines = _post(port, chat(model, ASKED, url, max_tokens=WORDS, stream=True)).decode().splitlines()
        except (URLError, ConnectionError):
            sleep(1.0)
            continue
        assert "data: [DONE]" in lines, lines
        chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
        words = [one["choices"][0]["delta"].get("content") or "" for one in chunks if one["choices"]]
        return str(whole["choices"][0]["message"]["content"]).strip(), "".join(words).strip()
    raise RuntimeError("the deployment did not come up; its log is ray.log")


def _post(port: int, body: bytes) -> bytes:
    asked = Request(f"http://127.0.0.1:{port}/v1/chat/completions", body, {"Content-Type": "application/json"})
    with urlopen(asked, timeout=60) as answer:
        found: bytes = answer.read()
    return found


PARTS: dict[str, Callable[[Path], list[dict[str, Any]]]] = {"vllm": in_vllm, "ray": in_ray}


def main() -> None:
    """Each part; a line for what was checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, default=Path("runs/check-deploy"))
    given = parser.parse_args()
    place = given.out.resolve()
    place.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    for part in given.parts:
        found[part] = PARTS[part](place)
        for row in found[part]:
            print(f"{part}: {row}", flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    sys.exit(main())
