"""What is read rather than asked: models, health, metrics, status, a run's report, and the page's files."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse

from trimtab.serve.errors import ApiError
from trimtab.serve.names import Entry

if TYPE_CHECKING:
    from trimtab.serve.app import House

KINDS = {".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8",
         ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml", ".png": "image/png"}  # fmt: skip
REPORT = ("default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
          "form-action 'none'; frame-ancestors 'self'; sandbox allow-scripts")  # fmt: skip
"""Whatever a report says of itself: it has an origin of its own, so it reads nothing of the page's, and asks nobody.
What its own policy allows besides is less: the scripts and styles that Trimtab wrote."""


def files() -> dict[str, bytes]:
    """The page's files by name."""
    folder = resources.files("trimtab.serve").joinpath("page")
    return {one.name: one.read_bytes() for one in folder.iterdir() if Path(one.name).suffix in KINDS}


def add(app: FastAPI, house: House) -> None:
    """The routes of all this."""
    page, entries = files(), house.entries

    @app.get("/")
    async def index() -> Response:
        return _file(page, "index.html")

    @app.get("/page/{name}")
    async def file(name: str) -> Response:
        return _file(page, name)

    @app.get("/healthz")
    async def health() -> Response:
        status = "stopping" if house.desk.draining else "ok" if house.scheduler.alive else "failed"
        return JSONResponse({"status": status}, 200 if status == "ok" else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(house.meters.page(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/v1/models")
    async def models() -> Response:
        return JSONResponse({"object": "list", "data": [_listed(one) for one in entries.values()]})

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> Response:
        return JSONResponse(_listed(house.entry(name))) if name else await models()

    @app.get("/trimtab/models")
    async def ours() -> Response:
        return JSONResponse({"default": next(iter(entries)), "models": [described(one) for one in entries.values()]})

    @app.get("/trimtab/status")
    async def status(request: Request) -> Response:
        return JSONResponse(_status(house))

    @app.get("/trimtab/report/{name:path}")
    async def report(name: str) -> Response:
        found = house.entry(name).report
        if found is None or not found.is_file():
            raise ApiError(404, "this model has no report", code="not_found")
        return FileResponse(found, media_type=KINDS[".html"], headers={"content-security-policy": REPORT})


def _file(page: dict[str, bytes], name: str) -> Response:
    if name not in page:
        raise ApiError(404, "no such file", code="not_found")
    return Response(page[name], media_type=KINDS[Path(name).suffix])


def _listed(entry: Entry) -> dict[str, Any]:
    return {"id": entry.id, "object": "model", "created": entry.created, "owned_by": "trimtab"}


def described(entry: Entry) -> dict[str, Any]:
    """An entry as the page shows it."""
    return {
        "id": entry.id, "kind": entry.kind, "original": entry.original, "sees": entry.sees, "chat": entry.chats,
        "embeds": entry.embeds, "policies": entry.policies, "engine": entry.engine, "bytes": entry.size,
        "context": entry.context, "license": entry.loaded.source.license,
        "report": f"/trimtab/report/{quote(entry.id)}" if entry.report else None,
    }  # fmt: skip


def _status(house: House) -> dict[str, Any]:
    limits, desk, meters = house.settings.limits, house.desk, house.meters
    return {
        "queue": {"waiting": desk.waiting, "running": desk.inside, "room": limits.waiting - desk.waiting},
        "memory": meters.memory(), "seconds": meters.seconds, "requests": meters.counts,
        "limits": {"images": limits.images, "image_pixels": limits.image_pixels, "body": limits.body,
                   "tokens": limits.tokens, "seconds": limits.seconds},
    }  # fmt: skip
