"""``make soak``: the server under clients as they come, requests drawn from its own description, and kill -9.

    python benchmarks/soak.py [--seconds 180] [--clients 200] [--examples 10000] [--kills 5]
                              [--parts load schema kill] [--out runs/soak]

Three parts, each with a ``trimtab serve`` of its own on an artifact of the built-in VLM that is made once. ``load``:
clients that ask as they should, read slowly, leave, send too much, too little or nonsense, with pictures that are cut
off or unfold to gigabytes. ``schema``: requests that schemathesis (in an environment of its own) makes of
/openapi.json. ``kill``: kill -9 while requests are under way, then the artifact's bytes and answers again. A part that
has been done with the same sources is not done again.

Prints a verdict for every promise of docs/serve.md; a whole run writes docs/measured-soak.md. Exit status 1 where a
promise is not held. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import trimtab
from finished import Finished, digest, digest_of_files
from jobs import SIDES
from peers import SCHEMATHESIS, python_of
from soakbodies import asked, picture
from soakclients import Deed, alone, deeds, drive
from soakpage import Verdict, kill_verdicts, load_verdicts, page, schema_verdicts
from soakserver import TOKEN, Server, running, started
from trimtab import methods
from trimtab.load.artifact import write
from trimtab.load.sources import open_source
from trimtab.measure.machine import versions
from trimtab.run.walk import walk

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "docs" / "measured-soak.md"
ALONE, UNDER_WAY, WARM = 30, 20, 1 / 3
LITTLE = ("--remember", "16")
"""MiB, of either kind, for what was seen and read: full within the warm-up, so growth after it is none of these."""
WARMING = 20.0
"""Seconds of the clients of ``load`` before the drawn requests."""
EVERY = ("vision", "projector", "language", "head")
GOOD = ("chat", "chat, stream", "chat, picture", "chat, picture, stream")


def artifact(folder: Path) -> Path:
    """The built-in VLM at 4 bits with half of the visual tokens, made where it is not there."""
    if not (folder / "trimtab.json").is_file():
        loaded = open_source("builtin:easyvqa-llava", dtype="bfloat16")
        walk(loaded.anatomy, (), methods.make("rtn", {"bits": 4, "group_size": 64}), EVERY)
        loaded.policies = [methods.make("divprune", {"keep": 0.5})]
        write(folder, loaded, {"recipe": {"benchmark": "soak"}})
    return folder


def told(server: Server) -> tuple[str, dict[str, Any]]:
    """The model's name, and the server's limits."""
    return server.ask("/v1/models")["data"][0]["id"], server.ask("/trimtab/status")["limits"]


async def settled(server: Server, seconds: float = 60.0) -> dict[str, Any]:
    """The server's status when nothing waits or runs any more, or after ``seconds``."""
    for _ in range(int(seconds * 2)):
        said: dict[str, Any] = server.ask("/trimtab/status")
        if said["queue"]["waiting"] == said["queue"]["running"] == 0:
            return said
        await asyncio.sleep(0.5)
    return said


def load(place: Path, given: argparse.Namespace) -> dict[str, Any]:
    """One client alone, then all together, then quiet."""

    async def go(server: Server) -> dict[str, Any]:
        all_of = deeds(server.port, *told(server), TOKEN)
        before = await alone(next(one for one in all_of if one.name == "chat, picture, stream"), ALONE)
        server.memory.clear()
        began = server.ask("/trimtab/status")["requests"]
        seen = await drive(all_of, given.clients, given.seconds)
        after, memory = await settled(server), list(server.memory)
        after["requests"] = {key: count - began[key] for key, count in after["requests"].items()}
        start = memory[0][0] if memory else 0.0
        return {"alone": before, "after": after, "alive": server.alive(),
                "memory": [(at - start, size) for at, size in memory], "seen": asdict(seen)}  # fmt: skip

    with running([place / "artifact"], place / "load.log", LITTLE) as server:
        found = asyncio.run(go(server))
    sent = sum(sum(row.values()) for row in found["seen"]["counts"].values())
    return found | {"status": server.process.returncode, "clients": given.clients, "seconds": given.seconds,
                    "warm": given.seconds * WARM, "sent": sent}  # fmt: skip


