"""``trimtab deploy ray``: a config file of Ray Serve whose replicas are Trimtab's own server.

Ray places the replicas, gives each its cores, and shares requests among them; what answers is the server of
``trimtab serve``, so token and cache policies are followed and limits hold as on one machine. A replica is given as
many requests at once as its server lets wait and run, and the proxies hold as many again; what comes on top is told to
come later (429). ``make check-deploy`` has the file read by Ray's own schema, and by a Ray of one node.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from trimtab.load.manifest import Manifest, read_manifest
from trimtab.serve.heap import SHAPES
from trimtab.serve.limits import Limits
from trimtab.serve.reach import is_loopback

BUILDER = "trimtab.serve.deploy.rayapp:build"
NAME = "Trimtab"
REMEMBER = 256 << 20
"""Bytes for what was seen and read, as ``trimtab serve`` has it."""


@dataclass(frozen=True)
class Wanted:
    """What the user asks for. ``cpus``: of a replica; None: the threads that the artifact was measured with.
    ``waiting``: requests that one server lets wait; ``rows``: sequences that it decodes side by side."""

    host: str = "127.0.0.1"
    port: int = 8000
    replicas: int = 2
    cpus: int | None = None
    waiting: int = Limits.waiting
    rows: int = Limits.rows

    @property
    def at_once(self) -> int:
        """Requests of one replica."""
        return self.waiting + self.rows


def config(artifact: Path, wanted: Wanted) -> dict[str, Any]:
    """The file as data. Raises BadInput where ``artifact`` is none."""
    said = read_manifest(artifact)
    return {
        "proxy_location": "HeadOnly" if is_loopback(wanted.host) else "EveryNode",
        "http_options": {"host": wanted.host, "port": wanted.port},
        "logging_config": {"enable_access_log": False},
        "applications": [{
            "name": "trimtab", "route_prefix": "/", "import_path": BUILDER,
            "args": {"artifact": str(artifact.resolve()), "host": wanted.host, "waiting": wanted.waiting,
                     "rows": wanted.rows, "remember": REMEMBER},
            "deployments": [_deployment(said, wanted)],
        }],
    }  # fmt: skip


def _deployment(said: Manifest, wanted: Wanted) -> dict[str, Any]:
    cpus = wanted.cpus or said.threads
    return {
        "name": NAME,
        "num_replicas": wanted.replicas,
        "max_ongoing_requests": wanted.at_once,
        "max_queued_requests": wanted.at_once,
        "backpressure_config": {"status_code": 429, "retry_after_s": 1.0},
        "graceful_shutdown_timeout_s": 60.0,
        # said here, or Ray sets them by rules of its own: answers are those that were measured with as many threads
        "ray_actor_options": {"num_cpus": float(cpus), "num_gpus": 0.0,
                              "runtime_env": {"env_vars": SHAPES | {"OMP_NUM_THREADS": str(cpus)}}},
    }  # fmt: skip


def notes(wanted: Wanted) -> tuple[str, ...]:
    """What a person should know before starting it."""
    said = [
        "every node needs Trimtab, Ray (pip install 'ray[serve]') and the artifact at the same path",
        "start: RAY_USAGE_STATS_ENABLED=0 serve run FILE (one machine), or serve deploy FILE (a cluster)",
        "whoever reaches Ray's own ports can run code on every node: keep them inside (Ray's security page)",
    ]
    if not is_loopback(wanted.host):
        said.append("others can reach the port: put TRIMTAB_TOKEN into the environment of every node")
    return tuple(said)


def dumped(made: dict[str, Any], wanted: Wanted) -> str:
    """As YAML, with the notes above."""
    head = ["# Written by trimtab deploy ray.", *(f"# - {line}" for line in notes(wanted))]
    return "\n".join([*head, yaml.safe_dump(made, sort_keys=False)])
