"""The outbox of a machine: cuts each new file of its store into parts, until the computer has acknowledged it.

Theory of operation. The state lies in two places only, so the agent may be killed at any point. The parts in transit
lie in the outbox. The computer's acknowledgements are in a log beside the store.
"""

from __future__ import annotations

import os
from math import inf
from typing import TYPE_CHECKING, Any

from supervisor.core.checkpoint.manifest import MANIFEST_NAME
from supervisor.core.digest import digest_of, preferred
from supervisor.core.frozen import dataclass
from supervisor.core.wire import acks
from supervisor.engine import atomic
from supervisor.engine.clock import BootClock
from supervisor.fleet.transfer import part as transfer_part
from supervisor.fleet.transfer.send_order import (
    FileToSend,
    is_of_checkpoint,
    newest_first,
    order,
    paths_of_manifest,
    scan,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from supervisor.core.ports import Clock

WINDOW_BYTES = 8 * transfer_part.BYTES_MAX
ORIGIN = "origin"
SMALL_BYTES = 1_000_000
SMALL_IN_FLIGHT_MAX = 2  # small parts in transit, so that large ones have a place among the eight
CHUNK_BYTES = 4 * 1024 * 1024
GAP_S = 150.0  # time without an acknowledgement: more than two of the computer's longest pauses
REPLACED_AFTER_S = 15.0  # minimum age of an announced part, because it may be being fetched


@dataclass(frozen=True, slots=True)
class _Sent:
    """A part in transit and its content. ``cut_s``: when it was made, by the boot clock."""

    part: transfer_part.TransferPart
    pieces: Sequence[transfer_part.FileChunk]
    cut_s: float = -inf

    @property
    def small(self) -> bool:
        return self.part.bytes < SMALL_BYTES


class Outbox:
    """Parts in ``folder`` for the files of the store at ``root``."""

    def __init__(self, folder: Path, root: Path, clock: Clock | None = None) -> None:
        self.acknowledged = acks.AckLog()
        self._clock = clock or BootClock()
        self._last_ack_s = -inf
        self._named: dict[str, set[str]] = {}
        self._front: set[str] = set()
        self._folder, self._root = folder, root
        self._list = root.parent / acks.NAME
        folder.mkdir(parents=True, exist_ok=True)
        root.parent.mkdir(parents=True, exist_ok=True)
        self.origin = _origin(folder / ORIGIN)
        self._sent: dict[int, _Sent] = {}
        self._last = 0  # number of the newest part: a removed one may still be in transit under an older number
        self._files: dict[str, FileToSend] = {}
        self._digests: dict[str, str] = {}
        self.error = ""
        self._load()

    @property
    def ready(self) -> list[tuple[int, transfer_part.TransferPart]]:
        """The parts to fetch, with their numbers, in order."""
        return [(number, self._sent[number].part) for number in sorted(self._sent, key=self._place)]

    def _place(self, number: int) -> tuple[tuple[int, int, int], int]:
        return min(order(piece.path, self._front)[:3] for piece in self._sent[number].pieces), number

    def waiting(self) -> tuple[int, int]:
        """Return the number of files, and of bytes, that the computer has not acknowledged."""
        return len(self._files), sum(file.bytes for file in self._files.values())

    def refused(self) -> dict[str, str]:
        """Return the files that the computer rejects, and the reasons."""
        return dict(self.acknowledged.refused)

    def scan(self) -> None:
        """Find new and removed files of the store."""
        known = self.acknowledged
        self._files = scan(self._root, lambda path: path in known.held or path in known.refused, self._files)

    def cut(self) -> None:
        """Make parts of new files while there is room; parts of older checkpoints are replaced. Raises OSError."""
        first = self._front = self._first()
        self._replace(first)
        while sum(sent.part.bytes for sent in self._sent.values()) + transfer_part.BYTES_MAX <= WINDOW_BYTES:
            filled = next(transfer_part.fill_parts(self._pieces(first)), [])
            pieces = [each for each in filled if each.path in first or not is_of_checkpoint(each.path)] or filled
            small = sum(piece.bytes for piece in pieces) < SMALL_BYTES and first.isdisjoint(
                each.path for each in pieces
            )
            if not pieces or (small and sum(sent.small for sent in self._sent.values()) >= SMALL_IN_FLIGHT_MAX):
                return
            self._write(pieces)

    def _first(self) -> set[str]:
        """Return the files to send first: of a checkpoint in transit, else of the newest.

        After a gap without an acknowledgement the newest always goes first.
        """
        known = self.acknowledged
        manifests = newest_first(self._files)
        self._named = {path: self._named.get(path) or paths_of_manifest(self._root, path) for path in manifests}
        if self._clock.now().mono_s - self._last_ack_s < GAP_S:
            for path in manifests:
                folder = path.rpartition("/")[0]
                own = [each for each in self._named[path] if each.startswith(f"{folder}/")]
                if any(each in known.held or known.pieces.get(each) for each in own):
                    return self._named[path] - known.held
        return self._named[manifests[0]] - known.held if manifests else set()

    def _replace(self, first: Collection[str]) -> None:
        """Drop parts of older checkpoints that were not fetched for a while, to make room for ``first``."""
        if not first:
            return
        now_s = self._clock.now().mono_s
        for number, sent in list(self._sent.items()):
            paths = {piece.path for piece in sent.pieces}
            older = any(is_of_checkpoint(path) for path in paths) and paths.isdisjoint(first)
            if older and now_s - sent.cut_s >= REPLACED_AFTER_S:
                self._last = max((self._last, *self._sent))
                self._sent.pop(number).part.file.unlink(missing_ok=True)

    def restore(self) -> bool:
        """Make the folder again if it was removed; its content is cut again. Return True if it was."""
        if (self._folder / ORIGIN).exists():
            return False
        self._folder.mkdir(exist_ok=True)
        self._last = max((self._last, *self._sent))
        self._sent = {number: sent for number, sent in self._sent.items() if sent.part.file.exists()}
        _origin(self._folder / ORIGIN, self.origin)
        return True

    def apply_ack(self, letter: transfer_part.Acknowledgement) -> None:
        """Apply an acknowledgement; ignore one for another outbox."""
        if letter.to != self.origin:
            return
        self._last_ack_s = self._clock.now().mono_s
        record = {"held": list(letter.held), "refused": dict(letter.refused), "wanted": list(letter.wanted)}
        arrived = sorted({number for number in letter.parcels if number in self._sent})
        for number in arrived:
            pieces = [(piece.path, piece.offset) for piece in self._sent[number].pieces]
            self._note(acks.received(number, pieces))
        self._note(record)
        for number in arrived:
            self._sent.pop(number).part.file.unlink(missing_ok=True)
        for path in letter.wanted:
            self._digests.pop(path, None)

    def mark_received(self, paths: Collection[str]) -> None:
        """Note that the computer has these files: it sent them."""
        if lacking := sorted(set(paths) - self.acknowledged.held):
            self._note({"held": lacking})

    def _load(self) -> None:
        """Restore the state of an earlier agent; interrupted work is repeated."""
        if self._list.exists():
            body = self._list.read_bytes()
            self.acknowledged.read(body)
            if body and not body.endswith(b"\n"):
                self._append(b"\n")  # ends the line that was interrupted by a kill, which then has no meaning
        for file in sorted(self._folder.iterdir()):
            if file.suffix != transfer_part.SUFFIX:
                if file.name.startswith(".new-"):
                    file.unlink()
                continue
            try:
                opened = transfer_part.read(file)
            except transfer_part.TransferPartError:
                file.unlink()
                continue
            number = opened.header.number
            if number in self.acknowledged.parcels:
                file.unlink()
                continue
            part = transfer_part.TransferPart(file, f"outbox/{file.name}", file.stat().st_size, opened.sha256)
            self._sent[number] = _Sent(part, opened.header.pieces)

    def _pieces(self, first: Collection[str]) -> Iterator[transfer_part.FileChunk]:
        """Yield the chunks to send, in order: neither acknowledged nor in transit."""
        for file, offset in self._missing_offsets(first):
            try:
                digest = self._digest(file)
            except FileNotFoundError:
                continue  # pruned: newer ones are safe
            except OSError as error:
                self.error = f"{file.path} cannot be read: {error.strerror or error}"
                continue  # the other files are sent anyway
            length = min(transfer_part.CONTENT_BYTES_MAX, file.bytes - offset)
            yield transfer_part.FileChunk(file.path, offset, length, file.bytes, digest)

    def _missing_offsets(self, first: Collection[str]) -> Iterator[tuple[FileToSend, int]]:
        """Yield the offsets of the chunks to send."""
        in_flight_offsets = {(piece.path, piece.offset) for sent in self._sent.values() for piece in sent.pieces}
        for path in sorted(self._files, key=lambda each: order(each, first)):
            file = self._files[path]
            if not self._is_sendable(file):
                continue
            offsets = range(0, max(1, file.bytes), transfer_part.CONTENT_BYTES_MAX)
            arrived = self.acknowledged.pieces.get(path, set())
            in_flight = [offset for offset in offsets if (path, offset) in in_flight_offsets]
            if not in_flight and arrived.issuperset(offsets):
                self._note({"wanted": [path]})  # all of it was fetched, and the computer has lost some: send it again
                arrived = set()
            yield from ((file, offset) for offset in offsets if offset not in arrived and offset not in in_flight)

    def _is_sendable(self, file: FileToSend) -> bool:
        """Return True if a manifest may go: only when the computer has all its files, so that no partial checkpoint shows."""
        if not MANIFEST_NAME.fullmatch(file.path.rpartition("/")[2]):
            return True
        return paths_of_manifest(self._root, file.path) <= self.acknowledged.held

    def _digest(self, file: FileToSend) -> str:
        if file.path not in self._digests:
            with (self._root / file.path).open("rb", buffering=0) as opened:
                self._digests[file.path] = digest_of(iter(lambda: opened.read(CHUNK_BYTES), b""), preferred())
        return self._digests[file.path]

    def _write(self, pieces: Sequence[transfer_part.FileChunk]) -> None:
        number = 1 + max((self._last, *self._sent, *self.acknowledged.parcels))
        file = self._folder / f"{number:06d}{transfer_part.SUFFIX}"
        bodies = (transfer_part.body(self._root / piece.path, piece) for piece in pieces)
        try:
            part = transfer_part.write(
                file, f"outbox/{file.name}", transfer_part.PartHeader(number, self.origin, pieces), bodies
            )
        except FileNotFoundError:
            self.scan()  # pruned in between
            return
        self._sent[number] = _Sent(part, pieces, self._clock.now().mono_s)

    def _note(self, record: Mapping[str, Any]) -> None:
        if any(each not in ([], {}) for each in record.values()):
            self._append(acks.line(record))
            self.acknowledged.take(record)

    def _append(self, line: bytes) -> None:
        with self._list.open("ab", buffering=0) as listed:
            listed.write(line)


def _origin(file: Path, name: str = "") -> str:
    """Return this outbox's random name, made once."""
    if not file.exists():
        atomic.replace(file, (name or os.urandom(8).hex()).encode())
    return file.read_text()
