"""The user's key: it signs records of the user's machines in a store, and never lies in a store itself.

The first start makes it, in the user's state folder. Another machine gets it by the variable `VARIABLE`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core.errors import UsageError
from supervisor.core.signing import KEY
from supervisor.engine import atomic

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "SUPERVISOR_KEY"
KEY_BYTES = 32
_READ_MAX = 200


def read_or_create(environ: Mapping[str, str]) -> str:
    """Return the key, and create it if there is none; "" if this machine has no place for it. Raises UsageError."""
    given = environ.get(VARIABLE, "").strip()
    if given:
        if not KEY.fullmatch(given):
            raise UsageError(
                f"{VARIABLE} is not a key: it has 64 hexadecimal digits",
                "copy the whole line that `doctor --key` prints on the machine of the key, or unset it",
            )
        return given
    file = key_file(environ)
    return _read(file) or _make(file)


def key_file(environ: Mapping[str, str]) -> Path:
    """Return the key's file in this user's state folder."""
    state = environ.get("XDG_STATE_HOME") or str(Path(environ.get("HOME") or Path.home()) / ".local/state")
    return Path(state) / "training-supervisor" / "key"


def without_key(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment for other people's code, without the key."""
    return {name: value for name, value in environ.items() if name != VARIABLE}


def _read(file: Path) -> str:
    """Return the key in a file that belongs to this user and is readable by no other; "" for any other file."""
    try:
        opened = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        if os.fstat(opened).st_uid != os.geteuid():
            return ""
        os.fchmod(opened, 0o600)
        text = os.read(opened, _READ_MAX).decode("ascii", "replace").strip()
    except OSError:
        return ""
    finally:
        os.close(opened)
    return text if KEY.fullmatch(text) else ""


def _make(file: Path) -> str:
    """Write the key completely under another name, then link it: two parallel first starts use the same one."""
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        atomic.create(file, f"{os.urandom(KEY_BYTES).hex()}\n".encode(), flush=True)
    except OSError:
        return ""  # a machine without a place for it signs nothing, and its next start resolves packages again
    return _read(file)
