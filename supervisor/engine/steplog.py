"""The step log over all machines: rows of staged checkpoints here, pieces in the store, one joined curve for readers.

A piece covers the steps ``[from, to)`` and is written before the manifest of the checkpoint at ``to``. Joining takes
the pieces in the order (epoch, number): each cuts what is known at its ``from`` and adds its rows. So what was
computed twice appears once, and what is DURABLE has its rows.
"""

from __future__ import annotations

import json
import math
import os
import re
import weakref
from bisect import bisect_left
from contextlib import suppress
from threading import RLock
from typing import TYPE_CHECKING, Any

from supervisor.core.claim import Rank, rank_of
from supervisor.core.content import LOG_FILE
from supervisor.core.ports import StoreError
from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from supervisor.core.ports import Store
    from supervisor.engine.place import RunPlace

PIECE = re.compile(r"log-(\d{6})-(\d{9,})-(\d{9,})( \(\d+\))?\.jsonl")


class StepLog:
    """Rows that are staged but not yet in the store, in a file of this session: ``{"from": s}``, then rows.

    Rows are taken on the thread that hears the trainer and handed out on the one that writes the store. The file is
    flushed, because a staged checkpoint that outlives a power loss can be gone on from only with all rows before it. It is
    kept open: where somebody empties the local folder the rows are still in it, and it gets its name again.
    """

    def __init__(self, path: Path, from_step: int) -> None:
        self.path = path
        self.from_step = from_step
        self._lock = RLock()
        self._unwritten: list[bytes] = []
        self._close: Callable[[], object] = lambda: None
        self._write({})

    def take(self, folder: Path) -> None:
        """Add the rows of a staged checkpoint. A full local disk keeps them in memory until there is room."""
        rows = read_rows(folder / LOG_FILE)
        with self._lock:
            self._unwritten.append(b"".join(map(_line, rows)))
            with suppress(OSError):
                self._append()

    def adopt(self, predecessor: Path, folders: Iterable[Path], below: float = math.inf) -> None:
        """Take over the unpublished rows of a dead session of this machine, and those of its staged folders.

        From the step ``below`` on what it did may be withdrawn, and none of it counts.
        """
        head, rows = _read(predecessor)
        merged = {row["step"]: row for row in rows}
        for folder in folders:
            merged.update({row["step"]: row for row in read_rows(folder / LOG_FILE)})
        merged = {step: row for step, row in merged.items() if step < below}
        with self._lock:
            self.from_step = self.from_step if head is None else min(self.from_step, head)
            self._write(merged)

    def piece(self, to_step: int) -> tuple[int, bytes]:
        """Return the rows up to ``to_step`` as a piece: (from, body)."""
        with self._lock:
            rows = self._rows()
            rows += [json.loads(line) for lines in self._unwritten for line in lines.splitlines()]
        chosen = {row["step"]: row for row in rows if self.from_step <= row["step"] < to_step}
        return self.from_step, b"".join(_line(chosen[step]) for step in sorted(chosen))

    def published(self, to_step: int) -> None:
        """Forget the rows that are in the store now."""
        with self._lock, suppress(OSError):  # with the old rows still in it the file is longer, not wrong
            self.from_step = to_step
            self._append()
            self._write({row["step"]: row for row in self._rows() if row["step"] >= to_step})

    def _append(self) -> None:
        self._see_named()
        end = os.lseek(self._file, 0, os.SEEK_END)
        try:
            while self._unwritten:
                _write_all(self._file, self._unwritten[0])
                os.fsync(self._file)
                end += len(self._unwritten.pop(0))
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._file, end)  # half a row would swallow the next one
            raise

    def _see_named(self) -> None:
        """Give the file its name again where somebody has taken it away."""
        with suppress(FileNotFoundError):
            if os.path.samestat(self.path.stat(), os.fstat(self._file)):
                return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._write({row["step"]: row for row in self._rows()})

    def _rows(self) -> list[dict[str, Any]]:
        body = os.pread(self._file, os.fstat(self._file).st_size, 0)
        return [row for row in _whole_lines(body) if isinstance(row.get("step"), int)]

    def _write(self, rows: dict[int, dict[str, Any]]) -> None:
        beside = self.path.with_suffix(".new")
        file = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            _write_all(file, b"".join([_line({"from": self.from_step}), *(_line(rows[step]) for step in sorted(rows))]))
            os.fsync(file)
            beside.replace(self.path)
        except BaseException:
            os.close(file)
            raise
        self._close()
        self._file, self._close = file, weakref.finalize(self, os.close, file)
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)  # or rows that are added next would be flushed into a file without a name
        finally:
            os.close(folder)


def covers(path: Path) -> bool:
    """Say whether a dead session's file can be gone on from: without its first line nobody knows what it holds."""
    return _read(path)[0] is not None


def piece_name(number: int, from_step: int, to_step: int) -> str:
    """Return a piece's name; it says what it covers, so that a listing is enough to join."""
    return f"log-{number:06d}-{from_step:09d}-{to_step:09d}.jsonl"


def next_number(store: Store, session: str) -> int:
    """Return the number for the next piece in a session's folder."""
    return 1 + max((number for number, _, _ in _pieces(store, session)), default=0)


