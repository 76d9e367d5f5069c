"""What the server counts, for Prometheus: requests by their end, words, times, the queue, memory; no content."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from trimtab.measure.memory import available, resident

Outcome = Literal["answered", "refused", "cancelled", "failed"]
OUTCOMES: tuple[Outcome, ...] = ("answered", "refused", "cancelled", "failed")
FIRST = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
EACH = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)


class Meters:
    """``waiting`` and ``running``: how many there are now."""

    def __init__(self, waiting: Callable[[], int], running: Callable[[], int]) -> None:
        self.begun = time.monotonic()
        self.registry = CollectorRegistry()
        self.requests = Counter("trimtab_requests", "Requests by endpoint and how they ended.", ["endpoint", "outcome"],
                                registry=self.registry)  # fmt: skip
        self.tokens = Counter("trimtab_tokens", "Tokens read and said.", ["model", "kind"], registry=self.registry)
        self.first = Histogram("trimtab_seconds_to_first_token", "From a request's arrival to its first token.",
                               ["model"], buckets=FIRST, registry=self.registry)  # fmt: skip
        self.each = Histogram("trimtab_seconds_per_token", "Between the first and the last token, for each.", ["model"],
                              buckets=EACH, registry=self.registry)  # fmt: skip
        gauges: dict[str, tuple[str, Callable[[], float]]] = {
            "trimtab_waiting": ("Requests that are not begun.", waiting),
            "trimtab_running": ("Sequences that are decoded.", running),
            "trimtab_resident_bytes": ("Memory of this process.", resident),
        }
        for name, (what, read) in gauges.items():
            Gauge(name, what, registry=self.registry).set_function(read)
        self.counts = dict.fromkeys(OUTCOMES, 0)

    def ended(self, endpoint: str, outcome: Outcome) -> None:
        self.counts[outcome] += 1
        self.requests.labels(endpoint, outcome).inc()

    def said(self, model: str, read: int, words: int, first: float | None, each: float | None) -> None:
        """Of a request that was answered: tokens, seconds to the first, and for each later one."""
        self.tokens.labels(model, "read").inc(read)
        self.tokens.labels(model, "said").inc(words)
        if first is not None:
            self.first.labels(model).observe(first)
        if each is not None:
            self.each.labels(model).observe(each)

    def page(self) -> bytes:
        """In Prometheus' text form."""
        return generate_latest(self.registry)

    def memory(self) -> dict[str, int]:
        return {"resident": resident(), "available": available()}

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.begun


def outcome_of(status: int) -> Outcome:
    return "answered" if status < 400 else "refused" if status < 500 or status == 503 else "failed"
