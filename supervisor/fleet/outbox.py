"""The outbox of a machine: every new file of its store is cut into parcels for the user's computer until that holds it whole.

What is known lies in two places and nowhere else, so that the agent may be killed at any instruction: the parcels that are
on their way lie in the outbox, and what the computer has said is in the acknowledged list beside the store.
"""

from __future__ import annotations

import os
from math import inf
from typing import TYPE_CHECKING, Any

from supervisor.core import relayed
from supervisor.core.checkpoint import MANIFEST_NAME
from supervisor.core.digest import digest_of, preferred
from supervisor.core.values import dataclass
from supervisor.engine.clock import BootClock
from supervisor.fleet import parcels
from supervisor.fleet.sending import File, found, is_of_checkpoint, named_by, newest_first, order

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from supervisor.core.ports import Clock

WINDOW_BYTES = 8 * parcels.BYTES_MAX
ORIGIN = "origin"
SMALL_BYTES = 1_000_000
SMALL_AT_ONCE = 2  # parcels as small as that on their way, so that large ones have their place among the eight
CHUNK_BYTES = 4 * 1024 * 1024
GAP_S = 150.0  # without a word from the computer: more than two of its longest pauses
REPLACED_AFTER_S = 15.0  # so long a parcel that was told of stays, because it may be fetched just now


@dataclass(frozen=True, slots=True)
class _Sent:
    """A parcel on its way and what is in it; ``cut_s``: since when, by the boot clock."""

    parcel: parcels.Parcel
    pieces: Sequence[parcels.Piece]
    cut_s: float = -inf

    @property
    def small(self) -> bool:
        return self.parcel.bytes < SMALL_BYTES


