"""What one request, and all of them together, may take."""

from __future__ import annotations

from dataclasses import dataclass, fields

from trimtab.core.errors import BadInput


@dataclass(frozen=True)
class Limits:
    """``body``: bytes of a request. ``images`` of one, each of at most ``image_pixels``. ``tokens`` of a prompt, and of
    an answer. ``prompts``: sequences of one request, its prompts times n. ``seconds`` from its arrival to its end.
    ``waiting``: requests that are not begun; ``rows``: sequences that are decoded side by side."""

    body: int = 32 << 20
    images: int = 8
    image_pixels: int = 16_000_000
    tokens: int = 4096
    prompts: int = 64
    seconds: float = 300.0
    waiting: int = 64
    rows: int = 8

    def check(self) -> None:
        """Raises BadInput, naming it, for one that is not above 0."""
        for one in fields(self):
            if not getattr(self, one.name) > 0:
                raise BadInput(f"{one.name}: got {getattr(self, one.name)}; accepted: more than 0")
