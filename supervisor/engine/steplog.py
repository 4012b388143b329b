"""The step log over all machines: rows of staged checkpoints here, pieces in the store, one joined curve for readers.

A piece covers the steps ``[from, to)`` and is written before the manifest of the checkpoint at ``to``. Joining takes
the pieces in the order (epoch, number): each cuts what is known at its ``from`` and adds its rows. So what was
computed twice appears once, and what is DURABLE has its rows.
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

from supervisor.core import fields, log_pieces
from supervisor.core.claim import Rank, rank_of
from supervisor.core.content import LOG_FILE
from supervisor.core.digest import digest_of
from supervisor.core.ports import StoreError
from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from supervisor.core.checkpoint import Manifest
    from supervisor.core.ports import Store
    from supervisor.engine.place import RunPlace

PIECE = log_pieces.NAME


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
            rows += [fields.plain(line) for lines in self._unwritten for line in lines.splitlines()]
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
            _let_go(file)
            raise
        self._close()
        self._file, self._close = file, weakref.finalize(self, _let_go, file)
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)  # or rows that are added next would be flushed into a file without a name
        finally:
            os.close(folder)


def _let_go(file: int) -> None:
    """Close a file whose rows are flushed, or that nothing rests on: an error of it tells nothing."""
    with suppress(OSError):
        os.close(file)


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


def read(store: Store, run: RunPlace, manifests: Iterable[Manifest] = ()) -> Joined:
    """Return the rows of the whole run in order of their steps, each step at most once, and what is missing of them.

    They are those of the newest session that has any, and below its first step those of the session it went on from:
    which is not always the one before it, because what that one did may never have become a checkpoint. Each piece is
    held to what the ``manifests``, newest first, tell of it. The time it takes is linear in the rows of all pieces.
    """
    named = list(manifests)
    told = log_pieces.told_by(named)
    joined_ = Joined([], [])
    for session in reversed(_lineage(store, run, told)):
        part = _of_session(store, session)
        joined_.rows.extend(part.rows)
        joined_.gaps.extend(part.gaps)
        joined_.spans.extend(part.spans)
    joined_.gaps.extend(_unexplained(joined_.spans))
    joined_.gaps.sort(key=lambda gap: gap.from_step)
    if named:  # what lies beyond the newest checkpoint was never promised
        joined_.gaps[:] = [gap for gap in joined_.gaps if gap.from_step < named[0].id.step]
    return joined_


def joined(store: Store, run: RunPlace) -> Iterator[dict[str, Any]]:
    """Return the rows that ``read`` does. StoreError: a piece is damaged, as far as it shows by itself."""
    found = read(store, run)
    for gap in found.gaps:
        if gap.torn:
            raise StoreError(gap.why, "damaged")
    return iter(found.rows)


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
            row = fields.plain(line)
        except ValueError:
            continue  # the torn last line of a process that was killed while it wrote
        if isinstance(row, dict):
            found.append(row)
    return found


@dataclass(frozen=True, slots=True)
class Gap:
    """Rows that are not there: those of the steps ``[from_step, to_step)``, as far as they had logged anything."""

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
    """The steps that a piece covers. ``sure``: what is not covered beside them had logged nothing.

    Because a manifest tells of all pieces, or because not every one of its own steps has a row either.
    """

    from_step: int
    to_step: int
    sure: bool


@dataclass(frozen=True, slots=True)
class Joined:
    """The joined log, and what is missing of it."""

    rows: list[dict[str, Any]]
    gaps: list[Gap]
    spans: list[Span] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A piece and the paths of its copies: a drive may show one name twice, and one folder."""

    number: int
    from_step: int
    to_step: int
    paths: Sequence[str]
    digest: str = ""


@dataclass(frozen=True, slots=True)
class _Session:
    """The pieces of a session, and the step below which they count; ``told``: a manifest says which there are, from the first on."""

    pieces: Sequence[_Piece]
    below: float = math.inf
    told: bool = False


