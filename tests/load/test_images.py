"""Pictures from outside are decoded whole and upright, or refused with a reason."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile

from trimtab.core.errors import BadInput, Refused
from trimtab.data.images import open_image


def picture(wide: int = 7, high: int = 5) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (high, wide, 3), dtype=np.uint8)


def encode(array: np.ndarray, form: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, form, **options)
    return stream.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_pixels_are_those_of_the_file(tmp_path: Path) -> None:
    pixels = picture()
    (tmp_path / "a.png").write_bytes(encode(pixels))
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), encode(pixels)):
        image = open_image(source)
        assert image.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(image), pixels)


@pytest.mark.parametrize(("orientation", "turned"), [(1, lambda a: a), (3, lambda a: a[::-1, ::-1]),
                                                     (6, lambda a: np.rot90(a, -1)), (8, np.rot90)])  # fmt: skip
def test_orientation_is_applied_and_metadata_dropped(orientation: int, turned: object) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = "a patient's name"
    image = open_image(encode(picture(), exif=exif))
    np.testing.assert_array_equal(np.asarray(image), turned(picture()))
    assert not image.info
    assert not dict(image.getexif())


def test_gray_palette_and_alpha_become_rgb() -> None:
    gray = picture()[..., 0]
    np.testing.assert_array_equal(np.asarray(open_image(encode(gray)))[..., 2], gray)
    stream = io.BytesIO()
    Image.fromarray(picture()).convert("RGBA").save(stream, "PNG")
    np.testing.assert_array_equal(np.asarray(open_image(stream.getvalue())), picture())


def test_a_bomb_is_refused_by_its_header() -> None:
    for wide, high in ((40_000, 40_000), (9_000, 9_000), (100_000, 100_000)):
        head = chunk(b"IHDR", struct.pack(">IIBBBBB", wide, high, 8, 2, 0, 0, 0))
        with pytest.raises(Refused, match="huge"):
            open_image(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    with pytest.raises(Refused, match="7 x 5 is huge; accepted: up to 34"):
        open_image(encode(picture()), max_pixels=34)
    assert open_image(encode(picture()), max_pixels=35).size == (7, 5)


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    for data in (b"", b"hello", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"MZ" + bytes(100)):
        with pytest.raises(BadInput, match="not a picture"):
            open_image(data)
    with pytest.raises(BadInput, match="no such file"):
        open_image(tmp_path / "secret-name.png")
    with pytest.raises(BadInput, match="cannot be read"):
        open_image(tmp_path)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "TIFF"])
def test_a_cut_picture_is_refused(form: str) -> None:
    data = encode(picture(64, 64), form)
    assert open_image(data).size == (64, 64)
    with pytest.raises(BadInput, match="image: "):
        open_image(data[: len(data) // 2])


def test_sixteen_bits_are_refused_and_errors_name_no_file(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.fromarray(picture()[..., 0].astype(np.uint16) * 257).save(stream, "PNG")
    (tmp_path / "jane-doe.png").write_bytes(stream.getvalue())
    with pytest.raises(BadInput, match="accepted: 8 bits") as caught:
        open_image(tmp_path / "jane-doe.png")
    assert "jane" not in str(caught.value)


def tiff(strip: bytes) -> bytes:
    """2 x 2 grey pixels as a TIFF, with ``strip`` as the entry that says where they stand."""
    short = {256: 2, 257: 2, 258: 8, 259: 1, 262: 1, 273: 0, 277: 1, 278: 2, 279: 4}
    rows = [strip if tag == 273 else struct.pack("<HHII", tag, 3, 1, value) for tag, value in short.items()]
    directory = struct.pack("<H", len(rows)) + b"".join(rows) + bytes(4)
    return b"II*\0" + struct.pack("<I", 12) + b"\0\x55\xaa\xff" + directory + b"\xff" * 8


STRIPS = {
    "a word": struct.pack("<HHI4s", 273, 2, 1, b"8"), "infinite": struct.pack("<HHIf", 273, 11, 1, float("inf")),
    "beyond 2^63": struct.pack("<HHII", 273, 16, 1, len(tiff(bytes(12))) - 8),
    "below 0": struct.pack("<HHIi", 273, 9, 1, -1),
}  # fmt: skip


@pytest.mark.parametrize("name", STRIPS)
def test_a_tiff_that_is_damaged_is_refused(name: str) -> None:
    whole = open_image(tiff(struct.pack("<HHII", 273, 3, 1, 8)))
    np.testing.assert_array_equal(np.asarray(whole)[..., 0], [[0, 0x55], [0xAA, 0xFF]])
    with pytest.raises(BadInput, match="cut off or damaged"):
        open_image(tiff(STRIPS[name]))


def test_whatever_a_decoder_raises_but_want_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def raising(error: Exception) -> None:
        def load(*_: object) -> None:
            raise error

        monkeypatch.setattr(BmpImageFile, "load", load)

    for error in (
        KeyError("x"),
        RuntimeError(),
        AttributeError(),
        ZeroDivisionError(),
        RecursionError(),
        AssertionError(),
    ):
        raising(error)
        with pytest.raises(BadInput, match="cut off or damaged") as caught:
            open_image(encode(picture(), "BMP"))
        assert caught.value.__cause__ is error
    raising(MemoryError())
    with pytest.raises(MemoryError):
        open_image(encode(picture(), "BMP"))


def test_fewer_formats_where_so_asked() -> None:
    assert open_image(encode(picture(), "TIFF")).size == (7, 5)
    with pytest.raises(BadInput, match=r"accepted: PNG, BMP$"):
        open_image(encode(picture(), "TIFF"), formats=("PNG", "BMP"))
    assert open_image(encode(picture(), "BMP"), formats=("PNG", "BMP")).size == (7, 5)
