"""The structures of native/product.h and native/decode.h, field by field."""

from __future__ import annotations

from ctypes import Structure, c_float, c_int32, c_void_p
from typing import Any, ClassVar


def _whole(*names: str) -> list[tuple[str, Any]]:
    return [(name, c_int32) for name in names]


def _pointers(*names: str) -> list[tuple[str, Any]]:
    return [(name, c_void_p) for name in names]


class Matrix(Structure):
    """Without ``codes``: none."""

    _fields_: ClassVar = [
        *_pointers("codes", "scale", "zero", "bias", "levels", "values", "starts"),
        *_whole("kind", "out", "width", "group", "stored", "reserved"),
    ]


class Norm(Structure):
    _fields_: ClassVar = [*_pointers("weight", "bias"), ("kind", c_int32), ("eps", c_float)]


NORMS = ("before_attention", "of_query", "of_key", "after_attention", "before_mlp", "after_mlp")
MATRICES = ("query", "key", "value", "out", "gate", "up", "down")


class Thin(Structure):
    _fields_: ClassVar = [("down", Matrix), ("up", Matrix)]


class Layer(Structure):
    _fields_: ClassVar = [
        *((name, Norm) for name in NORMS),
        *((name, Matrix) for name in MATRICES),
        *_pointers("cos", "sin"),
        *_whole("window", "activation"),
        ("scaling", c_float),
        ("cap", c_float),
        ("thin", Thin * len(MATRICES)),
    ]


class Decoder(Structure):
    _fields_: ClassVar = [
        *_pointers("layers"),
        ("table", Matrix),
        ("head", Matrix),
        ("last", Norm),
        *_whole("count", "width", "heads", "shared", "size", "turned", "inner", "chunk", "ends", "positions", "level"),
        ("factor", c_float),
        ("cap", c_float),
    ]


class Slots(Structure):
    _fields_: ClassVar = [*_pointers("key", "value", "position", "bias"), *_whole("count", "room")]


class Step(Structure):
    _fields_: ClassVar = [
        *_pointers("token", "x", "left", "position", "sequence", "wanted", "slots", "logits", "best"),
        *_whole("rows", "first", "last", "reserved"),
    ]