def names(store: Store, session: str, from_step: int, to_step: int) -> list[str]:
    """Return the pieces in a session's folder that say they cover ``[from_step, to_step)``."""
    covers = f"-{from_step:09d}-{to_step:09d}."
    return [name for _, _, name in _pieces(store, session) if covers in name]


def joined(store: Store, run: RunPlace) -> Iterator[dict[str, Any]]:
    """Return the rows of the whole run in order of their steps, each step at most once. StoreError: a piece is damaged.

    They are those of the newest session that has any, and below its first step those of the session it went on from:
    which is not always the one before it, because what that one did may never have become a checkpoint. The time it
    takes is linear in the rows of all pieces.
    """
    rows: list[dict[str, Any]] = []
    for pieces, below in reversed(_lineage(store, run)):
        rows.extend(_of_session(store, pieces, below))
    return iter(rows)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a step log file; an absent file has none."""
    try:
        return list(_rows(path.read_bytes()))
    except FileNotFoundError:
        return []


def _read(path: Path) -> tuple[int | None, list[dict[str, Any]]]:
    head, rows = None, []
    for row in read_lines(path):
        if isinstance(row.get("step"), int):
            rows.append(row)
        elif isinstance(row.get("from"), int):
            head = row["from"]
    return head, rows


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the whole JSON objects of a file that may end in half a line, as one does after a crash."""
    try:
        return _whole_lines(path.read_bytes())
    except FileNotFoundError:
        return []


def _whole_lines(body: bytes) -> list[dict[str, Any]]:
    found = []
    for line in body.split(b"\n"):
        try:
            row = json.loads(line)
        except ValueError:
            continue  # the torn last line of a process that was killed while it wrote
        if isinstance(row, dict):
            found.append(row)
    return found


@dataclass(frozen=True, slots=True)
class _Piece:
    """A piece and the paths of its copies: a drive may show one name twice, and one folder."""

    number: int
    from_step: int
    to_step: int
    paths: Sequence[str]


def _lineage(store: Store, run: RunPlace) -> list[tuple[list[_Piece], float]]:
    """Return the sessions that lead to the newest, newest first: the pieces of each, and the step below which they count.

    A session goes on from where a piece of an older one ended, the newest that did.
    """
    sessions = [pieces for folders in _sessions(store, run) if (pieces := _copies(store, folders))]
    chosen: list[tuple[list[_Piece], float]] = []
    ends = [{piece.to_step for piece in pieces} for pieces in sessions]
    below, index = math.inf, len(sessions) - 1
    while index >= 0 and below > 0:
        chosen.append((sessions[index], below))
        below = min(piece.from_step for piece in sessions[index])
        older = range(index - 1, -1, -1)
        index = next((each for each in older if below in ends[each]), index - 1)
    return chosen


def _of_session(store: Store, pieces: list[_Piece], below: float) -> list[dict[str, Any]]:
    """Return the rows of one session: each piece cuts what is known at its first step, because the trainer began again there.

    A torn piece does not matter if a later one begins no later: its upload was tried again. Of several copies the longest
    counts, because a torn one is a short one.
    """
    rows: list[dict[str, Any]] = []
    torn: list[tuple[int, StoreError]] = []
    for piece in pieces:
        if piece.from_step >= below:
            continue
        del rows[bisect_left(rows, piece.from_step, key=_step) :]
        torn = [each for each in torn if each[0] < piece.from_step]
        body = max((store.read(path) for path in piece.paths), key=len)
        try:
            rows.extend(sorted((row for row in _rows(body) if piece.from_step <= row["step"] < below), key=_step))
        except ValueError as error:
            words = f"{piece.paths[0]} is damaged: {error}"
            torn.append((piece.from_step, StoreError(words, "damaged")))
    if torn:
        raise torn[0][1]
    return rows


def _sessions(store: Store, run: RunPlace) -> list[list[str]]:
    """Return the folders of each session, oldest first: more than one where a drive made one of them twice."""
    found: dict[Rank, list[str]] = {}
    for entry in store.list(run.name):
        if rank := rank_of(entry.name):
            found.setdefault(rank, []).append(f"{run.name}/{entry.name}")
    return [found[rank] for rank in sorted(found)]


def _copies(store: Store, folders: list[str]) -> list[_Piece]:
    """Return the pieces of one session in their order."""
    found: dict[tuple[int, int, int], list[str]] = {}
    for folder in folders:
        for entry in store.list(folder):
            if match := PIECE.fullmatch(entry.name):
                alike = (int(match[1]), int(match[2]), int(match[3]))
                found.setdefault(alike, []).append(f"{folder}/{entry.name}")
    return [_Piece(*alike, found[alike]) for alike in sorted(found)]


def _pieces(store: Store, folder: str) -> list[tuple[int, int, str]]:
    matches = ((PIECE.fullmatch(entry.name), entry.name) for entry in store.list(folder))
    return sorted((int(match[1]), int(match[2]), name) for match, name in matches if match)


def _rows(body: bytes) -> Iterator[dict[str, Any]]:
    for line in body.splitlines():
        if line.strip():
            row = json.loads(line)
            if isinstance(row, dict) and isinstance(row.get("step"), int):
                yield row


def _write_all(file: int, body: bytes) -> None:
    view = memoryview(body)
    while view:
        view = view[os.write(file, view) :]


def _step(row: dict[str, Any]) -> int:
    step: int = row["step"]
    return step


def _line(row: dict[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode() + b"\n"
