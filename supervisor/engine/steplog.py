"""The step log over all machines: rows of staged checkpoints here, pieces in the store, one joined curve for readers.

A piece covers the steps ``[from, to)`` and is written before the manifest of the checkpoint at ``to``. Joining takes
the pieces in the order (epoch, number): each cuts what is known at its ``from`` and adds its rows. So what was
computed twice appears once, and what is DURABLE has its rows.
"""

from __future__ import annotations

import json
import os
import re
from bisect import bisect_left
from contextlib import suppress
from threading import RLock
from typing import TYPE_CHECKING, Any

from supervisor.core.claim import Rank, rank_of
from supervisor.core.content import LOG_FILE
from supervisor.core.ports import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from supervisor.core.ports import Store
    from supervisor.engine.place import RunPlace

PIECE = re.compile(r"log-(\d{6})-(\d{9,})-(\d{9,})( \(\d+\))?\.jsonl")


class StepLog:
    """Rows that are staged but not yet in the store, in a file of this session: ``{"from": s}``, then rows.

    Rows are taken on the thread that hears the trainer and handed out on the one that writes the store. The file is
    flushed, because a staged checkpoint that outlives a power loss can be gone on from only with all rows before it.
    """

    def __init__(self, path: Path, from_step: int) -> None:
        self.path = path
        self.from_step = from_step
        self._lock = RLock()
        self._unwritten: list[bytes] = []
        self._write({})

    def take(self, folder: Path) -> None:
        """Add the rows of a staged checkpoint. A full local disk keeps them in memory until there is room."""
        rows = read_rows(folder / LOG_FILE)
        with self._lock:
            self._unwritten.append(b"".join(map(_line, rows)))
            with suppress(OSError):
                self._append()

    def adopt(self, predecessor: Path, folders: Iterable[Path]) -> None:
        """Take over the unpublished rows of a dead session of this machine, and those of its staged folders."""
        head, rows = _read(predecessor)
        merged = {row["step"]: row for row in rows}
        for folder in folders:
            merged.update({row["step"]: row for row in read_rows(folder / LOG_FILE)})
        with self._lock:
            self.from_step = self.from_step if head is None else min(self.from_step, head)
            self._write(merged)

    def piece(self, to_step: int) -> tuple[int, bytes]:
        """Return the rows up to ``to_step`` as a piece: (from, body)."""
        with self._lock:
            _, rows = _read(self.path)
            rows += [json.loads(line) for lines in self._unwritten for line in lines.splitlines()]
        chosen = {row["step"]: row for row in rows if self.from_step <= row["step"] < to_step}
        return self.from_step, b"".join(_line(chosen[step]) for step in sorted(chosen))

    def published(self, to_step: int) -> None:
        """Forget the rows that are in the store now."""
        with self._lock, suppress(OSError):  # with the old rows still in it the file is longer, not wrong
            self.from_step = to_step
            self._append()
            _, rows = _read(self.path)
            self._write({row["step"]: row for row in rows if row["step"] >= to_step})

    def _append(self) -> None:
        with self.path.open("r+b", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            try:
                while self._unwritten:
                    view = memoryview(self._unwritten[0])
                    while view:
                        view = view[os.write(file.fileno(), view) :]
                    os.fsync(file.fileno())
                    end += len(self._unwritten.pop(0))
            except OSError:
                with suppress(OSError):
                    file.truncate(end)  # half a row would swallow the next one
                raise

    def _write(self, rows: dict[int, dict[str, Any]]) -> None:
        beside = self.path.with_suffix(".new")
        with beside.open("wb") as file:
            file.write(b"".join([_line({"from": self.from_step}), *(_line(rows[step]) for step in sorted(rows))]))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self.path)
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

    A torn piece does not matter where a later one begins no later than it: the upload it was of was tried again, or its
    session has a successor. Of a drive's twins the longest counts, because a torn copy is a short one. The time it takes
    is linear in the rows of all pieces.
    """
    rows: list[dict[str, Any]] = []
    torn: list[tuple[int, StoreError]] = []
    for folders in _sessions(store, run):
        for from_step, paths in _twins(store, folders):
            del rows[bisect_left(rows, from_step, key=_step) :]
            torn = [each for each in torn if each[0] < from_step]
            body = max((store.read(path) for path in paths), key=len)
            try:
                rows.extend(sorted((row for row in _rows(body) if row["step"] >= from_step), key=_step))
            except ValueError as error:
                torn.append((from_step, StoreError(f"{paths[0]} is damaged: {error}", "damaged")))
    if torn:
        raise torn[0][1]
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
    found = []
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue  # the torn last line of a process that was killed while it wrote
        if isinstance(row, dict):
            found.append(row)
    return found


def _sessions(store: Store, run: RunPlace) -> list[list[str]]:
    """Return the folders of each session, oldest first: more than one where a drive made one of them twice."""
    found: dict[Rank, list[str]] = {}
    for entry in store.list(run.name):
        if rank := rank_of(entry.name):
            found.setdefault(rank, []).append(f"{run.name}/{entry.name}")
    return [found[rank] for rank in sorted(found)]


def _twins(store: Store, folders: list[str]) -> list[tuple[int, list[str]]]:
    """Return (from step, paths of all copies) of the pieces of one session, in their order."""
    found: dict[tuple[int, int, str], list[str]] = {}
    for folder in folders:
        for number, from_step, name in _pieces(store, folder):
            alike = (number, from_step, name.partition(" ")[0].partition(".")[0])
            found.setdefault(alike, []).append(f"{folder}/{name}")
    return [(alike[1], found[alike]) for alike in sorted(found)]


def _pieces(store: Store, folder: str) -> list[tuple[int, int, str]]:
    matches = ((PIECE.fullmatch(entry.name), entry.name) for entry in store.list(folder))
    return sorted((int(match[1]), int(match[2]), name) for match, name in matches if match)


def _rows(body: bytes) -> Iterator[dict[str, Any]]:
    for line in body.splitlines():
        if line.strip():
            row = json.loads(line)
            if isinstance(row, dict) and isinstance(row.get("step"), int):
                yield row


def _step(row: dict[str, Any]) -> int:
    step: int = row["step"]
    return step


def _line(row: dict[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode() + b"\n"
