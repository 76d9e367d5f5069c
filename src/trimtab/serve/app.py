"""The application: OpenAI's endpoints, our own beside them, and the page."""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Send

from trimtab.core.errors import BadInput
from trimtab.serve import openapi, pages
from trimtab.serve.deadline import Deadline
from trimtab.serve.desk import Desk
from trimtab.serve.embed import Item, checked, embedded, ids_of
from trimtab.serve.errors import ApiError, bad
from trimtab.serve.guard import Guard
from trimtab.serve.heap import Heap
from trimtab.serve.leaving import Leaving
from trimtab.serve.limits import Limits
from trimtab.serve.meters import Meters, Outcome, outcome_of
from trimtab.serve.names import Entry, entry_of
from trimtab.serve.pictures import Fetch, decoded
from trimtab.serve.rows import rows_of
from trimtab.serve.schedule import Job, Scheduler, logged
from trimtab.serve.schema import Chat, Completion, Embedding, ImagePart, asked
from trimtab.serve.talk import Speaker, Talk
from trimtab.serve.talk import checked as sound
from trimtab.serve.telling import sse
from trimtab.serve.using import Using

LOG = logging.getLogger("trimtab.serve")
Parts = AsyncGenerator[bytes, None]


@dataclass(frozen=True)
class Settings:
    """``token``: what clients must bring, None for none. ``loopback``: whether only this machine can ask. ``fetch``:
    what gets remote pictures, None where none are allowed. ``names`` of a proxy before it."""

    limits: Limits = field(default_factory=Limits)
    token: str | None = None
    loopback: bool = True
    fetch: Fetch | None = None
    names: tuple[str, ...] = ()


class Streamed(StreamingResponse):
    """Ends what it streams when it ends, not when what is left of that is collected."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts, media_type="text/event-stream")
        self.parts = parts

    async def stream_response(self, send: Send) -> None:
        async with aclosing(self.parts):
            await super().stream_response(send)


class House:
    """All that requests share: models by id, the scheduler, the queue, the meters."""

    def __init__(self, entries: Mapping[str, Entry], settings: Settings) -> None:
        self.entries, self.settings = entries, settings
        lanes = {id: rows_of(one.loaded) for id, one in entries.items() if one.chats}
        self.scheduler = Scheduler(lanes, settings.limits.rows, Heap())
        self.desk = Desk(self.scheduler, settings.limits)
        self.meters = Meters(lambda: self.desk.waiting, lambda: self.scheduler.running)
        self.speakers = {id: Speaker(one, settings.limits, settings.fetch) for id, one in entries.items() if one.chats}

    def entry(self, name: str) -> Entry:
        """Raises ApiError 404."""
        try:
            return entry_of(self.entries, name)
        except BadInput as error:
            raise ApiError(404, str(error), "model", "model_not_found") from error

    def speaker(self, name: str) -> Speaker:
        """Raises ApiError 404, or 400 for a model that does not speak."""
        entry = self.entry(name)
        if entry.id not in self.speakers:
            raise bad(f"model: {entry.id!r} generates no text; accepted for it: /v1/embeddings", "model")
        return self.speakers[entry.id]

    async def read(self, request: Request) -> bytes:
        """The body. Raises ApiError 415 for anything that is not said to be JSON: a page of another site can send
        other kinds unasked."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise ApiError(415, "Content-Type: accepted: application/json", code="content_type")
        try:
            async with asyncio.timeout(self.settings.limits.seconds):
                return await request.body()
        except TimeoutError as error:
            raise bad("the body came too slowly", code="timeout") from error
        except ClientDisconnect as error:  # nobody is there to be answered
            raise asyncio.CancelledError from error

    async def talk(self, request: Request, kind: type[Chat] | type[Completion], name: str) -> Response:
        arrived = time.monotonic()
        wanted = asked(kind, await self.read(request))
        speaker = self.speaker(wanted.model)
        sound(wanted, self.settings.limits)
        talk = Talk(speaker, self.desk, wanted, arrived)
        if not wanted.stream:
            answer = await talk.whole()
            self.said(talk)
            return Response(answer, media_type="application/json")
        stream = talk.stream()
        first = await anext(stream)  # an error until here is an answer of its own
        return Streamed(self.streamed(first, stream, talk, name))

    async def streamed(self, first: bytes, rest: Parts, talk: Talk, name: str) -> Parts:
        """A stream to its end, whichever it is."""
        outcome: Outcome = "failed"
        try:
            async with aclosing(rest):
                yield first
                async for part in rest:
                    yield part
            self.said(talk)
            outcome = "answered"
        except ApiError as error:
            outcome = outcome_of(error.status)
            yield sse(error.body)
        except (asyncio.CancelledError, GeneratorExit):
            outcome = "cancelled"
            raise
        finally:
            self.meters.ended(name, outcome)

    def said(self, talk: Talk) -> None:
        tally = talk.tally
        first = None if tally.first is None else tally.first - tally.arrived
        self.meters.said(tally.entry.id, tally.read, tally.words, first, tally.each)

    async def embed(self, request: Request) -> Response:
        wanted = asked(Embedding, await self.read(request))
        entry, deadline = self.entry(wanted.model), Deadline.of(time.monotonic(), self.settings.limits.seconds)
        if not entry.embeds:
            raise bad(f"model: {entry.id!r} makes no embeddings; accepted for it: /v1/chat/completions", "model")
        given, urls = self.given(entry, wanted)
        async with self.desk.place(deadline) as place:
            bring = await self.desk.brought(urls, self.settings.fetch, deadline)
            items = await self.desk.made(lambda: self.items(entry, given, bring()), deadline)

            def job(put: Callable[[Any], None]) -> Job:
                return Job(entry.id, put, call=lambda: embedded(entry.loaded, items).numpy())

            async with aclosing(self.desk.events(job, place, deadline, lambda _: True)) as events:
                rows = await anext(events)
        if wanted.dimensions not in (None, rows.shape[1]):
            raise bad(f"dimensions: got {wanted.dimensions}; accepted: {rows.shape[1]}", "dimensions")
        count = sum(len(one) for one in items if isinstance(one, list))
        self.meters.said(entry.id, count, 0, None, None)
        coded = wanted.encoding_format == "base64"
        data = [{"object": "embedding", "index": i, "embedding": _coded(row) if coded else row.tolist()}
                for i, row in enumerate(rows)]  # fmt: skip
        return JSONResponse({"object": "list", "data": data, "model": entry.id,
                             "usage": {"prompt_tokens": count, "total_tokens": count},
                             "trimtab": {"policies": entry.policies, "engine": entry.engine}})  # fmt: skip

    def given(self, entry: Entry, wanted: Embedding) -> tuple[list[Any], list[str]]:
        """What is to be embedded, and where its pictures are. Raises ApiError 400."""
        given: Any = wanted.input
        if isinstance(given, str) or isinstance(given[0], int):
            given = [given]
        most = self.settings.limits.prompts
        if len(given) > most:
            raise bad(f"input: got {len(given)}; accepted: at most {most} at once", "input")
        urls = [one.image_url.url for one in given if isinstance(one, ImagePart)]
        if urls and not entry.sees:
            raise bad("input: this model takes no pictures; accepted: text", "input", "no_vision")
        return given, urls

    def items(self, entry: Entry, given: Sequence[Any], files: Sequence[bytes]) -> list[Item]:
        """The same as models take it. Raises ApiError 400."""
        images = iter(decoded(files, self.settings.limits))
        most = self.settings.limits.tokens
        return [next(images) if isinstance(one, ImagePart) else ids_of(entry.loaded, one, most)
                if isinstance(one, str) else checked(entry.loaded, one, most) for one in given]  # fmt: skip


