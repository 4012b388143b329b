"""Which places of this machine were on a mounted drive: a plain folder that takes such a place is never written (I13)."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING

from supervisor.core.errors import FAILED_PRECHECKS, UserError

if TYPE_CHECKING:
    from pathlib import Path

    from supervisor.stores.mounts import Mount


def check(where: str, mount: Mount | None, notes: Path) -> None:
    """Remember in the folder ``notes`` that ``where`` is on this drive. Raises UserError if it was on one and is not now."""
    root = os.path.abspath(where)
    note = notes / f"{sha256(os.fsencode(root)).hexdigest()[:16]}.json"
    if mount is not None:
        with suppress(OSError):  # on a full or read-only local disk the next start is only less suspicious
            notes.mkdir(parents=True, exist_ok=True)
            note.write_text(json.dumps({"where": root, "point": mount.point, "source": mount.source}), encoding="utf-8")
        return
    try:
        known = json.loads(note.read_bytes())
    except (OSError, ValueError):
        return
    raise UserError(
        f"{root} was on the drive mounted at {known.get('point')}, and that is not mounted now",
        f"mount it again and start again; if it is meant to be a plain folder from now on: rm {note}",
        FAILED_PRECHECKS,
    )
