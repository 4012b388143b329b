"""Which tensors do not change: a frozen backbone, an embedding that is not trained. They get files of their own.

Such a file is the same, byte for byte, from save to save, so that it need not be written again, nor sent to the drive.
Measured, never guessed: every tensor's digest is compared with the save before, until it is clear whether any stay the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.digest import XXH3, digest_of, preferred

if TYPE_CHECKING:
    from collections.abc import Container, Mapping
    from pathlib import Path

    from supervisor.trainer.layout import Piece
    from supervisor.trainer.snapshot import Snapshot
    from supervisor.trainer.writer import Record

LEAF_BYTES_MIN = 64 * 1024  # smaller ones are not worth a digest each
SHARE_MIN = 0.05  # of the state, below which a file of their own is not worth its place
SAVES_WATCHED = 3  # a tensor that was the same in so many saves is taken for still
WATCH_AGAIN_SAVES = 50  # a schedule may freeze some later


class Stillness:
    """``leaves`` are still; ``changed`` says that this is news since the files were laid out. For one thread at a time."""

    def __init__(self) -> None:
        self.leaves: frozenset[str] = frozenset()
        self.changed = False
        self._saves = 0
        self._same: dict[str, str] = {}  # digests of the leaves that have not changed since the watch began
        self._newest: tuple[Path, Mapping[str, Record]] | None = None

    def before(self, piece: Piece) -> tuple[Path, Record] | None:
        """Return the file of the save before, and its record, that this still piece may be equal to."""
        if not piece.still or self._newest is None or piece.name not in self._newest[1]:
            return None
        folder, records = self._newest
        return folder / piece.name, records[piece.name]

    def staged(self, folder: Path, records: Mapping[str, Record]) -> None:
        """A checkpoint lies in ``folder``."""
        self._newest = folder, records

    def look(self, snapshot: Snapshot) -> None:
        """Compare a snapshot with the ones before, and draw the conclusion once enough were seen."""
        if preferred() != XXH3:
            return  # without the fast digest it would cost more than it saves
        turn = self._saves % WATCH_AGAIN_SAVES
        self._saves += 1
        if turn == 0:
            self._same = _digests(snapshot, {leaf for leaf, size in _sizes(snapshot).items() if size >= LEAF_BYTES_MIN})
        elif self._same:
            found = _digests(snapshot, self._same)
            self._same = {leaf: digest for leaf, digest in found.items() if self._same[leaf] == digest}
            if turn >= SAVES_WATCHED - 1:
                self._conclude(snapshot)

    def _conclude(self, snapshot: Snapshot) -> None:
        sizes = _sizes(snapshot)
        if sum(sizes[leaf] for leaf in self._same) < SHARE_MIN * snapshot.layout.bytes:
            self._same = {}
        self.changed = self.changed or self.leaves != self._same.keys()
        self.leaves = frozenset(self._same)


def _sizes(snapshot: Snapshot) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for piece in snapshot.layout.pieces:
        for part in piece.parts:
            sizes[part.leaf] = sizes.get(part.leaf, 0) + part.bytes
    return sizes


def _digests(snapshot: Snapshot, only: Container[str]) -> dict[str, str]:
    found: dict[str, list[memoryview]] = {}
    for piece in snapshot.layout.pieces:
        data = snapshot.bytes_of(piece)[len(piece.header) :]
        for part in piece.parts:
            if part.leaf in only:
                found.setdefault(part.leaf, []).append(data[part.begin : part.begin + part.bytes])
    return {leaf: digest_of(views, XXH3) for leaf, views in found.items()}
