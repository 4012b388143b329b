"""Stages checkpoints beside the training loop: a copy into the kept buffer, then a thread that writes it.

A save in progress is never overlapped. A save that fails is told and leaves no trace; the caller asks again.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from supervisor.core.messages import Message, Note, SaveFailed, Staged
from supervisor.trainer import folder, layout, writer
from supervisor.trainer.pace import Pace
from supervisor.trainer.snapshot import Copying, Snapshot, direct_chunks
from supervisor.trainer.stillness import Stillness
from supervisor.trainer.threads import started
from supervisor.trainer.writer import NewFile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from supervisor.trainer.clock import Clock
    from supervisor.trainer.folder import Draft
    from supervisor.trainer.state import Captured

SAVES_PER_ATTEMPT_MAX = 1000
LOUD_AFTER = 3  # saves in a row that failed, none before them staged by this process
NICE = 10  # the writer's share of a processor that the loop wants too


class Saver:
    """``staged_step`` is the newest step that was staged, by this process or before it; ``done`` as in ``Pace``."""

    def __init__(
        self,
        staging: Path,
        attempt: int,
        clock: Clock,
        say: Callable[[Message], None],
        done: Callable[[], tuple[int, float]] = lambda: (0, 0.0),
    ) -> None:
        staging.mkdir(parents=True, exist_ok=True)
        writer.remove_leftovers(staging)
        self.staged_step: int | None = None
        self.after_staged: Callable[[Path], None] | None = None
        self._staging = staging
        self._number = _first_number(staging, attempt)
        self._clock = clock
        self._say = say
        self._snapshot: Snapshot | None = None
        self._structure = 0
        self._stillness = Stillness()
        self._thread: threading.Thread | None = None
        self._copying: Copying | None = None
        self._overlaps, self._may_overlap = False, True
        self._stall_s = 0.0
        self._pace = Pace(done)
        self._owner = os.getpid()
        self._failed_in_row, self._forked_said = 0, False

    @property
    def forked(self) -> bool:
        """Whether this is a child of the process that attached: two that save would mix their checkpoints up."""
        return os.getpid() != self._owner

    @property
    def busy(self) -> bool:
        """A save is being written."""
        return self._thread is not None and self._thread.is_alive()

    def prepare(self, captured: Captured) -> None:
        """Have everything ready for the first save but the copy itself: what takes time is done beside the loop."""
        try:
            self._ready(captured).touch()
        except MemoryError:
            return  # said when a save is asked for

    def begin(self, draft: Draft, captured: Captured, reason: str, began_s: float) -> None:
        """Copy the state and write it beside the loop; it may change as soon as this returns.

        Once ``before_update`` was called, parameters and optimizer state may change only after its next call. Without
        room for the copy the state is written before this returns. ``began_s``: since when the loop stands still.
        """
        self.wait()
        if self._refuses_child():
            return
        try:
            snapshot = self._ready(captured)
        except MemoryError as error:
            self._say(Note("warning", f"{error}: step {draft.step} is saved while training waits"))
            self._write_directly(draft, captured, reason, began_s)
            return
        try:
            copying = self._copied(snapshot, captured)
        except Exception as error:  # noqa: BLE001  # as in the writer: a save that fails must not end the run
            self._failed(draft.step, error)
            return
        self._stall_s = self._clock() - began_s
        self._pace.write_begins()
        write = partial(self._write_beside, draft, snapshot, copying, reason)
        self._thread = started(write, "supervisor-writer")
        if self._thread is None:
            self.before_update()
            self._write_snapshot(draft, snapshot, copying, reason, lambda: self._clock() - began_s)

    def before_update(self) -> None:
        """Parameters and optimizer state are about to change: see to it that they are copied."""
        if self._copying is None or os.getpid() != self._owner:  # a child has neither the threads nor the buffer
            self._copying, self._overlaps = None, self._may_overlap
            return
        began_s = self._clock()
        copying, self._copying = self._copying, None
        with suppress(Exception):  # the writer's thread meets the same error, and tells it
            copying.finish()
        self._stall_s += self._clock() - began_s

    def save_now(self, draft: Draft, captured: Captured, reason: str) -> bool:
        """Write the state before returning, and say whether it is staged. Makes no buffer, but uses one that is there."""
        self.wait()
        began_s = self._clock()
        if self._refuses_child():
            return False
        if self._snapshot is None or not self._is_as_laid_out(captured):
            return self._write_directly(draft, captured, reason, began_s)
        try:
            copying = self._snapshot.take(captured.values)
        except Exception as error:  # noqa: BLE001  # as in the writer
            self._failed(draft.step, error)
            return False
        return self._write_snapshot(draft, self._snapshot, copying, reason, lambda: self._clock() - began_s)

    def wait(self) -> None:
        """Return when nothing is being written any more."""
        if self._copying is not None:
            self.before_update()
        if self._thread is not None and os.getpid() == self._owner:
            self._thread.join()
        self._thread = None

    def _copied(self, snapshot: Snapshot, captured: Captured) -> Copying:
        if not self._overlaps:
            return snapshot.take(captured.values)
        self._copying = snapshot.begin(captured.values)
        self._copying.begin()
        return self._copying

    def _ready(self, captured: Captured) -> Snapshot:
        """Return a snapshot laid out for this state: mostly the one of the last save."""
        if self._snapshot is None or not self._is_as_laid_out(captured):
            before, self._snapshot = self._snapshot, None
            planned = layout.plan(captured.leaves, self._stillness.leaves)
            self._snapshot = Snapshot(planned, captured.leaves, captured.values, before, late=captured.late)
            self._structure, self._stillness.changed = captured.structure, False
        return self._snapshot

    def _is_as_laid_out(self, captured: Captured) -> bool:
        return captured.structure == self._structure and not self._stillness.changed

    def _write_beside(self, draft: Draft, snapshot: Snapshot, copying: Copying, reason: str) -> None:
        _be_nice()
        if self._write_snapshot(draft, snapshot, copying, reason, lambda: self._stall_s):
            self._stillness.look(snapshot)

    def _write_snapshot(
        self, draft: Draft, snapshot: Snapshot, copying: Copying, reason: str, stall_s: Callable[[], float]
    ) -> bool:
        try:
            exact = copying.wait()
        except Exception as error:  # noqa: BLE001  # because whatever a save meets, training goes on and the word is out
            self._failed(draft.step, error)
            return False
        if not exact:
            self._overlaps = self._may_overlap = False
            words = "parameters changed otherwise than by optimizer.step() while they were copied"
            self.failed(draft.step, f"{words}; from now on they are copied at once, and the next save is whole")
            return False
        pieces = [
            NewFile(piece.name, pages=snapshot.bytes_of(piece), bytes=piece.bytes, before=self._stillness.before(piece))
            for piece in snapshot.layout.pieces
        ]
        return self._write(replace(draft, split=snapshot.layout.split), pieces, reason, stall_s)

    def _write_directly(self, draft: Draft, captured: Captured, reason: str, began_s: float) -> bool:
        planned = layout.plan(captured.leaves, self._stillness.leaves)
        pieces = [
            NewFile(piece.name, direct_chunks(piece, captured.leaves, captured.values)) for piece in planned.pieces
        ]
        return self._write(replace(draft, split=planned.split), pieces, reason, lambda: self._clock() - began_s)

    def _write(self, draft: Draft, pieces: Sequence[NewFile], reason: str, stall_s: Callable[[], float]) -> bool:
        written_from_s = self._clock()
        name = f"step-{draft.step:09d}-{self._number}"
        self._number += 1
        try:
            records = folder.write(self._staging, name, draft, pieces)
            if self.after_staged is not None:
                self.after_staged(self._staging)
        except Exception as error:  # noqa: BLE001  # because whatever a save meets, training goes on and the word is out
            self._failed(draft.step, error)
            return False
        self._stillness.staged(self._staging / name, records)
        self.staged_step, self._failed_in_row = draft.step, 0
        size = sum(length for length, _ in records.values())
        write_s = self._clock() - written_from_s
        self._say(Staged(draft.step, name, size, reason, stall_s(), write_s, self._pace.write_ended()))
        return True

    def failed(self, step: int, why: str) -> None:
        """A save has failed: say it, and when none has succeeded, what that means."""
        self._say(SaveFailed(step, why))
        self._failed_in_row += 1
        if self._failed_in_row == LOUD_AFTER:
            kept = (
                "nothing of this run is safe"
                if self.staged_step is None
                else f"nothing after step {self.staged_step:,} is safe"
            )
            words = (
                f"{kept}: all of the last {LOUD_AFTER} saves failed, and the work since is lost if the machine ends now"
            )
            self._say(Note("warning", f"{words}; the last one: {why}"))

    def _refuses_child(self) -> bool:
        if self.forked and not self._forked_said:
            self._forked_said = True
            print("training-supervisor: only the process that called attach() saves, not its children", file=sys.stderr)
        return self.forked

    def _failed(self, step: int, error: Exception) -> None:
        self.failed(step, f"{type(error).__name__}: {error}")


def _be_nice() -> None:
    """Let this thread have what the loop leaves over."""
    if hasattr(os, "setpriority"):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


def _first_number(staging: Path, attempt: int) -> int:
    """No two folders of one staging place ever have the same name, also when earlier ones are gone already."""
    with os.scandir(staging) as entries:
        numbers = [entry.name.rpartition("-")[2] for entry in entries if entry.name.startswith("step-")]
    return max([attempt * SAVES_PER_ATTEMPT_MAX, *(int(number) for number in numbers if number.isdecimal())]) + 1
