"""A file of ``trimtab deploy ray``, read by Ray's own schema, for ``make check-deploy``, in an environment of its own:
``python FILE SERVE.yaml``. Ray passes over keys that it does not know, so here each has to be one of the schema's. The
last line is one JSON object.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from ray.serve.schema import ServeDeploySchema

FREE = ("args", "env_vars")
"""Whose keys are ours."""


def unknown(given: Any, read: Any, path: str = "") -> list[str]:
    """Keys of ``given`` that the model made of it does not have."""
    if isinstance(given, list):
        return [name for one, made in zip(given, read, strict=True) for name in unknown(one, made, path)]
    if not isinstance(given, dict) or not isinstance(read, BaseModel):
        return []
    fields = type(read).model_fields
    found = [f"{path}{key}" for key in given if key not in fields]
    for key in given.keys() & fields.keys() - set(FREE):
        found += unknown(given[key], getattr(read, key), f"{path}{key}.")
    return found


def main() -> None:
    given = yaml.safe_load(Path(sys.argv[1]).read_text(encoding="utf-8"))
    read = ServeDeploySchema.model_validate(given)
    over = unknown(given, read)
    if over:
        raise SystemExit(f"Ray knows no {', '.join(over)}")
    (application,) = read.applications
    (deployment,) = application.deployments
    print(json.dumps({
        "application": application.name, "import_path": application.import_path, "replicas": deployment.num_replicas,
        "at once": deployment.max_ongoing_requests, "waiting": deployment.max_queued_requests,
        "actor": str(deployment.ray_actor_options), "host": read.http_options.host, "port": read.http_options.port,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
