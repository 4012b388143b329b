"""The safetensors format, written and read without the package, which the script's environment may lack.

A file is an 8-byte little-endian length, a JSON header, and the tensors' bytes in the header's order with no gap
(https://github.com/huggingface/safetensors, "Format"). The header is padded with spaces to whole pages, so that the bytes
start aligned in the file as they do in the buffer.
"""

from __future__ import annotations

import json
import operator
import struct
from typing import TYPE_CHECKING, NamedTuple

from supervisor.core import fields

if TYPE_CHECKING:
    from collections.abc import Iterable

ALIGN_BYTES = 4096
LENGTH_BYTES = 8
HEADER_BYTES_MAX = 32 * 1024 * 1024  # some hundred thousand tensors


class Entry(NamedTuple):
    """One tensor of a file: ``begin`` counts from the end of the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    bytes: int


def header(entries: Iterable[Entry]) -> bytes:
    """Return what stands before the tensors' bytes."""
    body: dict[str, object] = {"__metadata__": {"format": "pt", "made_by": "training-supervisor"}}
    for entry in entries:
        body[entry.name] = {
            "dtype": entry.dtype,
            "shape": list(entry.shape),
            "data_offsets": [entry.begin, entry.begin + entry.bytes],
        }
    text = json.dumps(body, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + LENGTH_BYTES) % ALIGN_BYTES)
    return struct.pack("<Q", len(text)) + text


def header_bytes(length_field: bytes, file_bytes: int) -> int:
    """Return how many bytes stand before the tensors' in a file that begins so; ValueError if it is no such file."""
    if len(length_field) < LENGTH_BYTES:
        raise ValueError("shorter than a safetensors header")
    (length,) = struct.unpack("<Q", length_field[:LENGTH_BYTES])
    if length > min(HEADER_BYTES_MAX, file_bytes - LENGTH_BYTES):
        raise ValueError("the safetensors header is longer than the file")
    return LENGTH_BYTES + int(length)


def entries(whole_header: bytes, file_bytes: int) -> list[Entry]:
    """Return the tensors of a file in the order of their bytes; ValueError (or KeyError, TypeError) if it is no such file."""
    found = []
    told = fields.document(whole_header[LENGTH_BYTES:], HEADER_BYTES_MAX, fields.LISTED_VALUES_MAX)
    for name, entry in told.items():
        if name == "__metadata__":
            continue
        begin, end = map(operator.index, entry["data_offsets"])
        if not 0 <= begin <= end <= file_bytes - len(whole_header):
            raise ValueError(f"tensor {name} lies outside the file")
        found.append(Entry(name, entry["dtype"], tuple(entry["shape"]), begin, end - begin))
    return sorted(found, key=lambda entry: (entry.begin, entry.bytes))
