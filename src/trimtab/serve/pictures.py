"""Pictures in requests: data URLs in base64, decoded within bounds; others by ``remote`` where allowed.

Of data URLs neither the case of ``data:image/TYPE`` nor white space in the base64 matters, and parameters are read over
(WHATWG, Fetch, section 6); unlike there, padding has to be whole and percent signs mean nothing.
"""

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

DATA = re.compile(
    r"data:image/[a-z0-9.+-]{1,32}(?:;[a-z0-9-]{1,32}=[^;,]{0,64}){0,4};base64,", re.ASCII | re.IGNORECASE
)
SPACE = b" \t\n\f\r"
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""What is decoded for anyone who asks: fewer than of a data set, since every decoder is a door."""
LONGEST = 50
"""Of a picture's sides the longer by the shorter: processors that scale the shorter side would make something huge."""

Fetch = Callable[[str], bytes]


def is_remote(url: str) -> bool:
    return url[:5].lower() != "data:"


def brought(urls: Sequence[str], limits: Limits, fetch: Fetch | None = None) -> list[bytes]:
    """The pictures' files, which may wait for other servers: together at most ``limits.body`` bytes. ``fetch``: what
    gets a remote one, None where none are allowed. Raises ApiError 400, naming the picture by its number, for one that
    is none, is cut off, or stands elsewhere."""
    if len(urls) > limits.images:
        raise bad(f"images: got {len(urls)}; accepted: at most {limits.images}", code="too_many_images")
    found = list[bytes]()
    for number, url in enumerate(urls):
        found.append(_fetched(number, url, fetch) if is_remote(url) else _coded(number, url))
        if sum(map(len, found)) > limits.body:
            raise bad(f"image {number}: with it more than {limits.body} bytes; accepted: at most that for all",
                      "image_url", "remote_image")  # fmt: skip
    return found


def decoded(files: Sequence[bytes], limits: Limits) -> list[Image.Image]:
    """The pictures in files. Raises ApiError 400, naming the picture by its number, for one that is damaged or huge."""
    return [_decoded(number, data, limits) for number, data in enumerate(files)]


def _decoded(number: int, data: bytes, limits: Limits) -> Image.Image:
    try:
        image = open_image(data, limits.image_pixels, FORMATS)
    except BadInput as error:
        raise bad(f"image {number}: {str(error).removeprefix('image: ')}", "image_url", "invalid_image") from error
    if max(image.size) > LONGEST * min(image.size):
        raise bad(f"image {number}: {image.width} x {image.height}; accepted: sides of at most 1 to {LONGEST}",
                  "image_url", "invalid_image")  # fmt: skip
    return image


def _coded(number: int, url: str) -> bytes:
    head = DATA.match(url)
    if head is None:
        raise bad(f"image {number}: accepted: data:image/TYPE;base64,...", "image_url", "invalid_image")
    try:
        return base64.b64decode(url[head.end() :].encode("ascii").translate(None, SPACE), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise bad(f"image {number}: its base64 is damaged", "image_url", "invalid_image") from error


def _fetched(number: int, url: str, fetch: Fetch | None) -> bytes:
    if fetch is None:
        raise bad(f"image {number}: accepted: a data URL (this server fetches nothing; --allow-remote-images lets it)",
                  "image_url", "remote_image")  # fmt: skip
    return fetch(url)
