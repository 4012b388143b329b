"""Warns of files that an unmodified script writes and that are not kept, and names the option that keeps them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from supervisor.core.unmodified import file_patterns

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

NAMED_MAX = 3
NOTHING_SAVED_S = 120.0  # time after which a user who expects safety must know that nothing is safe
SHARED = ("/tmp", "/var/tmp", "/dev/shm", "/run")  # noqa: S108  # shared folders, which never belong to one script


class UnsavedFiles(Protocol):
    """Knows which files are new and not kept."""

    def unsaved(self) -> list[str]: ...


class Outside:
    """Files saved outside of the watched paths.

    A file in a temporary folder may still be moved in, so its warning waits.
    """

    def __init__(self, say: Callable[[str, str], None]) -> None:
        self._say = say
        self._warned = False
        self._waiting: dict[str, str] = {}

    def on_saved(self, path: str, called: str) -> None:
        """Note a save of the script's framework at this absolute path."""
        if self._warned:
            return
        self._waiting[path] = called
        shared = [each for each in self._waiting if _is_shared(each) and os.path.lexists(each)]
        if not _is_shared(path) or len(shared) > 1:  # a second one that stays is no coincidence
            self._warn(path)

    def on_exit(self) -> None:
        """Warn of the files left outside at the end of the script."""
        stayed = [path for path in self._waiting if os.path.lexists(path)]
        if stayed and not self._warned:
            self._warn(stayed[-1])
        self._waiting.clear()

    def _warn(self, path: str) -> None:
        self._warned = True
        called = self._waiting[path]
        folder = Path(path).parent
        if _is_common(folder):
            keeps = f"{folder} is a folder of everybody: have the script save into one of its own, and name that with --watch-dir"
        else:
            keeps = f"--watch-dir {folder} keeps it"
        words = f"{path} is saved outside {called or 'the working folder'} and is not kept: {keeps}"
        self._say("info" if called else "warning", words)


class NothingYet:
    """Warns after a while, and at the end, that no file was kept, and lists the new files."""

    def __init__(self, say: Callable[[str, str], None]) -> None:
        self._say = say
        self._due_s = float("inf")
        self._warned_early = self._warned = False

    def attempt_started(self, now_s: float) -> None:
        """Start an attempt."""
        self._due_s = now_s + NOTHING_SAVED_S

    def on_scan(self, now_s: float, discovery: UnsavedFiles) -> None:
        """Warn if no file has been kept so far."""
        if now_s >= self._due_s and not self._warned_early:
            self._warned_early = True
            left = discovery.unsaved()
            words = f"nothing that this script saves was seen in {NOTHING_SAVED_S:.0f} s: if the machine ends now, all is lost"
            keeps = _keeps(left) if left else "--watch-dir DIR keeps what it writes into a folder"
            self._say("warning", f"{words}; {keeps}, attach() the rest")

    def on_exit(self, left: list[str]) -> None:
        """Warn at the end of the script that no file was kept."""
        if left and not self._warned:
            self._warned = True
            self._say("warning", f"nothing that the script wrote is kept: {named(left, ordered=True)}; {_keeps(left)}")


def named(paths: Collection[str], *, ordered: bool = False) -> str:
    """Return some of the paths as shown to the user."""
    known = list(paths) if ordered else sorted(paths)
    shown = ", ".join(repr(path) for path in known[:NAMED_MAX])
    return shown if len(known) <= NAMED_MAX else f"{shown} and {len(known) - NAMED_MAX:,} more"


def _keeps(left: list[str]) -> str:
    folder = left[0].rpartition("/")[0]
    if folder:
        return f"--watch-dir {folder} keeps it"
    return "have the script write into a folder of its own, and name that with --watch-dir"


def _is_shared(path: str) -> bool:
    """Return True if a file lies in a temporary folder, or has the name of a file about to be renamed."""
    shared = (*SHARED, tempfile.gettempdir())
    return any(path.startswith(f"{each}/") for each in shared) or file_patterns.is_temporary(Path(path).name)


def _is_common(folder: Path) -> bool:
    return str(folder) in {*SHARED, tempfile.gettempdir(), "/", str(Path.home())} or file_patterns.is_temporary(
        folder.name
    )
