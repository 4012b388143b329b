"""Step log over all sessions: rows of staged checkpoints on this disk, pieces in the store, one joined log for readers.

Theory of operation

A row is one line of ``run.log()``. A piece is a file of rows in a session's folder:
``log-<number>-<from>-<to>.jsonl``. It holds the rows of the steps ``from <= step < to``.

Rules for the writer:

1. The trainer stages the rows since the previous checkpoint together with each checkpoint. ``StepLog.take`` appends
   them to one local file and flushes it.
2. The piece of an upload starts where the last durable checkpoint ended. It ends at the step of the checkpoint.
3. The piece is written before the manifest. Every durable checkpoint has its rows (I18).
4. After the confirmation, ``published`` removes the uploaded rows from the local file.
5. A session that continues from a staged checkpoint of a dead session adopts the rows of that session.
6. Manifests carry the digests of all pieces before them. Retention deletes manifests, but never a piece.

Rules for the reader (``read``):

7. Lineage: start with the newest session that has pieces. Its first piece starts at the step where it resumed.
   The previous session of the lineage is the newest older one with a piece that ends at that step. If there is none,
   it is the next older session. Repeat down to step 0.
8. Each session counts only below the first step of the session after it. Steps that were computed again therefore
   appear once, with the rows of the newer session.
9. Within a session the pieces apply in the order of their numbers. Each piece replaces the rows from its first step on.
   A trainer that restarted at an earlier step is covered by this rule.
10. Of several copies of one piece the copy with the digest of the manifest counts. Without a digest the longest counts,
    because an incomplete copy is a shorter one.

Cases:

- An upload is tried again: the new piece has a higher number and starts no later. By rule 9 a corrupt earlier piece
  does not matter then.
- A piece is missing, empty, changed or corrupt: its steps become a ``Gap`` with the reason.
- No piece covers some steps: a gap too, unless those steps logged nothing. A manifest that names all pieces proves
  that. A neighbouring piece with fewer rows than steps makes it probable.
- Rows beyond the newest checkpoint are missing: no gap, because no checkpoint depends on them.
- The last line of the local file is incomplete after a crash: it is skipped. ``_append`` truncates a half-written row.
- The local file was deleted while it is open: ``_restore_name`` writes it again from the open descriptor.
"""

from __future__ import annotations

import json
import math
import os
import weakref
from bisect import bisect_left
from contextlib import suppress
from dataclasses import field, replace
from threading import RLock
from typing import TYPE_CHECKING, Any

from supervisor.core.checkpoint import log_pieces
from supervisor.core.checkpoint.checkpoint_json import LOG_FILE
from supervisor.core.checkpoint.session_id import SessionId, parse_session_id
from supervisor.core.digest import digest_of
from supervisor.core.frozen import dataclass
from supervisor.core.ports import StoreError
from supervisor.core.wire import fields
from supervisor.engine import atomic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from supervisor.core.checkpoint.manifest import Manifest
    from supervisor.core.ports import Store
    from supervisor.engine.paths import RunPaths

PIECE = log_pieces.NAME


class StepLog:
    """Rows that are staged and not uploaded yet, in one file of this session: a line ``{"from": step}``, then the rows.

    Rows arrive on the thread that reads the channel and leave on the thread that uploads. Each row is flushed: a staged
    checkpoint that survives a power loss is usable only with all rows before it. The file stays open, so that a deleted
    one can be written again.
    """

    def __init__(self, path: Path, from_step: int) -> None:
        self.path = path
        self.from_step = from_step
        self._lock = RLock()
        self._unwritten: list[bytes] = []
        self._close: Callable[[], object] = lambda: None
        self._write({})

    def take(self, folder: Path) -> None:
        """Add the rows of a staged checkpoint. If the local disk is full, they stay in memory until there is room."""
        rows = read_rows(folder / LOG_FILE)
        with self._lock:
            self._unwritten.append(b"".join(map(_line, rows)))
            with suppress(OSError):
                self._append()

    def adopt(self, predecessor: Path, folders: Iterable[Path], below: float = math.inf) -> None:
        """Take over the rows of a dead session of this machine, and those of its staged folders.

        Rows from step ``below`` on do not count, because their checkpoints may be rolled back.
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
        """Return the piece that ends at ``to_step``: its first step and its rows."""
        with self._lock:
            rows = self._rows()
            rows += [fields.plain(line) for lines in self._unwritten for line in lines.splitlines()]
        chosen = {row["step"]: row for row in rows if self.from_step <= row["step"] < to_step}
        return self.from_step, b"".join(_line(chosen[step]) for step in sorted(chosen))

    def published(self, to_step: int) -> None:
        """Drop the rows that are uploaded now."""
        with self._lock, suppress(OSError):  # a file that keeps the old rows is longer, but correct
            self.from_step = to_step
            self._append()
            self._write({row["step"]: row for row in self._rows() if row["step"] >= to_step})

    def _append(self) -> None:
        self._restore_name()
        end = os.lseek(self._file, 0, os.SEEK_END)
        try:
            while self._unwritten:
                _write_all(self._file, self._unwritten[0])
                os.fsync(self._file)
                end += len(self._unwritten.pop(0))
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._file, end)  # an incomplete row would corrupt the next one
            raise

    def _restore_name(self) -> None:
        """Write the file again if it was deleted."""
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
            _close_quietly(file)
            raise
        self._close()
        self._file, self._close = file, weakref.finalize(self, _close_quietly, file)
        atomic.flush_folder(self.path.parent)  # without this, later rows could be flushed into a file without a name


def _close_quietly(file: int) -> None:
    """Close a file whose rows are flushed or not needed. An error of the close means nothing then."""
    with suppress(OSError):
        os.close(file)


def covers(path: Path) -> bool:
    """Return whether a dead session's file can be continued. Without its first line its range is unknown."""
    return _read(path)[0] is not None


