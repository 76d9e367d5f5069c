"""The way of a request through the server: a place in the queue, its prompt, its job, and what comes of it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import anyio.to_thread
from anyio import CapacityLimiter

from trimtab.serve.deadline import Deadline
from trimtab.serve.errors import ApiError
from trimtab.serve.limits import Limits
from trimtab.serve.schedule import Job, Scheduler

V = TypeVar("V")
SPARE = 2
"""Requests whose prompts are made while others run."""


class Desk:
    """``limits.waiting`` requests may wait, beside those that are made ready or run: these hold pictures and tensors,
    so they are few, whatever was sent."""

    def __init__(self, scheduler: Scheduler, limits: Limits) -> None:
        self.scheduler, self.limits = scheduler, limits
        self.draining = False
        self.waiting, self.inside = 0, 0
        self._room = asyncio.Semaphore(limits.rows + SPARE)
        self._making = CapacityLimiter(1)
        self._seconds = 1.0

    @property
    def idle(self) -> bool:
        return not self.waiting and not self.inside

    @asynccontextmanager
    async def place(self, deadline: Deadline) -> AsyncIterator[None]:
        """Raises ApiError: 503 where the server stops, 429 where the queue is full, the deadline's where it is
        missed."""
        if self.draining:
            raise ApiError(503, "the server is stopping", code="stopping", retry=5)
        if self.waiting >= self.limits.waiting:
            raise ApiError(429, f"{self.waiting} requests are waiting; accepted: at most {self.limits.waiting}",
                           code="queue_full", retry=self._patience())  # fmt: skip
        self.waiting += 1
        try:
            async with asyncio.timeout(deadline.left):
                await self._room.acquire()
        except TimeoutError as error:
            raise deadline.missed(self._patience()) from error
        finally:
            self.waiting -= 1
        self.inside += 1
        begun = time.monotonic()
        try:
            yield
        finally:
            self.inside -= 1
            self._room.release()
            self._seconds += 0.1 * (time.monotonic() - begun - self._seconds)

    async def made(self, make: Callable[[], V]) -> V:
        """``make()`` in a thread, one at a time: pictures are large while they are decoded."""
        return await anyio.to_thread.run_sync(make, limiter=self._making)

    async def events(self, make: Callable[[Callable[[Any], None]], Job]) -> AsyncGenerator[Any, None]:
        """What the scheduler says of a job, until whoever asks leaves; then so does the job. Raises the ApiError with
        which it ends."""
        queue: asyncio.Queue[Any] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def put(event: Any) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, event)

        job = make(put)
        self.scheduler.submit(job)
        try:
            while True:
                event = await queue.get()
                if isinstance(event, ApiError):
                    raise event
                yield event
        finally:
            job.leave()

    def _patience(self) -> int:
        """Seconds until a place may be free, as long as requests take what they took of late."""
        return min(60, max(1, math.ceil(self._seconds * (self.waiting + 1) / self.limits.rows)))
