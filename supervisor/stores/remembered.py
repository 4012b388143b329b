"""Which places of this machine were on a mount: a plain folder that takes the place of one is never written (I13)."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from supervisor.core.errors import FAILED_PRECHECKS, UserError
from supervisor.stores.mounts import is_drive

if TYPE_CHECKING:
    from pathlib import Path

    from supervisor.stores.mounts import Mount


def check(where: str, mount: Mount | None, notes: Path) -> None:
    """Remember in the folder ``notes`` that ``where`` is on this mount. Raises UserError if it was on one and is not now.

    ``mount``: what the place lies on, whatever its kind. Of a drive (FUSE) that is always refused; of another disk, a network
    folder or a bind mount where the place shows no run: else it was copied there, or is mounted in another way now.
    """
    root = os.path.abspath(where)
    note = notes / f"{sha256(os.fsencode(root)).hexdigest()[:16]}.json"
    known = _read(note)
    if known is not None and _is_missed(known, mount) and (_was_drive(known) or not _shows_a_run(root)):
        kind = "drive" if _was_drive(known) else "disk or folder"
        raise UserError(
            f"{root} was on the {kind} mounted at {known['point']}, and that is not mounted now",
            f"mount it again and start again; if it is meant to be a plain folder from now on: rm {note}",
            FAILED_PRECHECKS,
        )
    if mount is not None and mount.point != "/":
        told = {"where": root, "point": mount.point, "source": mount.source, "drive": is_drive(mount)}
        if told != known:
            with suppress(OSError):  # on a full or read-only local disk the next start is only less suspicious
                notes.mkdir(parents=True, exist_ok=True)
                note.write_text(json.dumps(told), encoding="utf-8")


def _is_missed(known: dict[str, Any], mount: Mount | None) -> bool:
    """Say whether the place lies on no mount any more, or on one above the one it was on."""
    if _was_drive(known):
        return mount is None or not is_drive(mount)
    point = known["point"]
    return mount is None or (mount.point != point and f"{point}/".startswith(f"{mount.point.rstrip('/')}/"))


def _was_drive(known: dict[str, Any]) -> bool:
    return known.get("drive") is not False  # older notes were written of drives alone


def _shows_a_run(root: str) -> bool:
    """Whether something in the folder looks like a run; the place is on this machine's own disk, so looking cannot hang."""
    try:
        with os.scandir(root) as found:
            return any(_is_there(os.path.join(each.path, "run.json")) for each in found)
    except OSError:
        return False


def _is_there(path: str) -> bool:
    try:
        os.lstat(path)
    except OSError:
        return False
    return True


def _read(note: Path) -> dict[str, Any] | None:
    try:
        known = json.loads(note.read_bytes())
    except (OSError, ValueError):
        return None
    return known if isinstance(known, dict) and isinstance(known.get("point"), str) else None
