"""Takes snapshots: copies the leaves of a state into one kept host buffer, in the layout of the files.

While the structure stays the same, layout, buffer and copy plans stay too, and a snapshot is only the copying.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from supervisor.trainer.adapters.port import Copies, Slot
from supervisor.trainer.process.threads import start_thread
from supervisor.trainer.save.buffer import HostBuffer

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from supervisor.trainer.adapters.port import FrameworkAdapter, HostCopy, LeafSpec, Pending
    from supervisor.trainer.save.layout import Layout, TensorExtent

TWO_THREADS_FROM_BYTES = 8_000_000  # below, starting the second costs more than it copies
SLICE_BYTES = 8 * 1024 * 1024


class Snapshot:
    """A buffer that holds one moment of a state. A reader of its files must ensure that no snapshot is taken meanwhile.

    ``updated_by_optimizer``: the numbers of the leaves that only an optimizer's step changes. ``before``: the previous
    snapshot,
    whose buffer is reused if it is large enough. MemoryError if a new buffer does not fit into memory.
    """

    def __init__(
        self, layout: Layout, leaves: Mapping[str, LeafSpec], values: Sequence[Any], before: Snapshot | None = None,
        *, updated_by_optimizer: Collection[int] = (),
    ) -> None:  # fmt: skip
        self.layout = layout
        self._buffer = _buffer(layout.bytes, before)
        self._immediate, self._deferred = Copies([], []), Copies([], [])
        self._version_checked = [
            (number, leaf.framework) for number, leaf in enumerate(leaves.values()) if number in updated_by_optimizer
        ]
        slots: dict[tuple[str, bool], tuple[FrameworkAdapter, list[Slot]]] = {}
        for piece in layout.pieces:
            data = piece.at + len(piece.header)
            self._buffer.view[piece.at : data] = piece.header
            for part in piece.parts:
                view = self._buffer.view[data + part.begin : data + part.begin + part.bytes]
                leaf = leaves[part.leaf]
                slot = Slot(part.number, values[part.number], leaf.bytes, part.first, view)
                key = (leaf.framework.name, part.number in updated_by_optimizer)
                slots.setdefault(key, (leaf.framework, []))[1].append(slot)
        for (_, is_deferred), (framework, its_slots) in slots.items():
            device, host = framework.plan_copies(its_slots, self._buffer)
            copies = self._deferred if is_deferred else self._immediate
            copies.device.extend(device)
            copies.host.extend(host)

    def touch(self) -> None:
        """Have the system provide the buffer's memory beside the loop, before the first snapshot needs it."""
        self._buffer.touch()

    def copy(self, values: Sequence[Any]) -> Copying:
        """Copy the live values; they may change as soon as this returns."""
        device = [copy(values) for copy in (*self._immediate.device, *self._deferred.device)]
        copying = Copying([*self._immediate.host, *self._deferred.host], values, device)
        if self._is_worth_two_threads():
            copying.start_helper()
        copying.finish()
        return copying

    def copy_in_background(self, values: Sequence[Any]) -> Copying:
        """Copy at once the values that may change; ``start_helper`` and ``finish`` copy the rest.

        Call ``finish`` before the optimizer's step.
        """
        first = [copy(values) for copy in self._immediate.device]
        Copying(self._immediate.host, values, first).finish()
        later = [copy(values) for copy in self._deferred.device]
        return Copying(self._deferred.host, values, [*first, *later], self._version_checked)

    def bytes_of(self, piece: TensorExtent) -> memoryview:
        """Return the bytes of this file. Up to ``piece.end`` they are followed by meaningless bytes."""
        return self._buffer.view[piece.at : piece.end]

    def _is_worth_two_threads(self) -> bool:
        return self.layout.bytes >= TWO_THREADS_FROM_BYTES and len(os.sched_getaffinity(0)) > 1


class Copying:
    """A copy in progress, in which several threads take part."""

    def __init__(
        self,
        work: Sequence[HostCopy],
        values: Sequence[Any],
        device: Sequence[Pending],
        version_checked: Sequence[tuple[int, FrameworkAdapter]] = (),
    ) -> None:
        self._work = iter(work)  # the next one is taken under the interpreter lock
        self._values: Sequence[Any] = values
        self._device = device
        self._version_checked = [
            (values[number], framework.version(values[number]), framework) for number, framework in version_checked
        ]
        self._failed: list[BaseException] = []
        self._helper: threading.Thread | None = None
        self._working = threading.Lock()
        self._settling = threading.Lock()
        self._exact = True

    def start_helper(self) -> None:
        """Let another thread take part."""
        self._helper = start_thread(self._copy, "supervisor-copy")
        if self._helper is None:
            self._copy()

    def finish(self) -> None:
        """Take part, and return when the values may change. Raises the first error of any thread."""
        with self._working:
            self._copy()
        self._settle()
        for pending in self._device:
            pending.fence()

    def wait(self) -> bool:
        """Wait for the bytes in the buffer; return False if a value changed that should not have changed."""
        self._settle()
        for pending in self._device:
            pending.wait()
        return self._exact

    def _settle(self) -> None:
        with self._settling:  # the values stay until the second caller has passed, too
            if self._helper is not None:
                self._helper.join()
            with self._working:  # another thread may still be at the last copy
                pass
            self._exact &= all(
                framework.version(value) == version for value, version, framework in self._version_checked
            )
            self._values, self._version_checked = (), []
        if self._failed:
            raise self._failed[0]

    def _copy(self) -> None:
        try:
            for copy in self._work:
                copy(self._values)
        except BaseException as error:  # noqa: BLE001  # it may be on our thread: the caller raises it
            self._failed.append(error)


def _buffer(size: int, before: Snapshot | None) -> HostBuffer:
    if before is not None:
        before._immediate, before._deferred = Copies([], []), Copies([], [])  # noqa: SLF001  # they hold views of the buffer
        if len(before._buffer.view) >= size:  # noqa: SLF001  # see the class
            return before._buffer  # noqa: SLF001  # see the class
        before._buffer.release()  # noqa: SLF001  # before the new one is made: there may be no room for both
    return HostBuffer(size)


def direct_chunks(piece: TensorExtent, leaves: Mapping[str, LeafSpec], values: Sequence[Any]) -> Iterator[memoryview]:
    """Yield the bytes of a file straight from the live values, which must not change meanwhile. Needs no buffer."""
    yield memoryview(piece.header)
    for part in piece.parts:
        for begin in range(part.first, part.first + part.bytes, SLICE_BYTES):
            out = memoryview(bytearray(min(SLICE_BYTES, part.first + part.bytes - begin)))
            leaves[part.leaf].framework.read(values[part.number], begin, out)
            yield out
