"""Errors as OpenAI's clients expect them: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

from typing import Any

import torch

from trimtab.core.errors import BadInput

TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error",
         500: "server_error", 503: "server_error"}  # fmt: skip
"""By status; what a client did wrong in any other way is an ``invalid_request_error``."""


class ApiError(Exception):
    """``status`` of the answer; ``param``: the member that was wrong; ``retry``: seconds after which it may go well."""

    def __init__(
        self, status: int, message: str, param: str | None = None, code: str | None = None, retry: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.retry = status, message, param, code, retry

    @property
    def body(self) -> dict[str, Any]:
        kind = TYPES.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        found = {} if self.retry is None else {"Retry-After": str(self.retry)}
        return found | ({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})


def bad(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """What the client has to change."""
    return ApiError(400, message, param, code)


def of(error: BaseException) -> ApiError:
    """What is said of ``error`` to a client: our own words for what it can change, and no detail of anything else."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, BadInput):
        return bad(str(error))
    if _of_memory(error):
        return ApiError(503, "no memory is left for this request", code="memory", retry=5)
    return ApiError(500, f"internal error ({type(error).__name__})", code="internal")


def _of_memory(error: BaseException) -> bool:
    """Also as torch says it, in words alone on a CPU."""
    said = isinstance(error, RuntimeError) and "allocate memory" in str(error)
    return said or isinstance(error, MemoryError | torch.OutOfMemoryError)
