"""Small JSON notes on the local disk: whole under their name or not there, and readable by whoever comes later."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def write(path: Path, body: Mapping[str, Any]) -> None:
    """Write a note, or replace it. Raises OSError."""
    beside = path.with_name(f".new-{path.name}")
    beside.write_text(json.dumps(dict(body), default=str), encoding="utf-8")
    beside.replace(path)


def read(path: Path) -> dict[str, Any] | None:
    """Return a note; None if it is absent, cannot be read, or is none: for what one can do without."""
    try:
        body = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return body if isinstance(body, dict) else None
