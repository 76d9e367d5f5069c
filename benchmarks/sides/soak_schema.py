"""Requests that schemathesis makes from a server's OpenAPI description, for ``make soak``, in an environment of its
own: ``python FILE JOB.json``.

The job names ``url``, ``token``, ``model``, ``examples``, ``seconds`` and ``seed``. Half of the requests are as the
description says, half are not; of those that name a model, every second names the one that is served, or none would get
past that. Found: how many were sent, by operation and status; those that got a 5xx; those that never got an answer. The
last line is one JSON object.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from time import monotonic
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings

PASS = 500
"""Examples drawn by one search of Hypothesis, which gets slower the longer it is."""
PATIENCE = 60


class Over(Exception):
    """Enough was sent, or the time is up."""


class Sender:
    """Sends cases and counts."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.job, self.session, self.until = job, requests.Session(), monotonic() + job["seconds"]
        self.sent, self.counts = 0, Counter[str]()
        self.waited = 0.0
        self.failed: list[str] = []
        self.lost: list[str] = []
        self.session.headers["Authorization"] = f"Bearer {job['token']}"

    def send(self, case: Any) -> None:
        """Raises Over behind the last one."""
        if self.sent >= self.job["examples"] or monotonic() > self.until:
            raise Over
        if isinstance(case.body, dict) and "model" in case.body and self.sent % 2:
            case.body["model"] = self.job["model"]
        self.sent += 1
        name = f"{case.method} {case.operation.path}"
        try:
            answer = case.call(base_url=self.job["url"], session=self.session, timeout=PATIENCE,
                               headers={"Authorization": f"Bearer {self.job['token']}"})  # fmt: skip
        except requests.Timeout:
            self.lost.append(name)
            return
        except (requests.RequestException, ValueError) as error:  # what cannot be sent, or was hung up on
            self.counts[f"{name} {type(error).__name__}"] += 1
            return
        self.waited += answer.elapsed
        self.counts[f"{name} {answer.status_code}"] += 1
        if answer.status_code >= 500:
            self.failed.append(f"{name} {answer.status_code} {case.body!r:.600}")


def search(schema: Any, sender: Sender, number: int) -> None:
    """One pass: as described, or not."""
    modes = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)

    @seed(sender.job["seed"] + number)
    @settings(max_examples=PASS, database=None, deadline=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(case=schema.as_strategy(generation_mode=modes[number % 2]))
    def sending(case: Any) -> None:
        sender.send(case)

    sending()


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    head = {"Authorization": f"Bearer {job['token']}"}
    described = requests.get(f"{job['url']}/openapi.json", headers=head, timeout=PATIENCE)
    described.raise_for_status()
    schema, sender = schemathesis.openapi.from_dict(described.json()), Sender(job)
    before = monotonic()
    number, empty = 0, 0
    try:
        while empty < 4:  # passes that send nothing: nothing more can be drawn
            sent = sender.sent
            search(schema, sender, number)
            number, empty = number + 1, empty + 1 if sender.sent == sent else 0
    except Over:
        pass
    print(json.dumps({
        "sent": sender.sent, "counts": dict(sorted(sender.counts.items())),
        "failed": sender.failed, "lost": sender.lost, "seconds": monotonic() - before, "waited": sender.waited,
        "operations": sorted(described.json()["paths"]),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