def piece_name(number: int, from_step: int, to_step: int) -> str:
    """Return a piece's name. The name states its range, so that a listing is enough to join."""
    return f"log-{number:06d}-{from_step:09d}-{to_step:09d}.jsonl"


def next_number(store: Store, session: str) -> int:
    """Return the number of the next piece in a session's folder."""
    return 1 + max((number for number, _, _ in _pieces(store, session)), default=0)


def names(store: Store, session: str, from_step: int, to_step: int) -> list[str]:
    """Return the pieces of a session's folder whose names state the range ``[from_step, to_step)``."""
    covers = f"-{from_step:09d}-{to_step:09d}."
    return [name for _, _, name in _pieces(store, session) if covers in name]


def read(store: Store, run: RunPaths, manifests: Iterable[Manifest] = ()) -> Joined:
    """Return the rows of the whole run, sorted by step, each step once, and the gaps.

    Each piece is verified against ``manifests``, newest first. The time is linear in the rows of all pieces.
    """
    named = list(manifests)
    told = log_pieces.told_by(named)
    joined_ = Joined([], [])
    for session in reversed(_lineage(store, run, told)):
        part = _of_session(store, session)
        joined_.rows.extend(part.rows)
        joined_.gaps.extend(part.gaps)
        joined_.spans.extend(part.spans)
    joined_.gaps.extend(_uncovered(joined_.spans))
    joined_.gaps.sort(key=lambda gap: gap.from_step)
    if named:  # no checkpoint depends on rows beyond the newest one
        joined_.gaps[:] = [gap for gap in joined_.gaps if gap.from_step < named[0].id.step]
    return joined_


def joined(store: Store, run: RunPaths) -> Iterator[dict[str, Any]]:
    """Return the rows that ``read`` returns. Raises StoreError if a piece is visibly corrupt."""
    found = read(store, run)
    for gap in found.gaps:
        if gap.torn:
            raise StoreError(gap.why, "damaged")
    return iter(found.rows)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a step log file. An absent file has none."""
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
    """Return the complete JSON objects of a file. After a crash its last line may be incomplete."""
    try:
        return _whole_lines(path.read_bytes())
    except FileNotFoundError:
        return []


def _whole_lines(body: bytes) -> list[dict[str, Any]]:
    found = []
    for line in body.split(b"\n"):
        try:
            row = fields.plain(line)
        except ValueError:
            continue  # the incomplete last line of a killed process
        if isinstance(row, dict):
            found.append(row)
    return found


@dataclass(frozen=True, slots=True)
class Gap:
    """Missing rows of the steps ``[from_step, to_step)``. Steps that logged nothing are not missing."""

    from_step: int
    to_step: int
    why: str
    torn: bool = False

    def __str__(self) -> str:
        last = self.to_step - 1
        steps = f"steps {self.from_step:,} to {last:,}" if last > self.from_step else f"step {self.from_step:,}"
        return f"the rows of {steps} are missing: {self.why}"


@dataclass(frozen=True, slots=True)
class Span:
    """The steps that a piece covers. ``sure``: steps beside the piece that no piece covers have logged nothing.

    It is set if a manifest names all pieces, or if the piece itself has fewer rows than steps.
    """

    from_step: int
    to_step: int
    sure: bool


@dataclass(frozen=True, slots=True)
class Joined:
    """The joined log and its gaps."""

    rows: list[dict[str, Any]]
    gaps: list[Gap]
    spans: list[Span] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A piece and the paths of its copies. A drive may show one name twice, and one folder twice."""

    number: int
    from_step: int
    to_step: int
    paths: Sequence[str]
    digest: str = ""


@dataclass(frozen=True, slots=True)
class _Session:
    """The pieces of a session, which count below one step. ``told``: a manifest names them from the first on."""

    pieces: Sequence[_Piece]
    below: float = math.inf
    told: bool = False


