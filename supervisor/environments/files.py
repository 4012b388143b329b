"""Package files in a folder: which package a wheel is of, and its digest."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from supervisor.core.environment import normal_name

if TYPE_CHECKING:
    from pathlib import Path

    from supervisor.core.environment import Locked


def names(wheel: Path, locked: Locked) -> bool:
    """Whether `wheel` is a file of `locked`, told from its name (PEP 427)."""
    return package_of(wheel.name) == (locked.name, locked.version)


def package_of(wheel: str) -> tuple[str, str]:
    """Normal name and version that the name of a wheel's file says; empty strings for another kind of name."""
    name, _, rest = wheel.partition("-")
    version = rest.partition("-")[0]
    return (normal_name(name), version) if version else ("", "")


def digest(file: Path) -> str:
    """``sha256:<hex>`` of the file's content; OSError when it cannot be read."""
    with file.open("rb") as content:
        return f"sha256:{hashlib.file_digest(content, 'sha256').hexdigest()}"
