"""Pictures from outside: bounded, whole, upright, RGB; anything else is refused before it is decoded."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from trimtab.core.errors import BadInput, Refused

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
MAX_PIXELS = 64_000_000
DAMAGED = "image: the file is cut off or damaged, or cannot be read"


def open_image(
    source: str | Path | bytes, max_pixels: int = MAX_PIXELS, formats: Sequence[str] = FORMATS
) -> Image.Image:
    """The picture in a file (or in ``bytes``), decoded, turned as its EXIF says, RGB, without its metadata.

    The size is read from the header, so a decompression bomb is refused before it is decoded. Raises Refused for more
    than ``max_pixels`` pixels; BadInput for a file that is missing, is no picture in one of ``formats`` (Pillow's
    names), is cut off or damaged, or holds 16 bits or floats per channel, whose window is the user's to choose. The
    messages hold no file name: callers add the row. The first frame is taken of an animation or of several pages.
    """
    stream = io.BytesIO(source if isinstance(source, bytes) else _read(source))
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(stream, formats=list(formats)) as image:
                _check(image, max_pixels)
                image.load()
                upright = ImageOps.exif_transpose(image).convert("RGB")
        except (MemoryError, BadInput):
            raise
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise Refused(f"image: it decompresses to something huge; accepted: up to {max_pixels} pixels") from error
        except UnidentifiedImageError as error:
            raise BadInput(f"image: not a picture that can be read; accepted: {', '.join(formats)}") from error
        except Exception as error:  # decoders raise nearly anything for a damaged file, TypeError and OverflowError too
            raise BadInput(DAMAGED) from error
    upright.info = {}
    return upright


def _read(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise BadInput("image: no such file") from error
    except (OSError, ValueError) as error:
        raise BadInput(DAMAGED) from error


def _check(image: Image.Image, max_pixels: int) -> None:
    wide, high = image.size
    if wide * high > max_pixels:
        raise Refused(f"image: {wide} x {high} is huge; accepted: up to {max_pixels} pixels")
    if image.mode[0] in "IF":
        raise BadInput(
            f"image: got {image.mode!r} (16 bits or floats per channel); accepted: 8 bits. "
            "Convert it with the window that shows what matters, e.g. pixel -> 255 * (pixel - low) / (high - low)"
        )
