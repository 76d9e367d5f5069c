"""The command line: one typer application, and one place where errors become exit statuses.

0 accepted, 1 internal error, 2 bad input, 3 regression or anomaly, 4 inconclusive or ineffective, 5 infeasible, 130
interrupted. With ``--json`` the last line of standard output is one JSON document, errors included.
"""

from __future__ import annotations

import errno
import json
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

import typer

from trimtab import __version__
from trimtab.core.errors import TrimtabError

app = typer.Typer(
    name="trimtab",
    help="Trims a vision-language model to fit the hardware you have, and proves that it still works.",
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)


def say(document: dict[str, Any]) -> None:
    """Print one JSON document on a line of its own."""
    sys.stdout.write(json.dumps(document, allow_nan=False) + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """Say something to the person, on standard error, so that standard output stays for results."""
    sys.stderr.write(text + "\n")


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and stop."),
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit()
    helped(context)


def helped(context: typer.Context) -> None:
    """Whoever names no command is told which there are."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit()


def _log(error: BaseException, arguments: list[str]) -> Path:
    """Write the traceback of an internal error where the run's log is, else in the working folder."""
    out = Path(arguments[arguments.index("--out") + 1]) if "--out" in arguments[:-1] else Path()
    path = (out if out.is_dir() else Path()) / ("run.log" if out.is_dir() and out != Path() else "trimtab-error.log")
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(traceback.format_exception(error)))
    return path


def main() -> None:
    """Entry point of ``trimtab``."""
    from trimtab.cli import deploy, look, models, runs, search, serve

    for room in (runs, search, models, serve, deploy, look):
        room.register(app)
    arguments = sys.argv[1:]
    as_json, debug = "--json" in arguments, "--debug" in arguments
    try:
        status = app([one for one in arguments if one != "--debug"], standalone_mode=False)
    except TrimtabError as error:
        _fail(str(error), error.exit_status, as_json)
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted", 130, as_json)
    except OSError as error:
        if not full(error):
            _internal(error, arguments, as_json, debug)
        _fail(f"disk full: {error}; free some space, and go on", 2, as_json)
    except Exception as error:
        usage = getattr(error, "format_message", None)
        if usage is not None:  # click's own complaint about the command line
            _fail(f"{usage()}\nSee: trimtab --help", 2, as_json)
        _internal(error, arguments, as_json, debug)
    sys.exit(status if isinstance(status, int) else 0)  # what a command leaves with by typer.Exit is handed back


def full(error: BaseException | None) -> bool:
    """Whether the disk, or the user's share of it, is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


def _internal(error: Exception, arguments: list[str], as_json: bool, debug: bool) -> None:
    if debug:
        raise error
    path = _log(error, arguments)
    said = f"internal error: {type(error).__name__}: {error}"
    _fail(f"{said}\nThe traceback is in {path} (or use --debug)", 1, as_json)


def _fail(message: str, status: int, as_json: bool) -> NoReturn:
    note(f"error: {message}")
    if as_json:
        say({"error": message, "exit_status": status})
    sys.exit(status)