def _lineage(store: Store, run: RunPlace, told: log_pieces.Told) -> list[_Session]:
    """Return the sessions that lead to the newest, newest first.

    A session goes on from where a piece of an older one ended, the newest that did.
    """
    sessions = []
    for rank, folders in _sessions(store, run, told):
        named = told.get(str(rank), {})
        if pieces := _with_told(_copies(store, folders), named):
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


def _with_told(found: list[_Piece], named: Mapping[log_pieces.Piece, str]) -> list[_Piece]:
    """Add what is told of the pieces, also of those that are not there any more."""
    there = {log_pieces.Piece(each.number, each.from_step, each.to_step): each for each in found}
    absent = {each: _Piece(each.number, each.from_step, each.to_step, ()) for each in named.keys() - there.keys()}
    pieces = {**there, **absent}
    return [replace(pieces[each], digest=named.get(each, "")) for each in sorted(pieces)]


def _of_session(store: Store, session: _Session) -> Joined:
    """Return the rows of one session: each piece cuts what is known at its first step, because the trainer began again there.

    A piece that is damaged does not matter if a later one begins no later: its upload was tried again.
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
            torn = not isinstance(error, _Lacking)
            words = f"is damaged: {error}" if torn else str(error)
            found.gaps.append(Gap(piece.from_step, to_step, f"{log_name(piece)} {words}", torn))
            found.spans.append(Span(piece.from_step, to_step, sure=True))
            continue
        mine = [row for row in mine if row["step"] < session.below]
        sure = session.told or len(mine) < to_step - piece.from_step
        found.spans.append(Span(piece.from_step, to_step, sure))
        rows.extend(mine)
    return found


def _unexplained(spans: Iterable[Span]) -> Iterator[Gap]:
    """Yield the steps that no piece covers between two parts of the log, where nothing else explains that."""
    ended, sure = 0, False
    for span in spans:
        if span.from_step > ended and not (sure or span.sure):
            yield Gap(ended, span.from_step, "no piece of the step log covers them")
        ended, sure = span.to_step, span.sure


class _Lacking(ValueError):  # noqa: N818, because it is what is found
    """A piece that can be read is not the one that is looked for."""


def _rows_of(store: Store, piece: _Piece) -> list[dict[str, Any]]:
    """Return the rows of a piece in order. ValueError says what is wrong with it.

    Of several copies the one that is told of counts; where none is, the longest, because a torn one is a short one.
    """
    if not piece.paths:
        raise _Lacking("is not there")
    bodies = [store.read(path) for path in piece.paths]
    right = [body for body in bodies if piece.digest and _is(body, piece.digest)]
    body = right[0] if right else max(bodies, key=len)
    if not body.strip():
        raise _Lacking("is empty")
    rows = sorted(_rows(body), key=_step)
    if piece.digest and not right:
        raise _Lacking("is not what was written")
    if not all(piece.from_step <= row["step"] < piece.to_step for row in rows):
        raise _Lacking("has rows of other steps")
    return rows


def log_name(piece: _Piece) -> str:
    """Return where a piece lies, for words."""
    return piece.paths[0] if piece.paths else piece_name(piece.number, piece.from_step, piece.to_step)


def _is(body: bytes, told: str) -> bool:
    return log_pieces.short(digest_of((body,), log_pieces.algorithm(told))) == told


def _sessions(store: Store, run: RunPlace, told: log_pieces.Told) -> list[tuple[Rank, list[str]]]:
    """Return the folders of each session, oldest first: more than one where a drive made one of them twice.

    One that is told of and has none any more counts too.
    """
    found: dict[Rank, list[str]] = {rank: [] for each in told if (rank := rank_of(each))}
    for entry in store.list(run.name):
        if rank := rank_of(entry.name):
            found.setdefault(rank, []).append(f"{run.name}/{entry.name}")
    return [(rank, found[rank]) for rank in sorted(found)]


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
