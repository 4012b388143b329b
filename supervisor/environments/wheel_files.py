"""Wheel files in a folder: package name and digest."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from supervisor.core.environment import normal_name

if TYPE_CHECKING:
    from pathlib import Path

    from supervisor.core.environment import LockedPackage


def is_wheel_of(wheel: Path, locked: LockedPackage) -> bool:
    """Return True if ``wheel`` is a file of ``locked`` by its name (PEP 427)."""
    return package_of(wheel.name) == (locked.name, locked.version)


def package_of(wheel: str) -> tuple[str, str]:
    """Return normal name and version of a wheel by its file name; empty strings for another kind of name."""
    name, _, rest = wheel.partition("-")
    version = rest.partition("-")[0]
    return (normal_name(name), version) if version else ("", "")


def digest(file: Path) -> str:
    """Return ``sha256:<hex>`` of the file's content. Raises OSError if it is unreadable."""
    with file.open("rb") as content:
        return f"sha256:{hashlib.file_digest(content, 'sha256').hexdigest()}"
