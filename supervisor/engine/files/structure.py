"""Says of formats that end with, or begin with, an account of themselves whether a file is all there: zip, safetensors, HDF5."""

from __future__ import annotations

import json
import struct
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

HEADER_BYTES_MAX = 100_000_000
HDF5 = b"\x89HDF\r\n\x1a\n"
END_AT = {0: 40, 1: 44, 2: 28, 3: 28}  # where each version of HDF5's first block says the end of the file


def is_whole(path: Path) -> bool:
    """Say whether the file is of such a format and complete; False for every other."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return bool(archive.infolist())
        with path.open("rb") as file:
            head = file.read(64)
            size = path.stat().st_size
            if head.startswith(HDF5):
                at = END_AT.get(head[8])
                return at is not None and struct.unpack_from("<Q", head, at)[0] == size
            return _safetensors_bytes(head, file.read(min(HEADER_BYTES_MAX, size))) == size
    except (OSError, ValueError, struct.error, zipfile.BadZipFile, KeyError, TypeError, AttributeError):
        return False


def _safetensors_bytes(head: bytes, more: bytes) -> int:
    """Return how long such a file has to be, by its header; ValueError for another."""
    (length,) = struct.unpack_from("<Q", head)
    header = json.loads((head + more)[8 : 8 + length]) if length <= HEADER_BYTES_MAX else {}
    ends = [each["data_offsets"][1] for name, each in header.items() if name != "__metadata__"]
    return int(8 + length + max(ends))
