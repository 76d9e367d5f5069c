"""``trimtab deploy``: files that start other people's engines on many machines. Nothing is started here."""

from __future__ import annotations

from pathlib import Path

import typer

from trimtab.cli.app import helped, note, say

JSON = typer.Option(False, "--json", help="Print one JSON document in place of the file.")
HOST = typer.Option("127.0.0.1", "--host", help="Where to listen; others can reach any other address.")
PORT = typer.Option(8000, "--port", min=1, max=65535, help="Its port.")

deploy = typer.Typer(
    name="deploy", rich_markup_mode=None, help="Write what vLLM or Ray Serve needs to serve on many machines.",
)  # fmt: skip


@deploy.callback(invoke_without_command=True)
def _root(context: typer.Context) -> None:
    helped(context)


@deploy.command("vllm")
def vllm(
    folder: Path = typer.Argument(..., help="A folder that trimtab export has written."),
    out: Path = typer.Option(None, "--out", help="A new shell script (default: standard output)."),
    host: str = HOST,
    port: int = PORT,
    name: str = typer.Option(None, "--served-model-name", help="What requests call it (default: the folder's name)."),
    dtype: str = typer.Option(None, "--dtype", help="bfloat16, float16 or float32 (default: the folder's)."),
    length: int = typer.Option(None, "--max-model-len", min=1, help="Tokens with pictures (default: the model's)."),
    items: int = typer.Option(1, "--images", min=1, help="Pictures in a prompt, where it sees."),
    parts: int = typer.Option(1, "--tensor-parallel-size", min=1, help="Devices among which matrices are shared."),
    device: str = typer.Option("gpu", "--device", help="What it will run on: gpu or cpu."),
    as_json: bool = JSON,
) -> None:
    """Write the command that serves an exported folder with vLLM."""
    from trimtab.serve.deploy.vllm import Wanted, command

    made = command(folder, Wanted(host, port, name, dtype, length, items, parts, device))
    _hand(made.script(), out, made.notes, quiet=as_json)
    if as_json:
        say({"arguments": made.arguments, "environment": made.environment, "notes": made.notes})


@deploy.command("ray")
def ray(
    artifact: Path = typer.Argument(..., help="An artifact folder that every node can read at this path."),
    out: Path = typer.Option(None, "--out", help="A new YAML file (default: standard output)."),
    host: str = HOST,
    port: int = PORT,
    replicas: int = typer.Option(2, "--replicas", min=1, help="Servers, each with the whole model."),
    cpus: int = typer.Option(None, "--cpus", min=1, help="Cores of a replica (default: the artifact's threads)."),
    as_json: bool = JSON,
) -> None:
    """Write a Ray Serve config: replicas of Trimtab's own server."""
    from trimtab.serve.deploy.rayconfig import Wanted, config, dumped, notes

    wanted = Wanted(host, port, replicas, cpus)
    made = config(artifact, wanted)
    _hand(dumped(made, wanted), out, notes(wanted), quiet=as_json)
    if as_json:
        say({"config": made, "notes": notes(wanted)})


def _hand(text: str, out: Path | None, notes: tuple[str, ...], quiet: bool) -> None:
    """To a new file, or to standard output. Raises Refused where the file exists, BadInput
    where its folder does not."""
    from trimtab.core.errors import BadInput, Refused
    from trimtab.core.files import write_atomic

    for line in notes:
        note(f"- {line}")
    if out is None:
        if not quiet:
            typer.echo(text, nl=False)
        return
    if out.exists():
        raise Refused(f"--out: {out} exists; name a new file")
    if not out.parent.is_dir():
        raise BadInput(f"--out: {out.parent} is not a folder")
    write_atomic(out, text)
    note(f"Wrote {out}")


def register(app: typer.Typer) -> None:
    """Add this room's commands."""
    app.add_typer(deploy)
