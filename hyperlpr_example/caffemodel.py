"""A small reader of Caffe's weight files: the blobs of each layer, without Caffe and without protobuf.

The wire format is Protocol Buffers' (varint keys of ``field << 3 | wire type``). Field numbers are those of caffe.proto, and
10 and 12 of BlobProto those of OpenCV's "shrunk" files, whose values are 16-bit floats.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Iterator

Floats = npt.NDArray[np.float32]

_NET_LAYER = 100
_LAYER_NAME, _LAYER_BLOBS = 1, 7
_BLOB_LEGACY_SHAPE, _BLOB_FLOATS, _BLOB_SHAPE, _BLOB_RAW_TYPE, _BLOB_RAW = (1, 2, 3, 4), 5, 7, 10, 12
_SHAPE_SIZES = 1
_RAW_FLOAT16 = 2
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5


def read_caffemodel(content: bytes) -> dict[str, list[Floats]]:
    """The blobs of every layer that has any, by layer name; ValueError when the bytes are not such a file."""
    layers: dict[str, list[Floats]] = {}
    for field, value in _fields(content):
        if field == _NET_LAYER and isinstance(value, bytes):
            name, blobs = _layer(value)
            if blobs:
                layers[name] = blobs
    return layers


def _layer(content: bytes) -> tuple[str, list[Floats]]:
    name, blobs = "", []
    for field, value in _fields(content):
        if field == _LAYER_NAME and isinstance(value, bytes):
            name = value.decode()
        elif field == _LAYER_BLOBS and isinstance(value, bytes):
            blobs.append(_blob(value))
    return name, blobs


def _blob(content: bytes) -> Floats:
    shape: list[int] = []
    legacy: dict[int, int] = {}
    values = np.empty(0, np.float32)
    raw_type = None
    for field, value in _fields(content):
        if field in _BLOB_LEGACY_SHAPE and isinstance(value, int):
            legacy[field] = value
        elif field == _BLOB_RAW_TYPE and isinstance(value, int):
            raw_type = value
        elif isinstance(value, bytes) and field == _BLOB_SHAPE:
            shape = [size for inner, sizes in _fields(value) if inner == _SHAPE_SIZES for size in _sizes(sizes)]
        elif isinstance(value, bytes) and field in (_BLOB_FLOATS, _BLOB_RAW):
            values = np.frombuffer(value, "<f4" if field == _BLOB_FLOATS else "<f2").astype(np.float32)
    if raw_type not in (None, _RAW_FLOAT16):
        raise ValueError(f"raw blob type {raw_type} is not 16-bit float")
    return values.reshape(shape or [legacy[field] for field in sorted(legacy)] or [-1])


def _sizes(value: int | bytes) -> list[int]:
    if isinstance(value, int):
        return [value]
    sizes, at = [], 0
    while at < len(value):
        size, at = _varint(value, at)
        sizes.append(size)
    return sizes


def _fields(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(content):
        key, at = _varint(content, at)
        field, wire = key >> 3, key & 7
        if wire == _VARINT:
            number, at = _varint(content, at)
            yield field, number
            continue
        if wire == _LENGTH:
            length, at = _varint(content, at)
        elif wire in (_EIGHT_BYTES, _FOUR_BYTES):
            length = 8 if wire == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"wire type {wire} at byte {at}")
        if at + length > len(content):
            raise ValueError(f"cut short at byte {at}")
        yield field, content[at : at + length]
        at += length


def _varint(content: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        if at >= len(content):
            raise ValueError(f"cut short at byte {at}")
        byte = content[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at
