"""The OpenAPI document says what the application does: its routes, and the models by which bodies are read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from serving import Served

from trimtab.serve.app import made
from trimtab.serve.openapi import ASKS, OPEN, PATH, READS, described
from trimtab.serve.schema import Chat, Completion, Embedding


def refs(value: Any) -> set[str]:
    """Every $ref in it."""
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(refs(one) for one in value.values()))
    return set().union(*(refs(one) for one in value)) if isinstance(value, list) else set()


def test_every_reference_leads_somewhere() -> None:
    document = described()
    found = refs(document)
    assert len(found) > 5
    assert {one.removeprefix("#/components/schemas/") for one in found} <= set(document["components"]["schemas"])
    assert json.loads(json.dumps(document, allow_nan=False)) == document


@pytest.mark.parametrize(
    ("path", "kind"), [("chat/completions", Chat), ("completions", Completion), ("embeddings", Embedding)]
)
def test_bodies_are_the_models_by_which_they_are_read(path: str, kind: Any) -> None:
    document = described()
    body = document["paths"][f"/v1/{path}"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    stored = document["components"]["schemas"][body["$ref"].rpartition("/")[2]]
    assert stored["properties"] == kind.model_json_schema(ref_template="#/components/schemas/{model}")["properties"]
    assert stored["additionalProperties"] == {"type": "null"}, "unknown members are refused, but for nulls"


def test_only_what_holds_nothing_of_the_user_needs_no_token() -> None:
    paths = described()["paths"]
    assert set(paths) == {*ASKS, *READS}
    bare = {path for path, verbs in paths.items() for one in verbs.values() if one.get("security") == []}
    assert bare == set(OPEN)
    assert "401" in paths[PATH]["get"]["responses"]


def test_its_paths_are_the_applications_routes(tiny_server: Served) -> None:
    app = made(tiny_server.house).app.app.app
    routes = {(one.path.replace(":path}", "}"), verb.lower()) for one in app.routes for verb in one.methods - {"HEAD"}}
    assert {(path, verb) for path, verbs in described()["paths"].items() for verb in verbs} == routes


def test_it_is_served(tiny_server: Served) -> None:
    assert tiny_server.client.get(PATH).json() == described()
