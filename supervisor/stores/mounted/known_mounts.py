"""Record of the places of this machine that were on a mount.

A plain folder that replaces a mount is never written (I13).
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from supervisor.core.errors import FAILED_PRECHECKS, UserError
from supervisor.stores.mounted.mounts import is_drive

if TYPE_CHECKING:
    from pathlib import Path

    from supervisor.stores.mounted.mounts import Mount


def check(where: str, mount: Mount | None, notes: Path) -> None:
    """Record that ``where`` is on this mount. Raises UserError if it was on a mount before and is not now.

    A lost drive (FUSE) is always rejected. Another disk, a network folder or a bind mount is rejected if the place
    holds no run. If it holds one, it was copied there or is mounted in another way.

    Args:
        where: folder of the store.
        mount: the mount of that folder, of any kind.
        notes: folder of the records.
    """
    root = os.path.abspath(where)
    note = notes / f"{sha256(os.fsencode(root)).hexdigest()[:16]}.json"
    known = _read(note)
    if known is not None and _is_unmounted(known, mount) and (_was_drive(known) or not _contains_run(root)):
        kind = "drive" if _was_drive(known) else "disk or folder"
        raise UserError(
            f"{root} was on the {kind} mounted at {known['point']}, and that is not mounted now",
            f"mount it again and start again; if it is meant to be a plain folder from now on: rm {note}",
            FAILED_PRECHECKS,
        )
    if mount is not None and mount.point != "/":
        record = {"where": root, "point": mount.point, "source": mount.source, "drive": is_drive(mount)}
        if record != known:
            with suppress(OSError):  # on a full or read-only local disk the next start only misses this check
                notes.mkdir(parents=True, exist_ok=True)
                note.write_text(json.dumps(record), encoding="utf-8")


def _is_unmounted(known: dict[str, Any], mount: Mount | None) -> bool:
    """Return True if the place lies on no mount now, or on a parent of its earlier mount."""
    if _was_drive(known):
        return mount is None or not is_drive(mount)
    point = known["point"]
    return mount is None or (mount.point != point and f"{point}/".startswith(f"{mount.point.rstrip('/')}/"))


def _was_drive(known: dict[str, Any]) -> bool:
    return known.get("drive") is not False  # older records were written for drives only


def _contains_run(root: str) -> bool:
    """Return True if the folder seems to hold a run. It is on a local disk, so reading it cannot hang."""
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
