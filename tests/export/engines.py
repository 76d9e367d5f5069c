"""Other engines that an export's test may need: missing under CI they are a failure, elsewhere a skip that says so."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest


def need(package: str) -> None:
    """Go on where ``package`` can be imported. Fails where it cannot and the variable CI is set; else skips, with a
    line among pytest's last."""
    if find_spec(package) is not None:
        return
    said = f"export not checked: {package} is not installed; next: pip install -e '.[dev]'"
    if os.environ.get("CI"):
        pytest.fail(said)
    pytest.skip(said)
