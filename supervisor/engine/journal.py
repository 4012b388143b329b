"""The session's journal: its events and commands, here as they happen, in the store as closed pieces.

A piece begins with the status as it was, so that the newest piece alone tells what people want to know, and the
pieces of a session replay to the status that was published.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, Any

from supervisor.core import commands as do
from supervisor.core import events as ev
from supervisor.core import fields, messages, shapes, status
from supervisor.core.codec import UnknownRecord, from_line, to_line, to_plain
from supervisor.core.instant import Instant
from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

    from supervisor.core.claim import Rank
    from supervisor.core.ports import Store
    from supervisor.engine.place import RunPlace

PIECE = re.compile(rf"journal-([0-9]{{6}}){fields.TWIN}\.jsonl")
_UNREADABLE = (
    UnknownRecord,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    IndexError,
    ArithmeticError,
    RecursionError,
)
ROUTINE = (ev.Woke, ev.FenceSeen, ev.JournalWritten, do.LookAtFence, do.WriteJournal)


@dataclass(frozen=True, slots=True)
class Record:
    """One line of a journal."""

    at: Instant
    value: Any


class Journal:
    """Collects records on the loop's thread and hands them out as pieces."""

    def __init__(self, spool: Path | None, first: status.RunStatus) -> None:
        self.status = first
        self.pieces = 0
        self._lock = Lock()  # pieces are put back on the lane that could not write them
        self._spool = spool
        self._from = first
        self._lines: list[str] = []
        self._unwritten: list[tuple[str, bytes]] = []
        self._beat: tuple[Instant, Any] | None = None

    def open_spool(self, spool: Path) -> None:
        """Keep the records on the local disk too, from now on."""
        self._spool = spool
        self._keep_here("".join(self._lines))

    def record(self, at: Instant, value: Any) -> None:
        """Add a record and fold it into the status. Of beats in a row only the last is kept, because it says all."""
        self.status = status.fold(self.status, value, at)
        if isinstance(value, ROUTINE):
            return
        if isinstance(value, ev.TrainerSaid) and isinstance(value.message, messages.Beat):
            self._beat = (at, value)
            return
        self._settle_beat()
        self._append(at, value)

    def take(self) -> list[tuple[str, bytes]]:
        """Return (name, body) of the pieces to write: those that were put back, and what happened since the last."""
        self._settle_beat()
        with self._lock:
            pieces, self._unwritten = self._unwritten, []
        if self._lines:
            head = json.dumps({"is": "RunStatus", "status": plain_status(self._from)}, ensure_ascii=False)
            self.pieces += 1
            taken, self._lines, self._from = self._lines, [], self.status
            pieces.append((f"journal-{self.pieces:06d}.jsonl", "".join([head, "\n", *taken]).encode()))
        return pieces

    def put_back(self, pieces: list[tuple[str, bytes]]) -> None:
        """Take back pieces whose writing failed. They keep their names, because one may have been written all the same."""
        with self._lock:
            self._unwritten = [*pieces, *self._unwritten]

    def _settle_beat(self) -> None:
        if self._beat is not None:
            at, value = self._beat
            self._beat = None
            self._append(at, value)

    def _append(self, at: Instant, value: Any) -> None:
        line = to_line({"mono_s": round(at.mono_s, 3), "wall_s": round(at.wall_s, 3)}, value) + "\n"
        self._lines.append(line)
        self._keep_here(line)

    def _keep_here(self, text: str) -> None:
        if self._spool is not None:
            # the local copy is a convenience; a full local disk, or an emptied one, must not end the session
            with suppress(OSError), self._spool.open("a", encoding="utf-8") as file:
                file.write(text if file.tell() else "".join(self._lines))


def plain_status(seen: status.RunStatus) -> dict[str, Any]:
    """Return a status made of JSON's types."""
    return {name: _plain(getattr(seen, name)) for name in seen.__slots__}


def status_from_plain(plain: Any) -> status.RunStatus:
    """Read a status back; what this version does not know, or what does not fit, is left out."""
    return shapes.fitting(status.RunStatus, plain)


def parse_piece(body: bytes) -> tuple[status.RunStatus, list[Record]]:
    """Read a piece: the status at its beginning and its records; what cannot be read is left out, never raised."""
    lines = body.decode("utf-8", "replace").splitlines()
    first = status.RunStatus()
    if lines and _is_head(lines[0]):
        with suppress(*_UNREADABLE):
            first = status_from_plain(fields.document(lines[0].encode(), fields.LISTING_BYTES_MAX).get("status"))
    return first, list(_records(lines))


def records_of(body: bytes, kinds: Collection[str]) -> list[Record]:
    """Return the records of a piece that name one of these kinds, of an event or a message in it; the others are not read."""
    lines = (line for line in body.decode("utf-8", "replace").splitlines() if any(kind in line for kind in kinds))
    return list(_records(lines))


def _records(lines: Iterable[str]) -> Iterator[Record]:
    for line in lines:
        if _is_head(line):
            continue
        try:
            at, value = from_line(line)
            yield Record(Instant(at["mono_s"], at["wall_s"]), value)
        except _UNREADABLE:
            continue  # of a newer version, or a damaged line: a journal is read as far as it can be


def _is_head(line: str) -> bool:
    return '"RunStatus"' in line[:30]


def replay(first: status.RunStatus, records: list[Record]) -> status.RunStatus:
    """Fold records into the status they published. What cannot be folded or told is left out, never raised."""
    seen = _told(first) or status.RunStatus()
    for record in records:
        with suppress(*_UNREADABLE):
            seen = status.fold(seen, record.value, record.at)
    return _told(seen) or _told(first) or status.RunStatus()


def _told(seen: status.RunStatus) -> status.RunStatus | None:
    """Return a status with what its fields can have, None if it cannot be told all the same."""
    try:
        json.dumps(status.to_json(seen, None), default=str)
    except _UNREADABLE:
        return None
    return seen


def piece_names(store: Store, run: RunPlace, rank: Rank) -> list[str]:
    """Return the names of a session's pieces in order."""
    names = (entry.name for entry in store.list(run.session(rank)))
    return sorted((name for name in names if PIECE.fullmatch(name)), key=lambda name: (int(name[8:14]), name))


def newest_status(store: Store, run: RunPlace, rank: Rank) -> status.RunStatus | None:
    """Return the status that a session's newest piece leads to, or None if it never wrote one."""
    names = piece_names(store, run, rank)
    return replay(*parse_piece(store.read(f"{run.session(rank)}/{names[-1]}"))) if names else None


def records(store: Store, run: RunPlace, rank: Rank) -> Iterator[Record]:
    """Return all records of a session that are in the store."""
    for name in piece_names(store, run, rank):
        yield from parse_piece(store.read(f"{run.session(rank)}/{name}"))[1]


def _plain(value: Any) -> Any:
    if isinstance(value, Instant):
        return {"mono_s": value.mono_s, "wall_s": value.wall_s}
    return to_plain(value)
