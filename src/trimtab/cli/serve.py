"""``trimtab serve``."""

from __future__ import annotations

import logging
import os
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer

from trimtab.cli.app import note, say
from trimtab.core.errors import BadInput

JSON = typer.Option(False, "--json", help="Make the last line of standard output one JSON document.")
NEEDS = ("fastapi", "uvicorn", "prometheus_client")
TOKEN = "TRIMTAB_TOKEN"


def serve(
    models: list[str] = typer.Argument(..., help="Artifacts, builtin:NAME, hub ids or folders; ID=FOLDER names one."),
    host: str = typer.Option("127.0.0.1", "--host", help="Any other than loopback needs a token."),
    port: int = typer.Option(8000, "--port", min=0, max=65535, help="0: any that is free."),
    token_file: Path = typer.Option(None, "--token-file", help=f"What clients must bring; or the variable {TOKEN}."),
    adapter: list[str] = typer.Option(
        [], "--adapter", metavar="ID=FOLDER", help="A PEFT folder on the first model; may be repeated."
    ),
    original: bool = typer.Option(False, "--original", help="Serve the untouched model of each artifact beside it."),
    allowed_host: list[str] = typer.Option(
        [], "--allowed-host", metavar="NAME", help="A proxy's name, by which it is asked too; needs a token."
    ),
    allow_remote_images: bool = typer.Option(False, "--allow-remote-images", help="Fetch pictures by public URL."),
    images: int = typer.Option(8, "--images", min=1, help="Pictures of one request."),
    image_pixels: int = typer.Option(16_000_000, "--image-pixels", min=1, help="Of each of them."),
    body: int = typer.Option(32, "--body", min=1, help="MiB of one request."),
    tokens: int = typer.Option(4096, "--tokens", min=1, help="Of a prompt, and of an answer."),
    seconds: float = typer.Option(300.0, "--seconds", min=1, help="From a request's arrival to its end."),
    waiting: int = typer.Option(64, "--waiting", min=1, help="Requests that may wait; more are refused with 429."),
    rows: int = typer.Option(8, "--rows", min=1, help="Sequences that are decoded side by side."),
    remember: int = typer.Option(256, "--remember", min=0, help="MiB for what was seen and read; 0: none."),
    drain: float = typer.Option(30.0, "--drain", min=0, help="Seconds for what was begun when the server has to stop."),
    as_json: bool = JSON,
) -> None:
    """Serve OpenAI's API and a chat page on this machine. Models answer as they were measured, their token and cache
    policies included."""
    missing = [name for name in NEEDS if find_spec(name) is None]
    if missing:
        raise BadInput(f"serve: {', '.join(missing)} is not installed; next: pip install 'trimtab[serve]'")
    from trimtab.serve.heap import few_shapes

    few_shapes()
    from trimtab.serve.app import Settings
    from trimtab.serve.limits import Limits
    from trimtab.serve.reach import guarded, is_loopback
    from trimtab.serve.remote import Remote
    from trimtab.serve.run import bound, url_of
    from trimtab.serve.run import serve as run

    token = _token(token_file)
    guarded(host, token, allowed_host)
    limits = Limits(body << 20, images, image_pixels, tokens, seconds=seconds, waiting=waiting, rows=rows)
    fetch = Remote(limits.body) if allow_remote_images else None
    settings = Settings(limits, token, is_loopback(host), fetch, tuple(allowed_host))
    listening = bound(host, port)
    try:
        house = _house(models, adapter, original, remember << 20, settings)

        def ready() -> None:
            url = url_of(listening)
            for one in house.entries.values():
                note(f"{one.id}: {one.kind}, {'; '.join(filter(None, one.policies.values()))}, by the {one.engine}")
            note(f"Chat page: {url}  OpenAI's API: {url}/v1  Ctrl-C finishes what was begun and stops.")
            if as_json:
                say({"url": url, "models": list(house.entries)})

        run(house, listening, drain, ready)
    finally:
        listening.close()
    note("stopped")


def _house(models: list[str], adapter: list[str], original: bool, remember: int, settings: Any) -> Any:
    from trimtab.serve.app import House
    from trimtab.serve.names import catalogue

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    rows = [one.partition("=") for one in adapter]
    for name, sign, folder in rows:
        if not (name and sign and folder):
            raise BadInput(f"--adapter: got {name + sign + folder!r}; accepted: ID=FOLDER")
    entries = catalogue(models, {name: folder for name, _, folder in rows}, original, remember, int(time.time()))
    return House(entries, settings)


def _token(file: Path | None) -> str | None:
    """Never from the command line, which every user of the machine can read."""
    if file is None:
        return os.environ.get(TOKEN) or None
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"--token-file {file}: cannot be read") from error


def register(app: typer.Typer) -> None:
    """Add this room's commands."""
    app.command()(serve)
