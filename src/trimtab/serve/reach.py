"""Who can reach an address, and what that needs."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from trimtab.core.errors import BadInput

LEAST = 16
"""Letters of a token."""


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it. A name other than localhost may be anything."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def guarded(host: str, token: str | None, names: Sequence[str] = ()) -> None:
    """Raises BadInput for another address than loopback, or ``names`` under which a proxy is asked, without a token;
    and for a token that is easily guessed."""
    if token is None and (names or not is_loopback(host)):
        what = f"--allowed-host {names[0]}" if names else f"--host {host}"
        raise BadInput(f"{what}: others can reach it; accepted with a token (--token-file FILE, or the variable "
                       "TRIMTAB_TOKEN), or 127.0.0.1 without")  # fmt: skip
    if token is not None and (len(token) < LEAST or not token.isascii() or not token.isprintable() or " " in token):
        raise BadInput(f"token: accepted: {LEAST} printable ASCII letters or more, without spaces")
