"""openvino without its telemetry: importing it would tell its maker so, from a process of its own.

The package ``openvino-telemetry``, which openvino-tokenizers needs, sends an event at ``import openvino`` unless the
file ``~/intel/openvino_telemetry`` says no, and makes ``~/intel``. Its opt-out (``opt_in_out --opt_out``) is a setting
of the user's, and the variable CI means more than this. Where the package cannot be imported openvino has a stub in its
place; so it is hidden while openvino is imported for the first time, and the process keeps the stub.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

TELEMETRY = "openvino_telemetry"


@contextmanager
def without_telemetry() -> Iterator[None]:
    """Inside, ``openvino_telemetry`` is no module that can be imported. What was there before stands again after."""
    held = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == TELEMETRY}
    for name in held:
        del sys.modules[name]
    sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # how Python is told that there is none
    try:
        yield
    finally:
        sys.modules.pop(TELEMETRY, None)
        sys.modules.update(held)
