"""What the server takes and answers, as an OpenAPI 3.1 document, made of the very models by which requests are read.

FastAPI cannot write it: bodies are read by ``schema.asked``, so that errors are OpenAI's, and a route's signature says
nothing of them. A test holds the paths to the application's routes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

import trimtab
from trimtab.serve.schema import Asked, Chat, Completion, Embedding

PATH = "/openapi.json"
ASKS: Mapping[str, tuple[type[Asked], str]] = {
    "/v1/chat/completions": (Chat, "An answer in a conversation, pictures included; a stream of chunks where asked."),
    "/v1/completions": (Completion, "How a text goes on."),
    "/v1/embeddings": (Embedding, "Vectors of texts and pictures."),
}
READS: Mapping[str, tuple[str, str]] = {
    "/v1/models": ("application/json", "The models by id."),
    "/v1/models/{name}": ("application/json", "One of them."),
    "/trimtab/models": ("application/json", "The models with their policies, engine and size."),
    "/trimtab/status": ("application/json", "The queue, memory, counts and limits."),
    "/trimtab/report/{name}": ("text/html", "The report of the run that made a model."),
    "/metrics": ("text/plain", "Counts and times for Prometheus."),
    "/healthz": ("application/json", "Whether it answers; 503 while it stops."),
    "/": ("text/html", "The page."),
    "/page/{name}": ("*/*", "The page's files."),
    PATH: ("application/json", "This document."),
}
WRONG = {
    "400": "The request is wrong, too long for the model, or took longer than its max_seconds.",
    "401": "The token is missing or wrong.",
    "403": "Another host's name, or another site's page.", "404": "No such model or page.",
    "413": "The body is too large.", "415": "The body is not said to be JSON.",
    "429": "The queue is full; Retry-After says when to come again.",
    "503": "It stops, or is out of time (--seconds) or memory.",
}  # fmt: skip
OPEN = ("/", "/page/{name}", "/healthz")
"""What needs no token."""


def described() -> dict[str, Any]:
    """The document."""
    kinds: list[tuple[type[BaseModel], Literal["validation"]]] = [(kind, "validation") for kind, _ in ASKS.values()]
    _, schemas = models_json_schema(kinds, ref_template="#/components/schemas/{model}")
    paths = {path: {"post": _post(kind, what)} for path, (kind, what) in ASKS.items()}
    paths |= {path: {"get": _get(path, media, what)} for path, (media, what) in READS.items()}
    word, maybe = {"type": "string"}, {"type": ["string", "null"]}
    members = {"message": word, "type": word, "param": maybe, "code": maybe}
    error = {"type": "object", "properties": members, "required": list(members)}
    inside = {"Error": {"type": "object", "properties": {"error": error}, "required": ["error"]}}
    return {
        "openapi": "3.1.0", "info": {"title": "Trimtab", "version": trimtab.__version__}, "paths": paths,
        "components": {"schemas": schemas["$defs"] | inside,
                       "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{"token": []}],
    }  # fmt: skip


def _post(kind: type[Asked], what: str) -> dict[str, Any]:
    body = {"application/json": {"schema": {"$ref": f"#/components/schemas/{kind.__name__}"}}}
    found: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if kind is not Embedding:
        found["text/event-stream"] = {"schema": {"type": "string"}}
    return {"summary": what, "requestBody": {"required": True, "content": body},
            "responses": {"200": {"description": what, "content": found}} | _wrong(WRONG)}  # fmt: skip


def _get(path: str, media: str, what: str) -> dict[str, Any]:
    said = {"200": {"description": what, "content": {media: {}}}}
    named = path.endswith("{name}")
    statuses = [*([] if path in OPEN else ["401"]), "403", *(["404"] if named else [])]
    statuses += ["503"] if path == "/healthz" else []
    found = {"summary": what, "responses": said | _wrong({status: WRONG[status] for status in statuses})}
    if named:
        found["parameters"] = [{"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}]
    return found | ({"security": []} if path in OPEN else {})


def _wrong(statuses: Mapping[str, str]) -> dict[str, Any]:
    told = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {status: {"description": why, "content": told} for status, why in statuses.items()}


def add(app: FastAPI) -> None:
    """Its route."""
    document = described()

    @app.get(PATH)
    async def openapi() -> Response:
        return JSONResponse(document)
