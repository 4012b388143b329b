"""Stages checkpoints beside the training loop: a copy into the kept buffer, then a thread that writes it.

Theory of operation. A save must not stop training for the time that a disk needs, and a staged checkpoint must hold exactly
the state at one step boundary.

1. Two phases. The snapshot copies the state into a host buffer; the loop waits for this phase only. A writer thread then
   hashes the buffer, writes it to files, and renames the folder to its final name.
2. One save at a time. ``busy`` is true while the writer thread lives. The step boundary asks again later, so that two saves
   never share the buffer.
3. The buffer is kept. Layout, buffer and copy plans stay valid while the state's ``structure`` does. Only a changed structure,
   or newly frozen tensors, lead to a new layout.
4. Overlap. If the script calls ``before_update`` before each optimizer step, only values that other code may change are copied
   at once. Parameters and optimizer state are copied during forward and backward. ``before_update`` then waits for the rest.
   Version counters prove that no value changed on the way. If one did, this save fails and overlap is switched off.
5. Without memory for a buffer, the state is written directly while training waits. Slow is better than not saved.
6. Failure. Any error of a save is reported, leaves no partial folder, and ends no training. After ``WARN_AFTER_FAILURES``
   failures in a row without a success, a warning tells which work is not safe.
7. Fork. Only the process that attached saves. A forked child has neither the threads nor the buffer, and two writers would mix
   their checkpoints.
8. Frozen tensors get files of their own. Equal content is linked instead of written, and needs no upload.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from supervisor.core.wire.messages import CheckpointStaged, Message, SaveFailed, TrainerNote
from supervisor.trainer.process.threads import start_thread
from supervisor.trainer.save import checkpoint_folder, layout, writer
from supervisor.trainer.save.frozen_tensors import FrozenTensorDetector
from supervisor.trainer.save.snapshot import Copying, Snapshot, direct_chunks
from supervisor.trainer.save.writer import NewFile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from supervisor.trainer.clock import Clock
    from supervisor.trainer.save.checkpoint_folder import CheckpointDraft
    from supervisor.trainer.state.capture import StateCapture

SAVES_PER_ATTEMPT_MAX = 1000
WARN_AFTER_FAILURES = 3  # saves in a row that failed, none before them staged by this process
WRITER_NICENESS = 10  # the writer's share of a processor that the loop wants too

OVERHEAD_STEPS_MIN = 5  # fewer steps are no measurement


class SaveOverhead:
    """Measures the time that training loses to a background write: the step time then, against the step time before.

    ``step_totals()`` returns the steps done so far and the seconds spent in them.
    """

    def __init__(self, step_totals: Callable[[], tuple[int, float]]) -> None:
        self._step_totals = step_totals
        self._idle_since = step_totals()
        self._write_since: tuple[int, float] | None = None
        self._idle_step_s: float | None = None

    def write_started(self) -> None:
        """A background write begins, and the loop continues."""
        self._write_since = now = self._step_totals()
        steps, seconds = _between(self._idle_since, now)
        if steps >= OVERHEAD_STEPS_MIN:
            self._idle_step_s = seconds / steps

    def write_finished(self) -> float:
        """Return the extra seconds of the steps since ``write_started``; 0 if too few steps were measured."""
        began, self._write_since, self._idle_since = self._write_since, None, self._step_totals()
        if began is None:
            return 0.0  # training waited for it: nothing was written beside the loop
        steps, seconds = _between(began, self._idle_since)
        if self._idle_step_s is None or steps < OVERHEAD_STEPS_MIN:
            return 0.0
        return max(0.0, seconds - steps * self._idle_step_s)


class Saver:
    """``staged_step`` is the newest staged step, by this process or an earlier one.

    ``step_totals`` as in ``SaveOverhead``.
    """

    def __init__(
        self,
        staging: Path,
        attempt: int,
        clock: Clock,
        send: Callable[[Message], None],
        step_totals: Callable[[], tuple[int, float]] = lambda: (0, 0.0),
    ) -> None:
        staging.mkdir(parents=True, exist_ok=True)
        writer.remove_leftovers(staging)
        self.staged_step: int | None = None
        self.after_staged: Callable[[Path], None] | None = None
        self._staging = staging
        self._number = _first_number(staging, attempt)
        self._clock = clock
        self._send = send
        self._snapshot: Snapshot | None = None
        self._structure = 0
        self._frozen_tensors = FrozenTensorDetector()
        self._thread: threading.Thread | None = None
        self._copying: Copying | None = None
        self._overlap, self._overlap_allowed = False, True
        self._stall_s = 0.0
        self._overhead = SaveOverhead(step_totals)
        self._owner = os.getpid()
        self._failures_in_row, self._forked_reported = 0, False

    @property
    def forked(self) -> bool:
        """This process is a child of the process that attached."""
        return os.getpid() != self._owner

    @property
    def busy(self) -> bool:
        """A save is being written."""
        return self._thread is not None and self._thread.is_alive()

    def prepare(self, captured: StateCapture) -> None:
        """Allocate the buffer for the first save beside the loop."""
        try:
            self._prepared_snapshot(captured).touch()
        except MemoryError:
            return  # reported at the first save

    def save_in_background(self, draft: CheckpointDraft, captured: StateCapture, reason: str, started_s: float) -> None:
        """Copy the state and write it beside the loop. The state may change as soon as this returns.

        After a call of ``before_update``, parameters and optimizer state may change only after its next call. Without memory
        for the
        copy, the state is written before this returns.

        Args:
            draft: the checkpoint without its tensors.
            captured: the state to copy.
            reason: "due", "script" or another reason, for the supervisor's message.
            started_s: the time since which the loop waits.
        """
        self.wait()
        if self._refuse_forked_child():
            return
        try:
            snapshot = self._prepared_snapshot(captured)
        except MemoryError as error:
            self._send(TrainerNote("warning", f"{error}: step {draft.step} is saved while training waits"))
            self._write_directly(draft, captured, reason, started_s)
            return
        try:
            copying = self._copy(snapshot, captured)
        except Exception as error:  # noqa: BLE001  # as in the writer: a save that fails must not end the run
            self._report_error(draft.step, error)
            return
        self._stall_s = self._clock() - started_s
        self._overhead.write_started()
        write = partial(self._write_beside, draft, snapshot, copying, reason)
        self._thread = start_thread(write, "supervisor-writer")
        if self._thread is None:
            self.before_update()
            self._write_snapshot(draft, snapshot, copying, reason, lambda: self._clock() - started_s)

    def before_update(self) -> None:
        """Complete the copy of parameters and optimizer state, because they are about to change."""
        if self._copying is None or os.getpid() != self._owner:  # a child has neither the threads nor the buffer
            self._copying, self._overlap = None, self._overlap_allowed
            return
        started_s = self._clock()
        copying, self._copying = self._copying, None
        with suppress(Exception):  # the writer's thread meets the same error, and tells it
            copying.finish()
        self._stall_s += self._clock() - started_s

    def save_now(self, draft: CheckpointDraft, captured: StateCapture, reason: str) -> bool:
        """Write the state before returning; return whether it is staged.

        Allocates no buffer, but uses an existing one.
        """
        self.wait()
        started_s = self._clock()
        if self._refuse_forked_child():
            return False
        if self._snapshot is None or not self._layout_is_current(captured):
            return self._write_directly(draft, captured, reason, started_s)
        try:
            copying = self._snapshot.copy(captured.values)
        except Exception as error:  # noqa: BLE001  # as in the writer
            self._report_error(draft.step, error)
            return False
        return self._write_snapshot(draft, self._snapshot, copying, reason, lambda: self._clock() - started_s)

    def wait(self) -> None:
        """Wait until no save is being written."""
        if self._copying is not None:
            self.before_update()
        if self._thread is not None and os.getpid() == self._owner:
            self._thread.join()
        self._thread = None

    def _copy(self, snapshot: Snapshot, captured: StateCapture) -> Copying:
        if not self._overlap:
            return snapshot.copy(captured.values)
        self._copying = snapshot.copy_in_background(captured.values)
        self._copying.start_helper()
        return self._copying

    def _prepared_snapshot(self, captured: StateCapture) -> Snapshot:
        """Return a snapshot with a layout for this state, mostly that of the last save."""
        if self._snapshot is None or not self._layout_is_current(captured):
            before, self._snapshot = self._snapshot, None
            planned = layout.plan(captured.leaves, self._frozen_tensors.leaves)
            self._snapshot = Snapshot(
                planned, captured.leaves, captured.values, before, updated_by_optimizer=captured.updated_by_optimizer
            )
            self._structure, self._frozen_tensors.layout_outdated = captured.structure, False
        return self._snapshot

    def _layout_is_current(self, captured: StateCapture) -> bool:
        return captured.structure == self._structure and not self._frozen_tensors.layout_outdated

    def _write_beside(self, draft: CheckpointDraft, snapshot: Snapshot, copying: Copying, reason: str) -> None:
        _lower_priority()
        if self._write_snapshot(draft, snapshot, copying, reason, lambda: self._stall_s):
            self._frozen_tensors.observe(snapshot)

    def _write_snapshot(
        self, draft: CheckpointDraft, snapshot: Snapshot, copying: Copying, reason: str, stall_s: Callable[[], float]
    ) -> bool:
        try:
            exact = copying.wait()
        except Exception as error:  # noqa: BLE001  # a failed save is reported, and training continues
            self._report_error(draft.step, error)
            return False
        if not exact:
            self._overlap = self._overlap_allowed = False
            message = "parameters changed otherwise than by optimizer.step() while they were copied"
            self.report_failure(
                draft.step, f"{message}; from now on they are copied at once, and the next save is whole"
            )
            return False
        pieces = [
            NewFile(
                piece.name,
                pages=snapshot.bytes_of(piece),
                bytes=piece.bytes,
                before=self._frozen_tensors.reusable_file(piece),
            )
            for piece in snapshot.layout.pieces
        ]
        return self._write(replace(draft, split=snapshot.layout.split), pieces, reason, stall_s)

    def _write_directly(self, draft: CheckpointDraft, captured: StateCapture, reason: str, started_s: float) -> bool:
        planned = layout.plan(captured.leaves, self._frozen_tensors.leaves)
        pieces = [
            NewFile(piece.name, direct_chunks(piece, captured.leaves, captured.values)) for piece in planned.pieces
        ]
        return self._write(replace(draft, split=planned.split), pieces, reason, lambda: self._clock() - started_s)

    def _write(
        self, draft: CheckpointDraft, pieces: Sequence[NewFile], reason: str, stall_s: Callable[[], float]
    ) -> bool:
        written_from_s = self._clock()
        name = f"step-{draft.step:09d}-{self._number}"
        self._number += 1
        try:
            records = checkpoint_folder.write(self._staging, name, draft, pieces)
            if self.after_staged is not None:
                self.after_staged(self._staging)
        except Exception as error:  # noqa: BLE001  # a failed save is reported, and training continues
            self._report_error(draft.step, error)
            return False
        self._frozen_tensors.on_staged(self._staging / name, records)
        self.staged_step, self._failures_in_row = draft.step, 0
        size = sum(length for length, _ in records.values())
        write_s = self._clock() - written_from_s
        self._send(
            CheckpointStaged(draft.step, name, size, reason, stall_s(), write_s, self._overhead.write_finished())
        )
        return True

    def report_failure(self, step: int, why: str) -> None:
        """Report a failed save, and after several failures the work that is not safe."""
        self._send(SaveFailed(step, why))
        self._failures_in_row += 1
        if self._failures_in_row == WARN_AFTER_FAILURES:
            stored = (
                "nothing of this run is safe"
                if self.staged_step is None
                else f"nothing after step {self.staged_step:,} is safe"
            )
            message = f"{stored}: all of the last {WARN_AFTER_FAILURES} saves failed, and the work since is lost if the machine ends now"
            self._send(TrainerNote("warning", f"{message}; the last one: {why}"))

    def _refuse_forked_child(self) -> bool:
        if self.forked and not self._forked_reported:
            self._forked_reported = True
            print("training-supervisor: only the process that called attach() saves, not its children", file=sys.stderr)
        return self.forked

    def _report_error(self, step: int, error: Exception) -> None:
        self.report_failure(step, f"{type(error).__name__}: {error}")


def _lower_priority() -> None:
    """Give the loop precedence over this thread."""
    if hasattr(os, "setpriority"):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), WRITER_NICENESS)


def _first_number(staging: Path, attempt: int) -> int:
    """Return a number that no folder of this staging place has used, also if earlier folders are gone already."""
    with os.scandir(staging) as entries:
        numbers = [entry.name.rpartition("-")[2] for entry in entries if entry.name.startswith("step-")]
    return max([attempt * SAVES_PER_ATTEMPT_MAX, *(int(number) for number in numbers if number.isdecimal())]) + 1


def _between(begin: tuple[int, float], end: tuple[int, float]) -> tuple[int, float]:
    return end[0] - begin[0], end[1] - begin[1]
