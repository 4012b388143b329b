"""Handles the boundary between two steps: due saves, requested saves, and the requested end.

Theory of operation. A checkpoint must hold the state of a whole step. So all saving and stopping happens on the training
thread, at the boundary after a step, and everything else only requests it.

1. Requests are flags. The channel's thread and signal handlers call ``request_save`` and ``request_exit``. Both set
   ``save_reason`` or ``exit_request`` first and ``pending`` second. ``process`` clears ``pending`` before it reads the flags, so
   that no request is lost.
2. The fast path is three comparisons. ``Run.advance`` compares ``pending``, the next due step and the next due time, and calls
   ``process`` only if one of them is due.
3. ``process`` takes one decision: stop, last save, background save, or nothing. A request that cannot be served yet keeps its
   flag: while a save is being written, ``pending`` is set again and the next boundary looks again. Saves never overlap.
4. A background save (``Saver.save_in_background``) holds the loop only while the state is copied. A save before an exit
   (``save_now``) waits for the disk and is tried ``FINAL_SAVE_TRIES`` times, because there is no next boundary.
5. The state is captured after the first step although no save is due. From then on the state has its final structure,
   the optimizer's slots included, and the saver can allocate its buffer beside the loop.
6. The draft is built before the snapshot. It flushes the step log, and these numbers may show an anomaly. If the supervisor
   handles it, ``saving_blocked`` is true and the save is dropped: a checkpoint of a diverged state would outlive the rollback.
7. A failed capture ends no training. It is reported as a failed save, and the next due save tries again.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from supervisor.core.errors import UsageError
from supervisor.core.wire.messages import Stopped, TrainerNote
from supervisor.trainer.clock import sleep
from supervisor.trainer.errors import UnsupportedStateError, first_lines
from supervisor.trainer.save.checkpoint_folder import CheckpointDraft

if TYPE_CHECKING:
    from supervisor.trainer.clock import Clock
    from supervisor.trainer.context import TrainerContext
    from supervisor.trainer.save.companion_files import CompanionFiles
    from supervisor.trainer.save.saver import Saver
    from supervisor.trainer.settings import SaveInterval
    from supervisor.trainer.state.capture import AttachedState, StateCapture
    from supervisor.trainer.steps.progress import ProgressMonitor
    from supervisor.trainer.steps.section_timer import SectionTimer
    from supervisor.trainer.steps.step_log import StepLogRows

FINAL_SAVE_TRIES = 3
RETRY_DELAY_S = 0.5


class Position(NamedTuple):
    """The position between two steps: ``step`` of ``total_steps`` are done, and ``epoch_steps`` make an epoch.

    None if unknown.
    """

    step: int
    total_steps: int | None
    epoch_steps: int | None

    @property
    def epoch_of_data(self) -> float | None:
        """Epochs done, with a fraction."""
        return self.step / self.epoch_steps if self.epoch_steps else None


class SaveTimer:
    """Tells when the next save is due: at exact multiples of steps, or after some seconds.

    ``step`` and ``at_s`` are the next due step and time; infinity if only requests count. Pure: the caller passes the time.
    """

    def __init__(self, every: SaveInterval) -> None:
        self.step: float = math.inf
        self.at_s: float = math.inf
        self._every = every
        self._steps: int | None = every.steps

    def begin(self, step: int, now_s: float, epoch_steps: int | None) -> None:
        """Set the first due save: ``step`` steps are done now.

        UsageError if epochs are asked for and their length is unknown.
        """
        if self._every.epochs is not None:
            if epoch_steps is None:
                raise UsageError(
                    f"--save-every {self._every.epochs}ep needs the length of an epoch",
                    "call run.steps(total, epoch_steps=…), or save by steps or minutes",
                )
            self._steps = self._every.epochs * epoch_steps
        self.schedule_next(step, now_s)

    def schedule_next(self, step: int, now_s: float) -> None:
        """Set the next due save: a save was taken, or the loop begins."""
        if self._steps is not None:
            self.step = (step // self._steps + 1) * self._steps
        if self._every.seconds is not None:
            self.at_s = now_s + self._every.seconds


class StepBoundary:
    """Serves requests at step boundaries. Other threads only set flags; the loop's thread calls ``process``."""

    def __init__(
        self,
        context: TrainerContext,
        state: AttachedState,
        saver: Saver,
        rows: StepLogRows,
        clock: Clock,
        *,
        companions: CompanionFiles,
        progress: ProgressMonitor,
    ) -> None:
        self.pending = False
        self.save_reason: str | None = None
        self.exit_request: tuple[int, bool] | None = None  # exit code, save before
        self.schedule = SaveTimer(context.settings.save_interval)
        self.stop_at = context.settings.stop_at
        self._context = context
        self._state = state
        self._saver = saver
        self._step_log = rows
        self._clock = clock
        self._companions = companions
        self._progress = progress
        self._prepared = False
        self._failed_step: int | None = None

    @property
    def saving_blocked(self) -> bool:
        """An anomaly is being handled: nothing is saved until the supervisor has decided."""
        return self._progress.anomaly_handled

    def request_save(self, reason: str) -> None:
        """Request a checkpoint at the next boundary."""
        self.save_reason, self.pending = reason, True

    def request_exit(self, exit_code: int, *, save: bool) -> None:
        """Request the script's end at the next boundary."""
        self.exit_request, self.pending = (exit_code, save), True

    def begin(self, position: Position) -> None:
        """Start the schedule and set the random generators: the loop begins."""
        self.schedule.begin(position.step, self._clock(), position.epoch_steps)
        for warning in self._state.restore_rng():
            self._context.send(TrainerNote("warning", warning))
        self.pending = True  # after the first step the state has all it will have, the optimizer's too

    def process(self, position: Position, now_s: float, sections: SectionTimer, *, made_progress: bool) -> None:
        """Serve what is due after the step; what cannot be served yet keeps its flag.

        Args:
            position: the position between two steps.
            now_s: the time at the boundary.
            sections: the timer, in which a save counts as "save".
            made_progress: at least one step was done in this process, so that a last save is worth its time.

        Raises:
            SystemExit: the script is to end, and its state is saved.
        """
        self.pending = False
        self.exit_if_requested(position, sections, made_progress=made_progress)
        if position.step in (position.total_steps, self.stop_at):
            self.save_now(position, "final", sections)
            if position.step != position.total_steps:
                raise SystemExit(0)
            return
        if position.step >= self.schedule.step or now_s >= self.schedule.at_s:
            self.save_reason = self.save_reason or "due"
            self.schedule.schedule_next(position.step, now_s)
        if not self._prepared and self.save_reason is None and (captured := self._capture(position.step)):
            self._saver.prepare(captured)
        self._prepared = True
        if self.save_reason is not None and self._saver.busy:
            self.pending = True  # look again after the next step
        elif self.save_reason is not None:
            reason, self.save_reason = self.save_reason, None
            self._start_save(position, reason, sections)

    def exit_if_requested(self, position: Position, sections: SectionTimer, *, made_progress: bool) -> None:
        """End the script if that was requested: a last save, the final message, SystemExit."""
        if self.exit_request is None:
            return
        exit_code, save = self.exit_request
        if save and made_progress:
            self.save_now(position, "stop", sections)
        self._saver.wait()
        self._context.send_final(Stopped(position.step))
        raise SystemExit(exit_code)

    def save_now(self, position: Position, reason: str, sections: SectionTimer) -> None:
        """Save before continuing, with retries: after this there is no next boundary."""
        self._saver.wait()
        if self._saver.forked or position.step in {self._saver.staged_step, self._failed_step}:
            return
        with sections.within("save"):
            self._context.wake()
            for attempt in range(FINAL_SAVE_TRIES):
                sleep(RETRY_DELAY_S * attempt)
                captured = self._capture(position.step)
                draft = self._draft(position, captured) if captured else None
                if self.saving_blocked:
                    return
                if captured and draft:
                    self._saver.save_now(draft, captured, reason)
                if self._saver.staged_step == position.step:
                    return
        self._failed_step = position.step
        message = f"step {position.step} could not be saved; the checkpoint before it stays the newest"
        self._context.send(TrainerNote("warning", message))

    def _start_save(self, position: Position, reason: str, sections: SectionTimer) -> None:
        with sections.within("save"):
            started_s = self._clock()
            captured = self._capture(position.step)
            draft = self._draft(position, captured) if captured else None  # numbers from the rows may show a trouble
            if captured and draft and not self.saving_blocked:
                self._saver.save_in_background(draft, captured, reason, started_s)

    def _capture(self, step: int) -> StateCapture | None:
        try:
            return self._state.capture()
        except (
            UnsupportedStateError
        ) as error:  # the state was valid at attach(): training continues, and the failure is reported
            self._saver.report_failure(step, f"{error.what}; {error.hint}")
        except Exception as error:  # noqa: BLE001  # a state_dict() of the script: a save that fails must not end the run
            self._saver.report_failure(step, f"state_dict() failed: {first_lines(error, 2)}")
        finally:
            self._context.notice(self._state)
        return None

    def _draft(self, position: Position, captured: StateCapture) -> CheckpointDraft | None:
        """Return the checkpoint without its tensors.

        None, and a failed save, if the script's files cannot be copied.
        """
        self._saver.wait()  # so that it is known which rows are staged already
        if self._saver.staged_step is not None:
            self._step_log.drop_saved(self._saver.staged_step)
        try:
            companions = self._companions.snapshot(position.step)
        except OSError as error:
            self._saver.report_failure(position.step, f"the script's files cannot be copied: {error}")
            return None
        return CheckpointDraft(
            step=position.step,
            total_steps=position.total_steps,
            epoch_of_data=position.epoch_of_data,
            objects=captured.text,
            generators=captured.generators,
            rows=self._step_log.unsaved_rows(position.step),
            metrics=self._step_log.metrics(),
            made_by=self._context.made_by,
            split={},
            beside=captured.beside,
            companions=companions,
        )
