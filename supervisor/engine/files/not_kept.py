"""Says what a script that nobody changed writes and what is not kept, with the option that keeps it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from supervisor.core import naming

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

NAMED_MAX = 3
NOTHING_SAVED_S = 120.0  # after which somebody who expects to be safe should know that nothing is
SHARED = ("/tmp", "/var/tmp", "/dev/shm", "/run")  # noqa: S108  # folders of everybody, which are never one script's


class Looked(Protocol):
    """Knows which files are new and not kept."""

    def left(self) -> list[str]: ...


class Outside:
    """Files that are saved outside of what is watched. What lies in a temporary folder may still be moved in: it is waited for."""

    def __init__(self, say: Callable[[str, str], None]) -> None:
        self._say = say
        self._said = False
        self._waiting: dict[str, str] = {}

    def saved(self, path: str, called: str) -> None:
        """The script's framework has saved a file at this absolute path."""
        if self._said:
            return
        self._waiting[path] = called
        shared = [each for each in self._waiting if _is_shared(each) and os.path.lexists(each)]
        if not _is_shared(path) or len(shared) > 1:  # the second of them that stays is no mistake of the moment
            self._tell(path)

    def ended(self) -> None:
        """The script is gone: what it saved and did not move lies there for good."""
        stayed = [path for path in self._waiting if os.path.lexists(path)]
        if stayed and not self._said:
            self._tell(stayed[-1])
        self._waiting.clear()

    def _tell(self, path: str) -> None:
        self._said = True
        called = self._waiting[path]
        folder = Path(path).parent
        if _is_common(folder):
            keeps = f"{folder} is a folder of everybody: have the script save into one of its own, and name that with --watch"
        else:
            keeps = f"--watch {folder} keeps it"
        words = f"{path} is saved outside {called or 'the working folder'} and is not kept: {keeps}"
        self._say("info" if called else "warning", words)


class NothingYet:
    """Says after a while, and at the end, that nothing was kept, with the files that are new."""

    def __init__(self, say: Callable[[str, str], None]) -> None:
        self._say = say
        self._due_s = float("inf")
        self._said_early = self._said = False

    def begins(self, now_s: float) -> None:
        """An attempt begins."""
        self._due_s = now_s + NOTHING_SAVED_S

    def looked(self, now_s: float, discovery: Looked) -> None:
        """Nothing is kept so far."""
        if now_s >= self._due_s and not self._said_early:
            self._said_early = True
            left = discovery.left()
            words = f"nothing that this script saves was seen in {NOTHING_SAVED_S:.0f} s: if the machine ends now, all is lost"
            keeps = _keeps(left) if left else "--watch DIR keeps what it writes into a folder"
            self._say("warning", f"{words}; {keeps}, attach() the rest")

    def ended(self, left: list[str]) -> None:
        """The script is gone, and nothing was kept."""
        if left and not self._said:
            self._said = True
            self._say("warning", f"nothing that the script wrote is kept: {named(left, ordered=True)}; {_keeps(left)}")


def named(paths: Collection[str], *, ordered: bool = False) -> str:
    """Return some of the paths, as they are said."""
    known = list(paths) if ordered else sorted(paths)
    shown = ", ".join(repr(path) for path in known[:NAMED_MAX])
    return shown if len(known) <= NAMED_MAX else f"{shown} and {len(known) - NAMED_MAX:,} more"


def _keeps(left: list[str]) -> str:
    folder = left[0].rpartition("/")[0]
    if folder:
        return f"--watch {folder} keeps it"
    return "have the script write into a folder of its own, and name that with --watch"


def _is_shared(path: str) -> bool:
    """Say whether a file lies in a temporary folder, or is about to be renamed by its name."""
    shared = (*SHARED, tempfile.gettempdir())
    return any(path.startswith(f"{each}/") for each in shared) or naming.is_temporary(Path(path).name)


def _is_common(folder: Path) -> bool:
    return str(folder) in {*SHARED, tempfile.gettempdir(), "/", str(Path.home())} or naming.is_temporary(folder.name)
