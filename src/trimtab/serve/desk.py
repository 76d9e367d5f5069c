"""The way of a request through the server: a place in the queue, its prompt, its job, and what comes of it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, TypeVar

from trimtab.serve.deadline import Deadline
from trimtab.serve.errors import ApiError
from trimtab.serve.limits import Limits
from trimtab.serve.pictures import Fetch, brought, is_remote
from trimtab.serve.schedule import Job, Scheduler

V = TypeVar("V")
Put = Callable[[Any], None]
SPARE = 2
"""Requests whose prompts are made while others run."""
FETCHERS = 4


class Place:
    """Of a request among those that are made ready or run, until ``leave``, which counts once."""

    def __init__(self, free: Callable[[float], None]) -> None:
        self.free, self.begun, self.left = free, time.monotonic(), False

    def leave(self) -> None:
        if not self.left:
            self.left = True
            self.free(time.monotonic() - self.begun)


class Desk:
    """``limits.waiting`` requests may wait, beside those that are made ready or run: these hold pictures and tensors,
    so they are few, whatever was sent."""

    def __init__(self, scheduler: Scheduler, limits: Limits) -> None:
        self.scheduler, self.limits = scheduler, limits
        self.draining = False
        self.waiting, self.inside, self.open = 0, 0, 0
        self._room = asyncio.Semaphore(limits.rows + SPARE)
        self._making = ThreadPoolExecutor(1, "trimtab-make")
        self._fetching = ThreadPoolExecutor(FETCHERS, "trimtab-fetch")
        self._seconds = 1.0

    @property
    def idle(self) -> bool:
        """Nobody waits for anything, be it for the last words of an answer that is whole."""
        return not self.waiting and not self.open

    def close(self) -> None:
        for pool in (self._making, self._fetching):
            pool.shutdown(wait=False, cancel_futures=True)

    @asynccontextmanager
    async def place(self, deadline: Deadline) -> AsyncIterator[Place]:
        """Until it leaves or the block ends. Raises ApiError: 503 where the server stops, 429 where the queue is full,
        the deadline's where it is missed."""
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
        self.inside, self.open = self.inside + 1, self.open + 1
        place = Place(self._freed)
        try:
            yield place
        finally:
            self.open -= 1
            place.leave()

    def _freed(self, seconds: float) -> None:
        self.inside -= 1
        self._room.release()
        self._seconds += 0.1 * (seconds - self._seconds)

    async def made(self, make: Callable[[], V], deadline: Deadline) -> V:
        """``make()`` in a thread, one at a time: pictures are large while they are decoded. Raises the deadline's
        ApiError where it is missed; what has begun then ends for nobody."""
        return await _within(self._making, make, deadline)

    async def brought(self, urls: Sequence[str], fetch: Fetch | None, deadline: Deadline) -> Callable[[], list[bytes]]:
        """What gives the files of these pictures, for whoever makes a prompt of them: it waits for nobody, since remote
        ones are fetched by others and are here before. Raises as it does."""
        bring = partial(brought, urls, self.limits, fetch)
        if not any(map(is_remote, urls)):
            return bring
        files = await _within(self._fetching, bring, deadline)
        return lambda: files

    async def events(
        self,
        make: Callable[[Callable[[Any], None]], Job],
        place: Place,
        deadline: Deadline,
        last: Callable[[Any], bool],
    ) -> AsyncGenerator[Any, None]:
        """What the scheduler says of a job, until whoever asks leaves or the deadline is missed; then so does the job.
        The ``last`` event gives ``place`` back, whenever it is read. Raises the ApiError with which the job ends."""
        queue: asyncio.Queue[Any] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def arrived(event: Any) -> None:
            if place.left:
                return
            queue.put_nowait(event)
            if isinstance(event, ApiError) or last(event):
                place.leave()

        def late() -> None:
            if not place.left:
                job.leave()
                arrived(deadline.missed())

        def put(event: Any) -> None:  # knows no job: in a circle they would hold pictures until they are collected
            with suppress(RuntimeError):  # the loop is closed: the server has ended, and nobody asks any more
                loop.call_soon_threadsafe(arrived, event)

        job = make(put)
        self.scheduler.submit(job)
        timer = loop.call_later(deadline.left, late)
        try:
            while True:
                event = await queue.get()
                if isinstance(event, ApiError):
                    try:
                        raise event
                    finally:
                        del event  # the error holds this frame, which would hold it
                yield event
        finally:
            timer.cancel()
            job.leave()

    def _patience(self) -> int:
        """Seconds until a place may be free, as long as requests take what they took of late."""
        return min(60, max(1, math.ceil(self._seconds * (self.waiting + 1) / self.limits.rows)))


async def _within(pool: Executor, work: Callable[[], V], deadline: Deadline) -> V:
    try:
        async with asyncio.timeout(deadline.left) as limit:
            return await asyncio.get_running_loop().run_in_executor(pool, work)
    except TimeoutError as error:
        if not limit.expired():  # the work's own
            raise
        raise deadline.missed() from error
