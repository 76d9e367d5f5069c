"""When a request is given up."""

from __future__ import annotations

import time
from dataclasses import dataclass

from trimtab.serve.errors import ApiError

MISSED = "deadline_exceeded"


@dataclass(frozen=True)
class Deadline:
    """``end`` by ``time.monotonic``; ``own``: the request set it (``max_seconds``), not the server."""

    end: float
    own: bool = False

    @classmethod
    def of(cls, arrived: float, limit: float, asked: float | None = None) -> Deadline:
        """The earlier of the server's ``limit`` and what was ``asked`` for, seconds after arrival."""
        return cls(arrived + limit) if asked is None or asked >= limit else cls(arrived + asked, own=True)

    @property
    def left(self) -> float:
        """Seconds, at least 0."""
        return max(0.0, self.end - time.monotonic())

    def missed(self, retry: int = 1) -> ApiError:
        """503 where the server would not work longer, 400 where the client did not want to wait longer: not 408, on
        which browsers and OpenAI's client ask again by themselves."""
        if self.own:
            return ApiError(400, "the request took longer than its max_seconds allows", "max_seconds", MISSED)
        return ApiError(503, "the request took longer than the server's limit allows", code=MISSED, retry=retry)
