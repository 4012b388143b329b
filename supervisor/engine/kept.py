"""Supervisors that a notebook started: what they print, how they ended and what was last seen of them, on the local disk.

A kernel may be restarted and a browser closed at any time; the next kernel finds everything here again.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from supervisor.core.values import dataclass
from supervisor.engine import notes
from supervisor.engine.identity import started

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

FOLDER = "notebook"
NOTE, OUTPUT, EXIT, SEEN = "note.json", "output.log", "exit.json", "seen.json"
OLD_KEPT = 5
READ_BYTES_MAX = 256_000


@dataclass(frozen=True, slots=True)
class Kept:
    """One supervisor of ``run`` in ``store``; its ``folder`` outlives it."""

    folder: Path
    run: str
    store: str
    pid: int
    since: str | None

    @property
    def lives(self) -> bool:
        """Whether it still runs: this very process, not another of its number."""
        return self.since is not None and started(self.pid) == self.since

    @property
    def code(self) -> int | None:
        """How it ended; None while it lives, and for one that died without a word."""
        code = (notes.read(self.folder / EXIT) or {}).get("code")
        return code if isinstance(code, int) else None

    @property
    def seen(self) -> Mapping[str, Any]:
        """What a person last saw of it; empty if nobody ever looked."""
        return notes.read(self.folder / SEEN) or {}

    def saw(self, told: Mapping[str, Any]) -> None:
        """Remember what a person sees of it now."""
        with suppress(OSError):  # a full local disk only makes the next kernel tell less
            notes.write(self.folder / SEEN, told)

    def printed(self, offset: int) -> tuple[str, int]:
        """Return what it printed from a byte on, whole lines of it, and the byte to go on from.

        Of very much only the end is returned, because it is for people to look at.
        """
        try:
            with (self.folder / OUTPUT).open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                begin = max(offset, end - READ_BYTES_MAX)
                file.seek(begin)
                body = file.read()
        except FileNotFoundError:
            return "", offset
        whole = body[: body.rfind(b"\n") + 1]
        return whole.decode("utf-8", "replace"), begin + len(whole)


def new(local_root: Path) -> Path:
    """Make the folder of another one, and forget the oldest that have ended."""
    above = local_root / FOLDER
    above.mkdir(parents=True, exist_ok=True)
    numbers = _numbers(above)
    for number in numbers[:-OLD_KEPT]:
        found = _read(above / str(number))
        if found is None or not found.lives:
            shutil.rmtree(above / str(number), ignore_errors=True)
    number = max(numbers, default=0) + 1
    while True:
        try:
            (above / str(number)).mkdir()
        except FileExistsError:
            number += 1  # another notebook was quicker
        else:
            return above / str(number)


def note(folder: Path, pid: int, run: str, store: str) -> Kept:
    """Write down which process it is; written by itself, because whoever started it may be gone at any time."""
    made = Kept(folder, run, store, pid, started(pid))
    notes.write(folder / NOTE, {"pid": pid, "since": made.since, "run": run, "store": store})
    return made


def ended(folder: Path, code: int) -> None:
    """Write down how it ended."""
    notes.write(folder / EXIT, {"code": code})


def known(local_root: Path, store: str) -> Iterator[Kept]:
    """Yield those of a store, the newest first."""
    above = local_root / FOLDER
    for number in reversed(_numbers(above)):
        found = _read(above / str(number))
        if found is not None and found.store == store:
            yield found


def _numbers(above: Path) -> list[int]:
    try:
        return sorted(int(each.name) for each in above.iterdir() if each.name.isdecimal())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _read(folder: Path) -> Kept | None:
    told, noted = notes.read(folder / NOTE) or {}, notes.process(folder / NOTE)
    return None if noted is None else Kept(folder, str(told.get("run", "")), str(told.get("store", "")), *noted)
