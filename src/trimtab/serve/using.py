"""Behind every request its memory is free, also where it was refused before it came to the scheduler."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any

from trimtab.serve.guard import App, Receive, Send


class Using:
    """Pure ASGI: ``used()`` behind every request of ``app``, whatever came of it."""

    def __init__(self, app: App, used: Callable[[], None]) -> None:
        self.app, self.used = app, used

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, send)
        finally:
            self.used()
