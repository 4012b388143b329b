"""Upload status of a written file from the drive's client. Only this status is evidence of an upload."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from typing import TYPE_CHECKING, Protocol

from supervisor.core.ports import NotConfirmed, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from supervisor.stores.mounted.mounts import Mount
    from supervisor.stores.upload_status.written_file import WrittenFile

_NO_ATTRIBUTE = frozenset({errno.ENODATA, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
_MD5 = re.compile(r"[0-9a-fA-F]{32}")


class UploadStatus(Protocol):
    """A drive's client. ``kind`` is its value of ``core.ports.StoreTraits.evidence``.

    ``check`` returns the kind of evidence for a file, or raises NotConfirmed or StoreError "lied". ``cache`` is the
    folder of files not yet uploaded, None if unknown. ``truncated_content`` is the content of a file that is truncated
    before its removal.
    """

    kind: str
    truncated_content: bytes

    def check(self, file: WrittenFile) -> str: ...
    def cache(self) -> str | None: ...


class DriveFS:
    """Google's client. It answers named extended attributes only.

    - ``user.drive.uncommitted`` is "1" while any part of the file is not uploaded
    - ``user.drive.id`` begins with "local-" until the file exists in the cloud
    - ``user.drive.md5`` is the cloud's digest, if the client has it
    """

    kind = "drivefs"
    truncated_content = b""

    def __init__(self, root_fd: int) -> None:
        self._root_fd = root_fd
        self._known_attributes: set[str] = set()

    def check(self, file: WrittenFile) -> str:
        """Accept "uploaded" only with a cloud id, and with the file's own digest if the cloud gives one."""
        values = {name: _attribute(file.fd, name) for name in ("uncommitted", "id")}
        missing = {name for name, value in values.items() if value is None}
        self._known_attributes |= values.keys() - missing
        if missing:
            raise NotConfirmed("Drive does not say whether it is uploaded", possible=self._may_still_answer(missing))
        if values["uncommitted"] != "0":
            raise NotConfirmed("Drive has not uploaded it yet")
        if not values["id"] or values["id"].startswith("local-"):
            raise NotConfirmed("it has no name in the cloud yet")
        md5 = _attribute(file.fd, "md5") or ""
        if _MD5.fullmatch(md5) and md5.lower() != _md5_of(file.chunks()):
            raise StoreError("Drive holds other bytes than were written", "lied")
        return self.kind

    def cache(self) -> str | None:
        """Return the folder of the client's files on the local disk."""
        home = os.environ.get("HOME")
        return None if home is None else f"{home}/.config/Google/DriveFS"

    def _may_still_answer(self, missing: set[str]) -> bool:
        """Return True if this client ever answers these attributes; otherwise waiting is useless."""
        return all(name in self._known_attributes or _attribute(self._root_fd, name) is not None for name in missing)


class NoUploadStatus:
    """A client without an upload status: a file given to it may be anywhere."""

    kind = ""
    truncated_content = b""

    def check(self, file: WrittenFile) -> str:
        """Raise NotConfirmed: there can be no evidence."""
        raise NotConfirmed(f"nothing here says whether {file.path} has left this machine", possible=False)

    def cache(self) -> str | None:
        """Return None: the cache is unknown."""
        return None


def detect(mount: Mount, root_fd: int) -> UploadStatus:
    """Return the client that reports uploads of a mount."""
    if mount.fstype == "fuse.rclone":
        from supervisor.stores.upload_status.rclone import Rclone

        return Rclone(mount)
    if mount.fstype == "fuse.drive" or _attribute(root_fd, "id") is not None:
        return DriveFS(root_fd)
    return NoUploadStatus()


def _attribute(fd: int, name: str) -> str | None:
    try:
        return os.getxattr(fd, f"user.drive.{name}").decode("utf-8", "replace").strip("\0 \n")
    except OSError as error:
        if error.errno in _NO_ATTRIBUTE:
            return None
        raise


def _md5_of(chunks: Iterable[bytes]) -> str:
    digest = hashlib.md5(usedforsecurity=False)  # the cloud uses MD5
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()
