"""A client that leaves takes its request along: its task is cancelled as soon as the connection ends."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

from trimtab.serve.guard import App, Message, Receive, Send


class Leaving:
    """Pure ASGI: once the body was read, whoever waits for an answer is watched."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        whole, gone = asyncio.Event(), asyncio.Event()

        async def given() -> Message:
            if whole.is_set():  # the watcher listens now
                await gone.wait()
                return {"type": "http.disconnect"}
            message = await receive()
            if message["type"] == "http.disconnect" or not message.get("more_body", False):
                whole.set()
            if message["type"] == "http.disconnect":
                gone.set()
            return message

        async def sent(message: Message) -> None:
            await send(message)
            if gone.is_set():
                raise asyncio.CancelledError  # what is written to nobody is not answered

        async def watch() -> None:
            await whole.wait()
            while not gone.is_set():
                if (await receive())["type"] == "http.disconnect":
                    gone.set()
            work.cancel()

        work = asyncio.ensure_future(self.app(scope, given, sent))
        watcher = asyncio.ensure_future(watch())
        try:
            await asyncio.wait({work})
            if not work.cancelled():
                work.result()
        finally:
            for task in (work, watcher):
                task.cancel()
