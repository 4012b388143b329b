"""Small JSON notes on the local disk: whole under their name or not there, and readable by whoever comes later."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from supervisor.core import fields
from supervisor.core.status import is_status

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def write(path: Path, body: Mapping[str, Any]) -> None:
    """Write a note, or replace it. Raises OSError."""
    beside = path.with_name(f".new-{path.name}")
    beside.write_text(json.dumps(dict(body), default=str), encoding="utf-8")
    beside.replace(path)


def read(path: Path) -> dict[str, Any] | None:
    """Return a note; None if it is absent, cannot be read, or is none: for what one can do without.

    Notes are not flushed, so after a power loss one may be empty, half or all zeros.
    """
    try:
        return dict(fields.document(path.read_bytes()))
    except (OSError, ValueError):
        return None


def process(path: Path) -> tuple[int, str] | None:
    """Return the process that a note names: its number and since when it runs; None if it names none."""
    noted = read(path) or {}
    pid, since = noted.get("pid"), noted.get("since")
    return (pid, since) if type(pid) is int and isinstance(since, str) else None


def live_status(path: Path) -> dict[str, Any] | None:
    """Return the live status that a session wrote; None if it is absent or damaged."""
    told = read(path)
    return told if told is not None and is_status(told) else None
