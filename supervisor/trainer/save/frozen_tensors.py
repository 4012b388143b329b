"""Detects tensors that do not change, such as a frozen backbone. They get files of their own.

Such a file is byte-identical from save to save, so that it needs no second write and no upload. Measured, never guessed: every
tensor's digest is compared with that of the save before, until the result is clear.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.digest import XXH3, digest_of, preferred

if TYPE_CHECKING:
    from collections.abc import Container, Mapping
    from pathlib import Path

    from supervisor.trainer.save.layout import TensorExtent
    from supervisor.trainer.save.snapshot import Snapshot
    from supervisor.trainer.save.writer import Record

LEAF_BYTES_MIN = 64 * 1024  # smaller ones are not worth a digest each
SHARE_MIN = 0.05  # of the state, below which a file of their own is not worth its place
SAVES_TO_CONFIRM = 3  # a tensor that was the same in so many saves is taken for still
RECHECK_SAVES = 50  # a schedule may freeze some later


class FrozenTensorDetector:
    """``leaves`` are frozen.

    ``layout_outdated``: this changed since the files were laid out. For one thread at a time.
    """

    def __init__(self) -> None:
        self.leaves: frozenset[str] = frozenset()
        self.layout_outdated = False
        self._saves = 0
        self._unchanged: dict[str, str] = {}  # digests of the leaves that have not changed since the watch began
        self._last_staged: tuple[Path, Mapping[str, Record]] | None = None

    def reusable_file(self, piece: TensorExtent) -> tuple[Path, Record] | None:
        """Return the previous save's file and record for a frozen file that may be equal; None if there is none."""
        if not piece.frozen or self._last_staged is None or piece.name not in self._last_staged[1]:
            return None
        folder, records = self._last_staged
        return folder / piece.name, records[piece.name]

    def on_staged(self, folder: Path, records: Mapping[str, Record]) -> None:
        """Remember the checkpoint in ``folder``."""
        self._last_staged = folder, records

    def observe(self, snapshot: Snapshot) -> None:
        """Compare a snapshot with the ones before; decide after enough saves."""
        if preferred() != XXH3:
            return  # without the fast digest it would cost more than it saves
        round_number = self._saves % RECHECK_SAVES
        self._saves += 1
        if round_number == 0:
            self._unchanged = _digests(
                snapshot, {leaf for leaf, size in _sizes(snapshot).items() if size >= LEAF_BYTES_MIN}
            )
        elif self._unchanged:
            found = _digests(snapshot, self._unchanged)
            self._unchanged = {leaf: digest for leaf, digest in found.items() if self._unchanged[leaf] == digest}
            if round_number >= SAVES_TO_CONFIRM - 1:
                self._conclude(snapshot)

    def _conclude(self, snapshot: Snapshot) -> None:
        sizes = _sizes(snapshot)
        if sum(sizes[leaf] for leaf in self._unchanged) < SHARE_MIN * snapshot.layout.bytes:
            self._unchanged = {}
        self.layout_outdated = self.layout_outdated or self.leaves != self._unchanged.keys()
        self.leaves = frozenset(self._unchanged)


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
