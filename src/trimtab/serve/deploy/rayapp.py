"""What the config file of ``trimtab deploy ray`` imports: Trimtab's own server as a deployment of Ray Serve.

The model is read on the replica, when it starts: what travels to it is the artifact's path. Ray is imported when the
deployment is built, and is no dependency of Trimtab. Ray, not Trimtab, listens there; whoever asks passes the same
guard as on one machine, and the token is that of the replica's environment (``TRIMTAB_TOKEN``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from trimtab.serve.deploy.rayconfig import NAME


def build(given: dict[str, Any]) -> Any:
    """The Application for the file's ``args``: what ``rayconfig.config`` writes there."""
    from ray import serve

    def replica() -> Any:
        return application(given, os.environ.get("TRIMTAB_TOKEN") or None)

    return serve.deployment(name=NAME)(serve.ingress(replica)()).bind()


def application(given: Mapping[str, Any], token: str | None) -> Any:
    """The ASGI application of a replica, whose scheduler runs as long as its process does. Raises BadInput where others
    could ask without a token, and as loading does."""
    from trimtab.serve.app import House, Settings, made
    from trimtab.serve.heap import settled
    from trimtab.serve.limits import Limits
    from trimtab.serve.names import catalogue
    from trimtab.serve.reach import guarded, is_loopback

    guarded(given["host"], token)
    limits = Limits(waiting=given["waiting"], rows=given["rows"])
    limits.check()
    entries = catalogue([given["artifact"]], {}, False, given["remember"], int(time.time()))
    house = House(entries, Settings(limits, token, is_loopback(given["host"])))
    settled()
    house.scheduler.__enter__()
    return made(house)
