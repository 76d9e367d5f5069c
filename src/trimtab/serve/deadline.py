"""When a request is given up."""

from __future__ import annotations

import time
from dataclasses import dataclass

from trimtab.serve.errors import ApiError


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
        """408 where the client did not want to wait longer, 503 where the server would not work longer."""
        whose = "its own max_seconds" if self.own else "the server's limit"
        return ApiError(408 if self.own else 503, f"the request took longer than {whose} allows",
                        code="deadline_exceeded", retry=retry)  # fmt: skip
