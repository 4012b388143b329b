"""The file that a drive's client is asked about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.frozen import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file of the drive, open as ``fd``; ``path`` is relative to the mount's root.

    ``length`` is in bytes. ``confirmed`` means that this store had the evidence before. ``chunks`` reads the file from
    its beginning.
    """

    fd: int
    path: str
    length: int
    confirmed: bool
    chunks: Callable[[], Iterable[bytes]]
