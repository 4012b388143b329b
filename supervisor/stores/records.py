"""Each run's record as it was when first seen. It is written once, so another one means another drive in the same place.

But two machines that begin a run at the same time both write it, and one of the two stays. So what this session wrote itself,
its claim, is the better witness, and until there is one, a mount that was held all the time is the same mount.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from typing import TYPE_CHECKING

from supervisor.core.ports import Missing, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.stores.held import HeldMount

RECORD, WITNESS = "run.json", "claim.json"


class Records:
    """``marks``: the digest of each run's record, and of what we wrote by its path; ``read`` reads a path of the store."""

    def __init__(self, held: HeldMount, read: Callable[[str], bytes]) -> None:
        self.marks: dict[str, str] = {}
        self._held, self._read = held, read
        self._seen: set[tuple[str, int]] = set()
        self._learned: dict[str, int] = {}

    def see(self, path: str) -> None:
        """Before anything is written below a run: raise StoreError "gone" unless its record is what it was."""
        run, _, rest = path.partition("/")
        if not run or (run not in self.marks and not rest):
            return
        try:
            body = self._read(f"{run}/{RECORD}")
        except Missing:
            if run in self.marks and not self._witnessed(run):
                self._refuse(f"{run}/{RECORD} is not there any more")
            return
        self.learn(f"{run}/{RECORD}", body)
        self._seen.add((run, self._held.opened))

    def see_once(self, path: str) -> None:
        """Before anything is said about a run: see its record, once after each time that the mount was opened."""
        if (path.partition("/")[0], self._held.opened) not in self._seen:
            self.see(path)

    def learn(self, path: str, body: bytes) -> None:
        """Take in what was read or written, if it is a record. A part of one, on its way here, is none yet."""
        if not is_record(path):
            return
        run, mark, opened = path.partition("/")[0], _digest(body), self._held.opened
        if run in self.marks and self.marks[run] != mark and not self._witnessed(run):
            if self._learned.get(run) != opened:
                self._refuse(f"{path} is another than before")
            del self.marks[run]
        if run not in self.marks and _whole(body):
            self.marks[run], self._learned[run] = mark, opened

    def wrote(self, path: str, body: bytes) -> None:
        """Take in what was written: nobody else writes under such a name, so where it is, our drive is."""
        self.learn(path, body)
        if path.endswith(f"/{WITNESS}"):
            self.marks[path] = _digest(body)

    def forget(self, path: str) -> None:
        """Forget a record that was deleted on purpose."""
        if is_record(path):
            self.marks.pop(path.partition("/")[0], None)

    def _witnessed(self, run: str) -> bool:
        """Whether something that we wrote into this run is there."""
        for path, mark in self.marks.items():
            if path.startswith(f"{run}/"):
                with contextlib.suppress(Missing):
                    return _digest(self._read(path)) == mark
        return False

    def _refuse(self, words: str) -> None:
        self._held.release()
        raise StoreError(f"{words}: this may be another drive", "gone")


def is_record(path: str) -> bool:
    """Whether a path is that of a run's record."""
    return path.partition("/")[2] == RECORD


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _whole(body: bytes) -> bool:
    try:
        return isinstance(json.loads(body), dict)
    except ValueError:
        return False
