"""Takes snapshots: the leaves of a state are copied into one kept host buffer, laid out as the files will be.

While the structure stays the same, layout, buffer and copies stay too, and a snapshot is nothing but the copying.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from supervisor.trainer.buffer import HostBuffer
from supervisor.trainer.frameworks.framework import Copies, Slot
from supervisor.trainer.threads import started

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from supervisor.trainer.frameworks.framework import Framework, HostCopy, Pending
    from supervisor.trainer.layout import Layout, Piece
    from supervisor.trainer.leaf import Leaf

TWO_THREADS_FROM_BYTES = 8_000_000  # below, starting the second costs more than it copies
SLICE_BYTES = 8 * 1024 * 1024


class Snapshot:
    """A buffer that holds one moment of a state. Whoever reads its files sees to it that no snapshot is taken meanwhile.

    ``late`` are the numbers of the leaves that nothing but an optimizer's step changes. ``before`` is the snapshot that
    this one takes the place of: its buffer is used on if it is large enough. MemoryError if there is no room for a new one.
    """

    def __init__(
        self, layout: Layout, leaves: Mapping[str, Leaf], values: Sequence[Any], before: Snapshot | None = None,
        *, late: Collection[int] = (),
    ) -> None:  # fmt: skip
        self.layout = layout
        self._buffer = _buffer(layout.bytes, before)
        self._now, self._later = Copies([], []), Copies([], [])
        self._watched = [(number, leaf.framework) for number, leaf in enumerate(leaves.values()) if number in late]
        slots: dict[tuple[str, bool], tuple[Framework, list[Slot]]] = {}
        for piece in layout.pieces:
            data = piece.at + len(piece.header)
            self._buffer.view[piece.at : data] = piece.header
            for part in piece.parts:
                view = self._buffer.view[data + part.begin : data + part.begin + part.bytes]
                leaf = leaves[part.leaf]
                slot = Slot(part.number, values[part.number], leaf.bytes, part.first, view)
                key = (leaf.framework.name, part.number in late)
                slots.setdefault(key, (leaf.framework, []))[1].append(slot)
        for (_, is_late), (framework, of_framework) in slots.items():
            device, host = framework.copies(of_framework, self._buffer)
            copies = self._later if is_late else self._now
            copies.device.extend(device)
            copies.host.extend(host)

    def touch(self) -> None:
        """Have the system provide the buffer's memory, beside the loop, before the first snapshot needs it."""
        self._buffer.touch()

    def take(self, values: Sequence[Any]) -> Copying:
        """Copy the live values; they may change as soon as this returns."""
        device = [copy(values) for copy in (*self._now.device, *self._later.device)]
        copying = Copying([*self._now.host, *self._later.host], values, device)
        if self._is_worth_two_threads():
            copying.begin()
        copying.finish()
        return copying

    def begin(self, values: Sequence[Any]) -> Copying:
        """Copy what may change at once; the rest is copied by ``begin`` and ``finish``, the latter before the optimizer's step."""
        first = [copy(values) for copy in self._now.device]
        Copying(self._now.host, values, first).finish()
        later = [copy(values) for copy in self._later.device]
        return Copying(self._later.host, values, [*first, *later], self._watched)

    def bytes_of(self, piece: Piece) -> memoryview:
        """Return the bytes of the piece's file; up to ``piece.end`` they are followed by bytes that mean nothing."""
        return self._buffer.view[piece.at : piece.end]

    def _is_worth_two_threads(self) -> bool:
        return self.layout.bytes >= TWO_THREADS_FROM_BYTES and len(os.sched_getaffinity(0)) > 1


class Copying:
    """Values on their way into the buffer, by as many threads as take part."""

    def __init__(
        self,
        work: Sequence[HostCopy],
        values: Sequence[Any],
        device: Sequence[Pending],
        watched: Sequence[tuple[int, Framework]] = (),
    ) -> None:
        self._work = iter(work)  # the next one is taken under the interpreter lock
        self._values: Sequence[Any] = values
        self._device = device
        self._watched = [
            (values[number], framework.version(values[number]), framework) for number, framework in watched
        ]
        self._failed: list[BaseException] = []
        self._helper: threading.Thread | None = None
        self._taking_part = threading.Lock()
        self._settling = threading.Lock()
        self._exact = True

    def begin(self) -> None:
        """Have another thread take part."""
        self._helper = started(self._copy, "supervisor-copy")
        if self._helper is None:
            self._copy()

    def finish(self) -> None:
        """Take part, and return when the values may change. What went wrong on any thread is raised."""
        with self._taking_part:
            self._copy()
        self._settle()
        for pending in self._device:
            pending.fence()

    def wait(self) -> bool:
        """Return when the bytes are in the buffer; False if a value changed on the way that nothing should have changed."""
        self._settle()
        for pending in self._device:
            pending.wait()
        return self._exact

    def _settle(self) -> None:
        with self._settling:  # the values stay as they are until whoever comes second has seen the end of this
            if self._helper is not None:
                self._helper.join()
            with self._taking_part:  # whoever finishes may still be at the last piece of work
                pass
            self._exact &= all(framework.version(value) == version for value, version, framework in self._watched)
            self._values, self._watched = (), []
        if self._failed:
            raise self._failed[0]

    def _copy(self) -> None:
        try:
            for copy in self._work:
                copy(self._values)
        except BaseException as error:  # noqa: BLE001  # because it may be on a thread of ours: whoever asked raises it
            self._failed.append(error)


def _buffer(size: int, before: Snapshot | None) -> HostBuffer:
    if before is not None:
        before._now, before._later = Copies([], []), Copies([], [])  # noqa: SLF001  # they hold views of the buffer
        if len(before._buffer.view) >= size:  # noqa: SLF001  # see the class
            return before._buffer  # noqa: SLF001  # see the class
        before._buffer.release()  # noqa: SLF001  # before the new one is made: there may be no room for both
    return HostBuffer(size)


def direct_chunks(piece: Piece, leaves: Mapping[str, Leaf], values: Sequence[Any]) -> Iterator[memoryview]:
    """Yield the bytes of a piece's file straight from the live values, which must not change meanwhile: needs no buffer."""
    yield memoryview(piece.header)
    for part in piece.parts:
        for begin in range(part.first, part.first + part.bytes, SLICE_BYTES):
            out = memoryview(bytearray(min(SLICE_BYTES, part.first + part.bytes - begin)))
            leaves[part.leaf].framework.read(values[part.number], begin, out)
            yield out
