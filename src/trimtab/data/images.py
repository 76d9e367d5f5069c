"""Pictures from outside: bounded, whole, upright, RGB; anything else is refused before it is decoded."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from trimtab.core.errors import BadInput, Refused

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
MAX_PIXELS = 64_000_000
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)  # what Pillow raises


def open_image(source: str | Path | bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The picture in a file (or in ``bytes``), decoded, turned as its EXIF says, RGB, without its metadata.

    The size is read from the header, so a decompression bomb is refused before it is decoded. Raises Refused for more
    than ``max_pixels`` pixels; BadInput for a file that is missing, is no picture, is cut off or damaged, or holds 16
    bits or floats per channel, whose window is the user's to choose. The messages hold no file name: callers add the
    row. The first frame is taken of an animation or of several pages.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            stream = io.BytesIO(source if isinstance(source, bytes) else Path(source).read_bytes())
            with Image.open(stream, formats=FORMATS) as image:
                _check(image, max_pixels)
                image.load()
                upright = ImageOps.exif_transpose(image).convert("RGB")
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise Refused(f"image: it decompresses to something huge; accepted: up to {max_pixels} pixels") from error
        except FileNotFoundError as error:
            raise BadInput("image: no such file") from error
        except UnidentifiedImageError as error:
            raise BadInput(f"image: not a picture that can be read; accepted: {', '.join(FORMATS)}") from error
        except DAMAGED as error:
            raise BadInput("image: the file is cut off or damaged, or cannot be read") from error
    upright.info = {}
    return upright


def _check(image: Image.Image, max_pixels: int) -> None:
    wide, high = image.size
    if wide * high > max_pixels:
        raise Refused(f"image: {wide} x {high} is huge; accepted: up to {max_pixels} pixels")
    if image.mode[0] in "IF":
        raise BadInput(
            f"image: got {image.mode!r} (16 bits or floats per channel); accepted: 8 bits. "
            "Convert it with the window that shows what matters, e.g. pixel -> 255 * (pixel - low) / (high - low)"
        )
