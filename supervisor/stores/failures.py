"""What an error of the operating system means for a store, in the kinds of ``core.ports.StoreError``."""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING

from supervisor.core.ports import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

GONE = frozenset({errno.ENOTCONN, errno.ESTALE, errno.ENODEV, errno.ECONNABORTED, errno.ESHUTDOWN, errno.EHOSTDOWN})
_KINDS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "full"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "read-only"),
    **dict.fromkeys(GONE, "gone"),
}


@contextlib.contextmanager
def translated(path: str, kind: str = "") -> Iterator[None]:
    """Raise what the operating system says about ``path`` as a StoreError, of ``kind`` if that is known better."""
    try:
        yield
    except OSError as error:
        absent = "gone" if isinstance(error, FileNotFoundError) else "unreadable"
        raise StoreError(f"{error.strerror or error} ({path})", kind or _KINDS.get(error.errno or 0, absent)) from error