def _lineage(store: Store, run: RunPaths, told: log_pieces.Told) -> list[_Session]:
    """Return the sessions that lead to the newest, newest first."""
    sessions = []
    for rank, folders in _sessions(store, run, told):
        named = told.get(str(rank), {})
        if pieces := _with_named_pieces(_copies(store, folders), named):
            sessions.append(_Session(pieces, told=any(piece.number == 1 for piece in named)))
    chosen: list[_Session] = []
    ends = [{piece.to_step for piece in session.pieces} for session in sessions]
    below, index = math.inf, len(sessions) - 1
    while index >= 0 and below > 0:
        chosen.append(replace(sessions[index], below=below))
        below = min(piece.from_step for piece in sessions[index].pieces)
        older = range(index - 1, -1, -1)
        index = next((each for each in older if below in ends[each]), index - 1)
    return chosen


def _with_named_pieces(found: list[_Piece], named: Mapping[log_pieces.LogPiece, str]) -> list[_Piece]:
    """Add the pieces that a manifest names, also those that are not in the store any more."""
    there = {log_pieces.LogPiece(each.number, each.from_step, each.to_step): each for each in found}
    absent = {each: _Piece(each.number, each.from_step, each.to_step, ()) for each in named.keys() - there.keys()}
    pieces = {**there, **absent}
    return [replace(pieces[each], digest=named.get(each, "")) for each in sorted(pieces)]


def _of_session(store: Store, session: _Session) -> Joined:
    """Return the rows of one session. Each piece replaces the rows from its first step on.

    A corrupt piece is harmless if a later one starts no later: its upload was tried again.
    """
    rows: list[dict[str, Any]] = []
    found = Joined(rows, [])
    for piece in session.pieces:
        if piece.from_step >= session.below:
            continue
        to_step = int(min(piece.to_step, session.below))
        del rows[bisect_left(rows, piece.from_step, key=_step) :]
        found.gaps[:] = [each for each in found.gaps if each.from_step < piece.from_step]
        found.spans[:] = [each for each in found.spans if each.from_step < piece.from_step]
        try:
            mine = _rows_of(store, piece)
        except ValueError as error:
            torn = not isinstance(error, _WrongPiece)
            words = f"is damaged: {error}" if torn else str(error)
            found.gaps.append(Gap(piece.from_step, to_step, f"{log_name(piece)} {words}", torn))
            found.spans.append(Span(piece.from_step, to_step, sure=True))
            continue
        mine = [row for row in mine if row["step"] < session.below]
        sure = session.told or len(mine) < to_step - piece.from_step
        found.spans.append(Span(piece.from_step, to_step, sure))
        rows.extend(mine)
    return found


def _uncovered(spans: Iterable[Span]) -> Iterator[Gap]:
    """Yield the steps that no piece covers, unless they are known to have logged nothing."""
    ended, sure = 0, False
    for span in spans:
        if span.from_step > ended and not (sure or span.sure):
            yield Gap(ended, span.from_step, "no piece of the step log covers them")
        ended, sure = span.to_step, span.sure


class _WrongPiece(ValueError):  # noqa: N818, because it describes the piece
    """A readable piece is not the expected one."""


def _rows_of(store: Store, piece: _Piece) -> list[dict[str, Any]]:
    """Return the sorted rows of a piece. Raises ValueError with the reason if it is unusable.

    The copy with the digest of the manifest counts. Without a digest the longest counts, because an incomplete copy is
    a shorter one.
    """
    if not piece.paths:
        raise _WrongPiece("is not there")
    bodies = [store.read(path) for path in piece.paths]
    right = [body for body in bodies if piece.digest and _is(body, piece.digest)]
    body = right[0] if right else max(bodies, key=len)
    if not body.strip():
        raise _WrongPiece("is empty")
    rows = sorted(_rows(body), key=_step)
    if piece.digest and not right:
        raise _WrongPiece("is not what was written")
    if not all(piece.from_step <= row["step"] < piece.to_step for row in rows):
        raise _WrongPiece("has rows of other steps")
    return rows


def log_name(piece: _Piece) -> str:
    """Return the path of a piece for messages."""
    return piece.paths[0] if piece.paths else piece_name(piece.number, piece.from_step, piece.to_step)


def _is(body: bytes, told: str) -> bool:
    return log_pieces.short(digest_of((body,), log_pieces.algorithm(told))) == told


def _sessions(store: Store, run: RunPaths, told: log_pieces.Told) -> list[tuple[SessionId, list[str]]]:
    """Return the folders of each session, oldest first. A drive may show one session as several folders.

    A session that only a manifest names counts too.
    """
    found: dict[SessionId, list[str]] = {rank: [] for each in told if (rank := parse_session_id(each))}
    for entry in store.list(run.name):
        if rank := parse_session_id(entry.name):
            found.setdefault(rank, []).append(f"{run.name}/{entry.name}")
    return [(rank, found[rank]) for rank in sorted(found)]


def _copies(store: Store, folders: list[str]) -> list[_Piece]:
    """Return the pieces of one session in order."""
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
            row = fields.plain(line)
            if isinstance(row, dict) and type(row.get("step")) is int:
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
