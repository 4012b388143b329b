"""What a drive's client says about a file that was written: whether it has left this machine. Only that is evidence."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from typing import TYPE_CHECKING, Protocol

from supervisor.core.ports import StoreError, Unconfirmed
from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from supervisor.stores.mounts import Mount

_NO_ATTRIBUTE = frozenset({errno.ENODATA, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
_MD5 = re.compile(r"[0-9a-fA-F]{32}")


@dataclass(frozen=True, slots=True)
class Written:
    """A file of the drive, open as ``fd``; ``path`` leads to it from the mount's root.

    ``length`` in bytes; ``confirmed``: this store had the evidence on it before; ``chunks`` reads it from its beginning.
    """

    fd: int
    path: str
    length: int
    confirmed: bool
    chunks: Callable[[], Iterable[bytes]]


class Uploads(Protocol):
    """A client's word. ``kind`` is what ``core.ports.Traits.evidence`` calls it.

    ``see`` returns the kind of evidence there is on a file, or raises Unconfirmed, or StoreError "lied". ``cache`` is the
    folder where the client keeps what it has not uploaded, None if nobody knows. ``remains`` is what a file that is emptied
    before it is removed keeps.
    """

    kind: str
    remains: bytes

    def see(self, file: Written) -> str: ...
    def cache(self) -> str | None: ...


class DriveFS:
    """Google's client answers extended attributes, by name only.

    ``user.drive.uncommitted`` is "1" while anything of the file is not uploaded; ``user.drive.id`` begins with "local-" until
    the file exists in the cloud; ``user.drive.md5`` is the cloud's digest, where the client has it.
    """

    kind = "drivefs"
    remains = b""

    def __init__(self, root_fd: int) -> None:
        self._root_fd = root_fd
        self._answered: set[str] = set()

    def see(self, file: Written) -> str:
        """Believe "uploaded" only of a file that has a cloud id, and whose digest, if the cloud tells one, is its own."""
        told = {name: _attribute(file.fd, name) for name in ("uncommitted", "id")}
        silent = {name for name, value in told.items() if value is None}
        self._answered |= told.keys() - silent
        if silent:
            raise Unconfirmed("Drive does not say whether it is uploaded", possible=self._may_still_answer(silent))
        if told["uncommitted"] != "0":
            raise Unconfirmed("Drive has not uploaded it yet")
        if not told["id"] or told["id"].startswith("local-"):
            raise Unconfirmed("it has no name in the cloud yet")
        md5 = _attribute(file.fd, "md5") or ""
        if _MD5.fullmatch(md5) and md5.lower() != _md5_of(file.chunks()):
            raise StoreError("Drive holds other bytes than were written", "lied")
        return self.kind

    def cache(self) -> str | None:
        """Return where the client keeps its files on the machine's disk."""
        home = os.environ.get("HOME")
        return None if home is None else f"{home}/.config/Google/DriveFS"

    def _may_still_answer(self, silent: set[str]) -> bool:
        """Whether this client tells such a thing at all: one that never does must not be waited for."""
        return all(name in self._answered or _attribute(self._root_fd, name) is not None for name in silent)


class NoWord:
    """A client that says nothing: what it was given may be anywhere."""

    kind = ""
    remains = b""

    def see(self, file: Written) -> str:
        """There can be no evidence."""
        raise Unconfirmed(f"nothing here says whether {file.path} has left this machine", possible=False)

    def cache(self) -> str | None:
        """Nobody knows."""
        return None


def choose(mount: Mount, root_fd: int) -> Uploads:
    """Return who can tell about uploads on a mount."""
    if mount.fstype == "fuse.rclone":
        from supervisor.stores.rclone import Rclone

        return Rclone(mount)
    if mount.fstype == "fuse.drive" or _attribute(root_fd, "id") is not None:
        return DriveFS(root_fd)
    return NoWord()


def _attribute(fd: int, name: str) -> str | None:
    try:
        return os.getxattr(fd, f"user.drive.{name}").decode("utf-8", "replace").strip("\0 \n")
    except OSError as error:
        if error.errno in _NO_ATTRIBUTE:
            return None
        raise


def _md5_of(chunks: Iterable[bytes]) -> str:
    digest = hashlib.md5(usedforsecurity=False)  # the cloud's choice, not ours
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()
