"""Exports that could not be tested here: every one is named in pytest's last lines, and under CI it is a failure."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from typing import Any
from warnings import catch_warnings, simplefilter

import pytest

MARK = "export not tested: "
LINE = re.compile(rf"^(?:Skipped: )?{MARK}(.*)", re.MULTILINE)
PLACE = "tests/export/"


def need(package: str) -> None:
    """Go on where ``package`` can be imported. Fails where it cannot and the variable CI is set; else skips."""
    said = f"{MARK}{_formats(package)}{why}; next: pip install -e '.[dev]'" if (why := unusable(package)) else ""
    if said and os.environ.get("CI"):
        pytest.fail(said, pytrace=False)
    if said:
        pytest.skip(said, allow_module_level=True)


def unusable(package: str) -> str | None:
    """Why ``package`` cannot be imported; None where it can."""
    from trimtab.core.ovquiet import without_telemetry

    try:
        with catch_warnings(), without_telemetry():  # an engine's own, at its first import
            simplefilter("ignore")
            import_module(package)
    except ModuleNotFoundError as error:
        return f"{error.name} is not installed"
    except (ImportError, OSError) as error:
        return f"{package} cannot be imported ({error})"
    return None


def _formats(package: str) -> str:
    from trimtab.export.formats import FORMATS

    found = [name for name, one in sorted(FORMATS.items()) if package == one.load().ENGINE]
    return f"--format {', '.join(found)}: " if found else ""


def _reports(terminal: Any) -> Iterator[tuple[str, str, str]]:
    """How each report that is no pass ended, where it stands, and its text."""
    for outcome in ("skipped", "failed", "error"):
        for report in terminal.stats.get(outcome, ()):
            text = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
            yield outcome, report.nodeid, text


def _skipped(terminal: Any) -> list[tuple[str, str]]:
    """Tests of exports that were skipped, and why: this is every skip among them, whoever made it."""
    return [(node, text) for outcome, node, text in _reports(terminal) if outcome == "skipped" and PLACE in node]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: Any) -> Iterator[None]:
    """After everything else, a line for each reason."""
    yield
    said = [line for _, _, text in _reports(terminalreporter) for line in re.findall(LINE, text)]
    said += [text.removeprefix("Skipped: ") for _, text in _skipped(terminalreporter) if MARK not in text]
    for line, count in Counter(said).items():
        terminalreporter.write_line(f"{MARK}{line} (tests and files: {count})", yellow=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Under CI a skip among the tests of exports is a failure, whatever made it."""
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and terminal is not None and _skipped(terminal) and not session.exitstatus:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
