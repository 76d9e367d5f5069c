"""Pictures in requests: data URLs in strict base64, decoded within bounds; others by ``remote`` where allowed."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence

from PIL import Image

from trimtab.core.errors import BadInput
from trimtab.data.images import open_image
from trimtab.serve.errors import bad
from trimtab.serve.limits import Limits

DATA = re.compile(r"data:image/[a-z0-9.+-]{1,32};base64,", re.ASCII)
LONGEST = 50
"""Of a picture's sides the longer by the shorter: processors that scale the shorter side would make something huge."""

Fetch = Callable[[str], bytes]


def is_remote(url: str) -> bool:
    return url[:5].lower() != "data:"


def opened(urls: Sequence[str], limits: Limits, fetch: Fetch | None = None) -> list[Image.Image]:
    """The pictures of a request. ``fetch``: what gets a remote one, None where none are allowed. Raises ApiError 400,
    naming the picture by its number, for one that is none, is cut off, damaged or huge, or stands elsewhere."""
    if len(urls) > limits.images:
        raise bad(f"images: got {len(urls)}; accepted: at most {limits.images}", code="too_many_images")
    return [_opened(number, url, limits, fetch) for number, url in enumerate(urls)]


def _opened(number: int, url: str, limits: Limits, fetch: Fetch | None) -> Image.Image:
    data = _fetched(number, url, fetch) if is_remote(url) else _decoded(number, url)
    try:
        image = open_image(data, limits.image_pixels)
    except BadInput as error:
        raise bad(f"image {number}: {str(error).removeprefix('image: ')}", "image_url", "invalid_image") from error
    if max(image.size) > LONGEST * min(image.size):
        raise bad(f"image {number}: {image.width} x {image.height}; accepted: sides of at most 1 to {LONGEST}",
                  "image_url", "invalid_image")  # fmt: skip
    return image


def _decoded(number: int, url: str) -> bytes:
    head = DATA.match(url)
    if head is None:
        raise bad(f"image {number}: accepted: data:image/TYPE;base64,...", "image_url", "invalid_image")
    try:
        return base64.b64decode(url[head.end() :].encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise bad(f"image {number}: its base64 is damaged", "image_url", "invalid_image") from error


def _fetched(number: int, url: str, fetch: Fetch | None) -> bytes:
    if fetch is None:
        raise bad(f"image {number}: accepted: a data URL (this server fetches nothing; --allow-remote-images lets it)",
                  "image_url", "remote_image")  # fmt: skip
    return fetch(url)