def _coded(row: Any) -> str:
    return base64.b64encode(row.astype("<f4").tobytes()).decode()


def made(house: House) -> Any:
    """The ASGI application of a house, guarded."""
    app = FastAPI(title="Trimtab", docs_url=None, redoc_url=None, openapi_url=None)

    async def settled(name: str, answer: Awaitable[Response]) -> Response:
        begun = time.monotonic()
        try:
            found = await answer
        except asyncio.CancelledError:
            house.meters.ended(name, "cancelled")
            raise
        except Exception as error:  # every error becomes an answer; those of ours are in the log
            told = logged(error)
            found = JSONResponse(told.body, told.status, told.headers)
        if not isinstance(found, StreamingResponse):  # which says itself how it ends
            house.meters.ended(name, outcome_of(found.status_code))
        LOG.info("%s %d %.3f s", name, found.status_code, time.monotonic() - begun)
        return found

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        return await settled("chat", house.talk(request, Chat, "chat"))

    @app.post("/v1/completions")
    async def completions(request: Request) -> Response:
        return await settled("completions", house.talk(request, Completion, "completions"))

    @app.post("/v1/embeddings")
    async def embeddings(request: Request) -> Response:
        return await settled("embeddings", house.embed(request))

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> Response:
        told = ApiError(error.status_code, str(error.detail), code="not_found" if error.status_code == 404 else None)
        return JSONResponse(told.body, told.status, error.headers)

    @app.exception_handler(ApiError)
    async def refused(request: Request, error: ApiError) -> Response:
        return JSONResponse(error.body, error.status, error.headers)

    pages.add(app, house)
    openapi.add(app)
    said = house.settings
    guard = Guard(Leaving(app), said.token, said.loopback, said.limits.body, said.names)
    return Using(guard, house.scheduler.used)
