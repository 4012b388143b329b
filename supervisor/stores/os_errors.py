"""Operating system errors as the kinds of ``core.ports.StoreError``."""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING

from supervisor.core.ports import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

MOUNT_GONE_ERRNOS = frozenset(
    {errno.ENOTCONN, errno.ESTALE, errno.ENODEV, errno.ECONNABORTED, errno.ESHUTDOWN, errno.EHOSTDOWN}
)
_KINDS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "full"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "read-only"),
    **dict.fromkeys(MOUNT_GONE_ERRNOS, "gone"),
}


@contextlib.contextmanager
def as_store_error(path: str, kind: str = "") -> Iterator[None]:
    """Raise an OSError about ``path`` as a StoreError. ``kind`` overrides the kind if the caller knows it better."""
    try:
        yield
    except OSError as error:
        absent = "gone" if isinstance(error, FileNotFoundError) else "unreadable"
        raise StoreError(f"{error.strerror or error} ({path})", kind or _KINDS.get(error.errno or 0, absent)) from error
