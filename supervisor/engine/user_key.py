"""The user's key: it signs what the user's machines leave in a store, and never lies in one.

It is made at the first start, in the user's state folder. Another machine gets it by the variable `VARIABLE`.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core.errors import UsageError
from supervisor.core.signing import KEY

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "SUPERVISOR_KEY"
KEY_BYTES = 32
_READ_MAX = 200


def read_or_make(environ: Mapping[str, str]) -> str:
    """Return the key, made if there is none; "" where this machine has no place for it. Raises UsageError."""
    given = environ.get(VARIABLE, "").strip()
    if given:
        if not KEY.fullmatch(given):
            raise UsageError(
                f"{VARIABLE} is not a key: it has 64 hexadecimal digits",
                "copy the whole line that `doctor --key` prints on the machine of the key, or unset it",
            )
        return given
    file = place(environ)
    return _read(file) or _make(file)


def place(environ: Mapping[str, str]) -> Path:
    """Return where the key lies: with the state of this user's programs."""
    state = environ.get("XDG_STATE_HOME") or str(Path(environ.get("HOME") or Path.home()) / ".local/state")
    return Path(state) / "training-supervisor" / "key"


def without(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment for other people's code: without the key."""
    return {name: value for name, value in environ.items() if name != VARIABLE}


def _read(file: Path) -> str:
    """Return the key in a file that belongs to this user, readable by no other; "" for anything else."""
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
    """Make the key whole under another name, then link it: of two first starts at once both use the same one."""
    beside = file.with_name(f".new-{os.urandom(4).hex()}")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        opened = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(opened, "w", encoding="ascii") as made:
            made.write(f"{os.urandom(KEY_BYTES).hex()}\n")
            made.flush()
            os.fsync(made.fileno())
        with suppress(FileExistsError):
            os.link(beside, file)
    except OSError:
        return ""  # a machine without a place for it signs nothing, and its next start looks packages up again
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
    return _read(file)
