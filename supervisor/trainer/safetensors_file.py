"""The safetensors format, written and read without the package, which the script's environment may lack.

A file is an 8-byte little-endian length, a JSON header, and the tensors' bytes in the header's order with no gap
(https://github.com/huggingface/safetensors, "Format"). The header is padded with spaces so that the bytes start aligned.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING

from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable

ALIGN_BYTES = 64
HEADER_BYTES_MAX = 100 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Entry:
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
    text += b" " * (-(len(text) + 8) % ALIGN_BYTES)
    return struct.pack("<Q", len(text)) + text


def tensors(content: memoryview) -> dict[str, memoryview]:
    """Return each tensor's bytes of a whole file; ValueError if it is no such file."""
    if len(content) < 8:  # noqa: PLR2004  # the length field
        raise ValueError("shorter than a safetensors header")
    (length,) = struct.unpack("<Q", content[:8])
    if length > min(HEADER_BYTES_MAX, len(content) - 8):
        raise ValueError("the safetensors header is longer than the file")
    data = content[8 + length :]
    found = {}
    for name, entry in json.loads(bytes(content[8 : 8 + length])).items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        if not 0 <= begin <= end <= len(data):
            raise ValueError(f"tensor {name} lies outside the file")
        found[name] = data[begin:end]
    return found
