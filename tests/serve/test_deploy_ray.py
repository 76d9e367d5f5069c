"""The config file of Ray Serve: what stands in it, where from. Ray itself reads it in ``make check-deploy``."""

from __future__ import annotations

import asyncio
import json
from importlib import import_module
from pathlib import Path
from typing import Any

import deploying
import httpx2
import pytest
import yaml
from typer.testing import CliRunner

from trimtab.cli.deploy import deploy
from trimtab.core.errors import BadInput
from trimtab.serve.deploy.rayapp import application
from trimtab.serve.deploy.rayconfig import BUILDER, NAME, Wanted, config, dumped, notes
from trimtab.serve.heap import SHAPES


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return deploying.artifact(tmp_path / "it's: an artifact")


def test_a_replica_has_the_artifacts_threads_and_as_many_requests_as_its_queue(artifact: Path) -> None:
    made = config(artifact, Wanted(port=8123, replicas=3, waiting=12, rows=5))
    (application,) = made["applications"]
    (deployment,) = application["deployments"]
    assert application["import_path"] == BUILDER
    assert application["args"] == {"artifact": str(artifact), "host": "127.0.0.1", "waiting": 12, "rows": 5,
                                   "remember": 256 << 20}  # fmt: skip
    assert (deployment["num_replicas"], deployment["max_ongoing_requests"]) == (3, 17)
    assert deployment["max_queued_requests"] == 17
    actor = deployment["ray_actor_options"]
    assert actor["num_cpus"] == 3
    assert actor["runtime_env"]["env_vars"] == SHAPES | {"OMP_NUM_THREADS": "3"}
    assert made["http_options"] == {"host": "127.0.0.1", "port": 8123}


def test_the_users_resources_are_taken(artifact: Path) -> None:
    actor = config(artifact, Wanted(cpus=5))["applications"][0]["deployments"][0]["ray_actor_options"]
    assert (actor["num_cpus"], actor["num_gpus"]) == (5, 0)  # the server computes on CPUs
    assert actor["runtime_env"]["env_vars"] == SHAPES | {"OMP_NUM_THREADS": "5"}


@pytest.mark.parametrize(
    ("host", "proxies"), [("127.0.0.1", "HeadOnly"), ("127.0.0.2", "HeadOnly"), ("0.0.0.0", "EveryNode")]
)
def test_who_listens_on_loopback_needs_no_proxy_elsewhere(artifact: Path, host: str, proxies: str) -> None:
    assert config(artifact, Wanted(host=host))["proxy_location"] == proxies
    assert any("TRIMTAB" in line for line in notes(Wanted(host=host))) == (host == "0.0.0.0")


def test_the_file_reads_as_what_was_meant(artifact: Path) -> None:
    made = config(artifact, Wanted())
    assert yaml.safe_load(dumped(made, Wanted())) == made


def test_the_builder_is_where_the_file_says_and_ray_is_not_needed_to_find_it() -> None:
    module, _, name = BUILDER.partition(":")
    assert callable(getattr(import_module(module), name))
    assert NAME.isidentifier()


def test_a_replica_that_others_can_reach_does_not_start_without_a_token(artifact: Path) -> None:
    given = config(artifact, Wanted(host="0.0.0.0"))["applications"][0]["args"]
    with pytest.raises(BadInput, match="others can reach it"):
        application(given, None)


def test_a_replica_is_the_server_of_trimtab_serve(run_folder: Path) -> None:
    given = config(run_folder / "artifact", Wanted())["applications"][0]["args"]

    async def ask(path: str, host: str) -> tuple[int, dict[str, Any]]:
        transport = httpx2.ASGITransport(app=application(given, "a-token-of-many-letters"))
        async with httpx2.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
            answer = await client.get(path, headers={"Authorization": "Bearer a-token-of-many-letters"})
            bare = await client.get(path)
        assert bare.status_code == (403 if host != "127.0.0.1" else 401)
        return answer.status_code, answer.json()

    status, said = asyncio.run(ask("/trimtab/models", "127.0.0.1"))
    assert (status, said["models"][0]["policies"]["tokens"]) == (200, "divprune keep 0.5")
    assert asyncio.run(ask("/trimtab/models", "elsewhere.example"))[0] == 403


def test_what_is_no_artifact_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not an artifact"):
        config(tmp_path, Wanted())


def test_the_command_line_writes_a_new_file(artifact: Path, tmp_path: Path) -> None:
    out = tmp_path / "serve.yaml"
    done = CliRunner().invoke(deploy, ["ray", str(artifact), "--out", str(out), "--replicas", "4", "--json"])
    assert done.exit_code == 0, done.output
    made = yaml.safe_load(out.read_text())
    assert made["applications"][0]["deployments"][0]["num_replicas"] == 4
    assert json.loads(done.stdout.splitlines()[-1])["config"] == made
    nowhere = CliRunner().invoke(deploy, ["ray", str(artifact), "--out", str(tmp_path / "no" / "serve.yaml")])
    assert isinstance(nowhere.exception, BadInput)
    assert "is not a folder" in str(nowhere.exception)