class Outbox:
    """Parcels in ``folder`` for what lies in the store at ``root``."""

    def __init__(self, folder: Path, root: Path, clock: Clock | None = None) -> None:
        self.acknowledged = relayed.Acknowledged()
        self._clock = clock or BootClock()
        self._heard_s = -inf
        self._named: dict[str, set[str]] = {}
        self._front: set[str] = set()
        self._folder, self._root = folder, root
        self._list = root.parent / relayed.NAME
        folder.mkdir(parents=True, exist_ok=True)
        root.parent.mkdir(parents=True, exist_ok=True)
        self.origin = _origin(folder / ORIGIN)
        self._sent: dict[int, _Sent] = {}
        self._last = 0  # the number of the newest parcel: what was removed may still be on its way under an older one
        self._files: dict[str, File] = {}
        self._digests: dict[str, str] = {}
        self.trouble = ""
        self._load()

    @property
    def ready(self) -> list[tuple[int, parcels.Parcel]]:
        """The parcels that wait to be fetched, with their numbers, in the order in which they are to be."""
        return [(number, self._sent[number].parcel) for number in sorted(self._sent, key=self._place)]

    def _place(self, number: int) -> tuple[tuple[int, int, int], int]:
        return min(order(piece.path, self._front)[:3] for piece in self._sent[number].pieces), number

    def waiting(self) -> tuple[int, int]:
        """Return how many files, and how many bytes, the computer does not hold yet."""
        return len(self._files), sum(file.bytes for file in self._files.values())

    def refused(self) -> dict[str, str]:
        """Return what the computer does not take, and why."""
        return dict(self.acknowledged.refused)

    def scan(self) -> None:
        """See what is new in the store, and what went."""
        known = self.acknowledged
        self._files = found(self._root, lambda path: path in known.held or path in known.refused, self._files)

    def cut(self) -> None:
        """Make parcels of what is new, as many as there is room for; those of older checkpoints give way. Raises OSError."""
        first = self._front = self._first()
        self._replace(first)
        while sum(sent.parcel.bytes for sent in self._sent.values()) + parcels.BYTES_MAX <= WINDOW_BYTES:
            filled = next(parcels.filled(self._pieces(first)), [])
            pieces = [each for each in filled if each.path in first or not is_of_checkpoint(each.path)] or filled
            small = sum(piece.bytes for piece in pieces) < SMALL_BYTES and first.isdisjoint(
                each.path for each in pieces
            )
            if not pieces or (small and sum(sent.small for sent in self._sent.values()) >= SMALL_AT_ONCE):
                return
            self._write(pieces)

    def _first(self) -> set[str]:
        """Return the files to send before other checkpoints: of one that is under way, else of the newest.

        After a gap, in which the computer has not been heard, the newest goes first in any case.
        """
        known = self.acknowledged
        manifests = newest_first(self._files)
        self._named = {path: self._named.get(path) or named_by(self._root, path) for path in manifests}
        if self._clock.now().mono_s - self._heard_s < GAP_S:
            for path in manifests:
                folder = path.rpartition("/")[0]
                own = [each for each in self._named[path] if each.startswith(f"{folder}/")]
                if any(each in known.held or known.pieces.get(each) for each in own):
                    return self._named[path] - known.held
        return self._named[manifests[0]] - known.held if manifests else set()

    def _replace(self, first: Collection[str]) -> None:
        """Drop parcels of older checkpoints that nobody has fetched for a while, so that what goes first has their place."""
        if not first:
            return
        now_s = self._clock.now().mono_s
        for number, sent in list(self._sent.items()):
            paths = {piece.path for piece in sent.pieces}
            older = any(is_of_checkpoint(path) for path in paths) and paths.isdisjoint(first)
            if older and now_s - sent.cut_s >= REPLACED_AFTER_S:
                self._last = max((self._last, *self._sent))
                self._sent.pop(number).parcel.file.unlink(missing_ok=True)

    def mend(self) -> bool:
        """Make the folder again where it was removed; what lay in it is cut once more. Say whether it was."""
        if (self._folder / ORIGIN).exists():
            return False
        self._folder.mkdir(exist_ok=True)
        self._last = max((self._last, *self._sent))
        self._sent = {number: sent for number, sent in self._sent.items() if sent.parcel.file.exists()}
        _origin(self._folder / ORIGIN, self.origin)
        return True

    def hear(self, letter: parcels.Letter) -> None:
        """Take what the computer says; what is meant for another outbox is left alone."""
        if letter.to != self.origin:
            return
        self._heard_s = self._clock.now().mono_s
        told = {"held": list(letter.held), "refused": dict(letter.refused), "wanted": list(letter.wanted)}
        arrived = sorted({number for number in letter.parcels if number in self._sent})
        for number in arrived:
            pieces = [(piece.path, piece.offset) for piece in self._sent[number].pieces]
            self._tell(relayed.arrived(number, pieces))
        self._tell(told)
        for number in arrived:
            self._sent.pop(number).parcel.file.unlink(missing_ok=True)
        for path in letter.wanted:
            self._digests.pop(path, None)

    def hold(self, paths: Collection[str]) -> None:
        """Know that the computer holds these: they came from there."""
        if lacking := sorted(set(paths) - self.acknowledged.held):
            self._tell({"held": lacking})

    def _load(self) -> None:
        """Take up what an earlier agent left; what it was killed in is made anew."""
        if self._list.exists():
            body = self._list.read_bytes()
            self.acknowledged.read(body)
            if body and not body.endswith(b"\n"):
                self._append(b"\n")  # ends the line that it was killed in, which then tells nothing
        for file in sorted(self._folder.iterdir()):
            if file.suffix != parcels.SUFFIX:
                if file.name.startswith(".new-"):
                    file.unlink()
                continue
            try:
                opened = parcels.read(file)
            except parcels.ParcelError:
                file.unlink()
                continue
            number = opened.header.number
            if number in self.acknowledged.parcels:
                file.unlink()
                continue
            parcel = parcels.Parcel(file, f"outbox/{file.name}", file.stat().st_size, opened.sha256)
            self._sent[number] = _Sent(parcel, opened.header.pieces)

    def _pieces(self, first: Collection[str]) -> Iterator[parcels.Piece]:
        """Yield the pieces that are neither there nor on their way, in the order in which they are to go."""
        for file, offset in self._lacking(first):
            try:
                digest = self._digest(file)
            except FileNotFoundError:
                continue  # retention removed it: newer ones are safe
            except OSError as error:
                self.trouble = f"{file.path} cannot be read: {error.strerror or error}"
                continue  # the others go all the same
            length = min(parcels.CONTENT_BYTES_MAX, file.bytes - offset)
            yield parcels.Piece(file.path, offset, length, file.bytes, digest)

    def _lacking(self, first: Collection[str]) -> Iterator[tuple[File, int]]:
        """Yield the offsets of pieces to send."""
        on_the_way = {(piece.path, piece.offset) for sent in self._sent.values() for piece in sent.pieces}
        for path in sorted(self._files, key=lambda each: order(each, first)):
            file = self._files[path]
            if not self._may_go(file):
                continue
            offsets = range(0, max(1, file.bytes), parcels.CONTENT_BYTES_MAX)
            arrived = self.acknowledged.pieces.get(path, set())
            going = [offset for offset in offsets if (path, offset) in on_the_way]
            if not going and arrived.issuperset(offsets):
                self._tell({"wanted": [path]})  # all of it was fetched, and the computer has lost some: once more
                arrived = set()
            yield from ((file, offset) for offset in offsets if offset not in arrived and offset not in going)

    def _may_go(self, file: File) -> bool:
        """A manifest goes only when the computer holds all that it names, so that it never shows a part of a checkpoint."""
        if not MANIFEST_NAME.fullmatch(file.path.rpartition("/")[2]):
            return True
        return named_by(self._root, file.path) <= self.acknowledged.held

    def _digest(self, file: File) -> str:
        if file.path not in self._digests:
            with (self._root / file.path).open("rb", buffering=0) as opened:
                self._digests[file.path] = digest_of(iter(lambda: opened.read(CHUNK_BYTES), b""), preferred())
        return self._digests[file.path]

    def _write(self, pieces: Sequence[parcels.Piece]) -> None:
        number = 1 + max((self._last, *self._sent, *self.acknowledged.parcels))
        file = self._folder / f"{number:06d}{parcels.SUFFIX}"
        bodies = (parcels.body(self._root / piece.path, piece) for piece in pieces)
        try:
            parcel = parcels.write(file, f"outbox/{file.name}", parcels.Header(number, self.origin, pieces), bodies)
        except FileNotFoundError:
            self.scan()  # retention removed one of them in between
            return
        self._sent[number] = _Sent(parcel, pieces, self._clock.now().mono_s)

    def _tell(self, told: Mapping[str, Any]) -> None:
        if any(each not in ([], {}) for each in told.values()):
            self._append(relayed.line(told))
            self.acknowledged.take(told)

    def _append(self, line: bytes) -> None:
        with self._list.open("ab", buffering=0) as listed:
            listed.write(line)


def _origin(file: Path, name: str = "") -> str:
    """Return this outbox's random name, made once."""
    if not file.exists():
        beside = file.with_name(f".new-{ORIGIN}")
        beside.write_text(name or os.urandom(8).hex())
        beside.replace(file)
    return file.read_text()