def schema(place: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Schemathesis' requests, one after the other, of a server that has met the clients of ``load`` before: what is
    drawn seldom asks for much, so memory would rise to what that takes for as long as it runs."""
    python = python_of(SCHEMATHESIS, place.resolve() / "schemathesis")
    with running([place / "artifact"], place / "schema.log", LITTLE) as server:
        model, limits = told(server)
        asyncio.run(drive(deeds(server.port, model, limits, TOKEN), given.clients, WARMING))
        asyncio.run(settled(server))
        job = {"url": f"http://127.0.0.1:{server.port}", "token": TOKEN, "model": model,
               "examples": given.examples, "seconds": given.patience, "seed": 0}  # fmt: skip
        (place / "job.json").write_text(json.dumps(job), encoding="utf-8")
        server.memory.clear()
        done = subprocess.run([str(python), "-P", str(SIDES / "soak_schema.py"), str(place / "job.json")],
                              stdout=subprocess.PIPE, text=True, check=True)  # fmt: skip
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        start = server.memory[0][0] if server.memory else 0.0
        memory = [(at - start, size) for at, size in server.memory]
        return found | {"alive": server.alive(), "memory": memory, "warm": found["seconds"] * WARM,
                        "wanted": given.examples}  # fmt: skip


async def shot(server: Server, good: Sequence[Deed], after: float) -> None:
    """kill -9 while good requests are under way."""
    clients = [asyncio.create_task(drive(good, 1, 2 * after, seed)) for seed in range(UNDER_WAY)]
    await asyncio.sleep(after)
    server.kill()
    for client in clients:
        client.cancel()
    await asyncio.gather(*clients, return_exceptions=True)


def kill(place: Path, given: argparse.Namespace) -> dict[str, Any]:
    """The artifact and its answer, before and after."""
    folder = place / "artifact"
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    before, answers = digest_of_files(files), list[str]()
    for _ in range(given.kills + 1):
        server = started([folder], place / "kill.log")
        try:
            model, limits = told(server)
            said = server.ask("/v1/chat/completions", json.loads(_question(model)))
            answers.append(said["choices"][0]["message"]["content"])
            good = [one for one in deeds(server.port, model, limits, TOKEN) if one.name in GOOD]
            asyncio.run(shot(server, good, 1.5))
        finally:
            server.kill()
    same_files = sorted(path for path in folder.rglob("*") if path.is_file()) == files
    return {"times": given.kills, "running": UNDER_WAY, "files": len(files), "same": len(set(answers)) == 1,
            "equal": same_files and digest_of_files(files) == before}  # fmt: skip


def _question(model: str) -> bytes:
    draw = random.Random(7)
    return asked(model, draw, picture("PNG", draw), seed=7)


PARTS: dict[str, Callable[[Path, argparse.Namespace], dict[str, Any]]] = {"load": load, "schema": schema, "kill": kill}
JUDGES: dict[str, Callable[[Any], list[Verdict]]] = {
    "load": load_verdicts, "schema": schema_verdicts, "kill": kill_verdicts,
}  # fmt: skip


def measured(part: str, given: argparse.Namespace, kept: Finished) -> Any:
    """What was found in a part, now or before."""
    sources = [*Path(trimtab.__file__).parent.rglob("*.py"), *HERE.glob("soak*.py"), SIDES / "soak_schema.py"]
    asked_for = {key: value for key, value in vars(given).items() if key not in ("parts", "out")}
    on = digest(part, digest_of_files(sources), versions(), asked_for)
    return kept.get(on) or kept.put(on, PARTS[part](given.out, given))


def main() -> None:
    """All parts, their verdicts, the kept page of a whole run, one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("clients", 200), ("examples", 10_000), ("kills", 5)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--patience", type=float, default=2700.0, help="seconds for the requests of schemathesis")
    parser.add_argument("--parts", nargs="+", choices=JUDGES, default=list(JUDGES))
    parser.add_argument("--out", type=Path, default=Path("runs/soak"))
    given = parser.parse_args()
    whole = vars(given) == vars(parser.parse_args([])) | {"out": given.out}
    given.out.mkdir(parents=True, exist_ok=True)
    size = (artifact(given.out / "artifact") / "trimtab.safetensors").stat().st_size
    for log in given.out.glob("*.log"):
        log.unlink()
    kept, found, verdicts = Finished(given.out / "found.json"), {}, list[Verdict]()
    for part in given.parts:
        found[part] = measured(part, given, kept)
        for one in JUDGES[part](found[part]):
            verdicts.append(one)
            print(f"{one.text}: {one.promise}: {one.found}", flush=True)
    for text in [*found.get("load", {}).get("seen", {}).get("wrong", ())][:20]:
        print(text)
    if whole:
        OUT.write_text(page(verdicts, found["load"], found["schema"], size), encoding="utf-8")
    print(json.dumps({"promises": [asdict(one) for one in verdicts]}))
    sys.exit(1 if any(one.held is False for one in verdicts) else 0)


if __name__ == "__main__":
    main()
