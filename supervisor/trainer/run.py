"""A run as the script sees it: the steps still to do, the log, and a boundary after each step."""

from __future__ import annotations

import signal
import sys
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from supervisor.core.errors import FENCED, INTERRUPTED, TERMINATED, UsageError
from supervisor.core.policy.liveness import AFTER
from supervisor.core.wire.messages import Heartbeat, SaveRequest, StopRequest, TrainerNote
from supervisor.trainer.context import silence_pipes
from supervisor.trainer.process.script_end import LoopExit
from supervisor.trainer.save.companion_files import CompanionFiles
from supervisor.trainer.steps.progress import ProgressMonitor
from supervisor.trainer.steps.step_boundary import Position, StepBoundary
from supervisor.trainer.steps.step_log import FLUSH_ROWS, MONITORED_FLUSH_ROWS, StepLogRows
from supervisor.trainer.steps.step_skipping import StepSkipper

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from supervisor.trainer.clock import Clock
    from supervisor.trainer.context import TrainerContext
    from supervisor.trainer.save.saver import Saver
    from supervisor.trainer.state.capture import AttachedState
    from supervisor.trainer.steps.section_timer import SectionTimer


class Run:
    """Made by ``attach()``. ``step`` counts the steps that are done, over all machines and attempts.

    A checkpoint of step N says: N steps are done, N is the next index, and the log has rows under N only. A script's own
    loop goes over ``steps()``; where a framework has the loop, a callback calls ``begin``, ``advance`` and ``end``.
    """

    def __init__(
        self, context: TrainerContext, state: AttachedState, saver: Saver, sections: SectionTimer, clock: Clock
    ) -> None:
        self.step = 0
        self.resumed = False
        self.name = context.settings.name
        self.attempt = context.settings.attempt
        self._context = context
        self._state = state
        self._saver = saver
        self._sections = sections
        self._clock = clock
        handled_kinds = context.settings.anomalies.handled_kinds
        self._progress = ProgressMonitor(context, sections, clock)
        flush_rows = MONITORED_FLUSH_ROWS if handled_kinds else FLUSH_ROWS
        self._step_log = StepLogRows(
            self._progress.warn_nonfinite, self._progress.observe, flush_rows=flush_rows, on_text=self._on_text
        )
        anomalies = context.settings.anomalies
        self._skipper = StepSkipper(
            anomalies.rollbacks, state.attached, context.send, allow_most=anomalies.allow_skipping_most
        )
        settings = context.settings
        # Without a supervisor nobody puts files back, and they stay where they are.
        self.companions = CompanionFiles(
            settings.working,
            settings.watch_dir,
            settings.staging,
            lambda words: context.send(TrainerNote("warning", words)),
            supervised=settings.supervised,
        )
        self._boundary = StepBoundary(
            context, state, saver, self._step_log, clock, companions=self.companions, progress=self._progress
        )
        self._open_sections: list[ExitStack] = []
        self._total: int | None = None
        self._epoch_steps: int | None = None
        self._first_step = 0
        self._looping = False
        self._loop_exit: LoopExit | None = None
        self._unfinished_steps = 0
        self._ended_early = True

    @property
    def scratch(self) -> Path:
        """A folder that stays on this machine from attempt to attempt: for caches, never for results."""
        self._context.settings.scratch.mkdir(parents=True, exist_ok=True)
        return self._context.settings.scratch

    @property
    def first_step(self) -> int:
        """The step that this process went on from; 0 where the run began here."""
        return self._first_step

    @property
    def made_progress(self) -> bool:
        """At least one step was done in this process."""
        return self.step > self._first_step

    @property
    def completed_a_step(self) -> bool:
        """At least one step came to its end in this process: one that an error ended in its middle does not count."""
        return self.step - self._unfinished_steps > self._first_step

    def steps(self, total: int, epoch_steps: int | None = None) -> Iterator[int]:
        """Yield the 0-based indices still to do, up to ``total`` steps over all attempts; save and end when it is time.

        A step that is left by ``break`` counts as done if it has logged something.
        """
        self._state.watch_unattached_data()
        self.begin(total, epoch_steps)
        try:
            while self.step < total:
                if self.is_skipped(self.step):
                    self._skipper.advance_data(self.step)
                    self.skip_step()
                    continue
                yield self.step
                self.advance()
        except GeneratorExit:
            self._unfinished_steps = self._step_log.has_row(self.step)
            self.step += self._unfinished_steps
            self._loop_exit = LoopExit(sys._getframe(1))  # noqa: SLF001  # the frame that has the loop
            raise
        finally:
            self._leave_loop()

    def epochs(self, total: int) -> Iterator[int]:
        """Yield the 0-based epochs still to do of the attached DataLoader, the one under way first; its batches are the steps.

        A batch is a step that is done when the next one is asked for. What comes behind the inner loop belongs to its epoch.
        """
        positions = self._state.data_positions
        if len(positions) != 1:
            raise UsageError(
                f"run.epochs() goes by one attached DataLoader, and {len(positions) or 'none'} of that kind is attached",
                "call supervisor.attach(data=loader) with the one that trains, or go over run.steps(total)",
            )
        (position,) = positions
        self.begin(total * len(position), len(position))
        position.batches_are_steps = True
        try:
            while position.number < total:
                yield position.number
                position.on_epoch_end()
        finally:
            position.batches_are_steps = False
            self._leave_loop()

    @property
    def looping(self) -> bool:
        """Whether the loop has begun and is not over."""
        return self._looping

    @property
    def in_section(self) -> bool:
        """Whether the loop is in a section of its own, as an evaluation."""
        return self._looping and self._sections.name != "step"

    def begin(self, total: int | None, epoch_steps: int | None = None) -> None:
        """A loop begins that somebody else drives, of ``total`` steps over all attempts (None: not known).

        Sets the random generators to the checkpoint's. Raises SystemExit if the script was told to end.
        """
        self._total, self._epoch_steps = total, epoch_steps
        self._loop_exit, self._ended_early = None, True
        self._boundary.begin(self._position())
        self._skipper.on_loop_start(self.step, total)
        for position in self._state.data_positions:
            position.on_loop_start()
        self._progress.enter("step")
        self._looping = True
        self._boundary.exit_if_requested(self._position(), self._sections, made_progress=self.made_progress)
        if self._boundary.stop_at is not None and self.step >= self._boundary.stop_at:
            raise SystemExit(0)

    def advance(self) -> None:
        """One step more is done, and all that is attached is as it shall be found again: save and end when it is time.

        What is logged of a step is logged before. Raises SystemExit where the script is to end, its state saved.
        """
        if self._skipper.active and self.is_skipped(self.step) and not self._step_log.is_skipped_row(self.step):
            self._skipper.on_unskipped(self.step)
        self.step = step = self.step + 1
        now_s = self._clock()
        self._sections.lap(now_s)
        boundary = self._boundary
        is_due = boundary.pending or step >= boundary.schedule.step or now_s >= boundary.schedule.at_s
        if is_due or step in (self._total, boundary.stop_at):
            boundary.process(self._position(), now_s, self._sections, made_progress=self.made_progress)

    def is_skipped(self, index: int) -> bool:
        """Say whether the step with this index is to be left out, because training went wrong there before."""
        return self._skipper.active and self._skipper.is_skipped(index)

    def skip_step(self) -> None:
        """Leave out the step that comes next: instead of doing it, logging and ``advance``. Its data are the caller's to pass."""
        self._step_log.skip_step(self.step)
        self.advance()

    def end(self, *, early: bool = True) -> None:
        """The loop is over, also before its ``total``: save what no checkpoint holds yet.

        Not ``early``: the framework did not say that it stops sooner, so that a loop short of its total is no end.
        """
        self._ended_early = early
        self.close()
        self._leave_loop()

    def log(self, **values: Any) -> None:
        """Note values of the present step: numbers, words, or tensors with one element, which are not waited for.

        What is logged after the last step is shown, but is in no checkpoint's log, because it belongs to no step.
        """
        self._step_log.add(self.step, values)
        if not self._looping:
            self._progress.force_heartbeat()

    def save(self) -> None:
        """Ask for a checkpoint at the next step boundary."""
        self._boundary.request_save("script")

    def before_update(self) -> None:
        """Call it right before ``optimizer.step()`` to have checkpoints copied beside forward and backward.

        By the first call the script promises that nothing but that step changes parameters and optimizer state.
        """
        self._saver.before_update()

    def flush(self) -> None:
        """Return when what was saved is staged, or its failure was told."""
        self._saver.wait()

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Count the time within as ``name`` ("eval"), which has a hang time-out of its own."""
        with self._progress.section(name):
            yield

    def enter_section(self, name: str) -> None:
        """As ``section``, for callbacks that hear of the begin and of the end apart: until ``leave_section``."""
        stack = ExitStack()
        stack.enter_context(self.section(name))
        self._open_sections.append(stack)

    def leave_section(self) -> None:
        """End the section that was entered last."""
        self._open_sections.pop().close()

    @property
    def unreached_total(self) -> int | None:
        """The total of the last loop where it was left before that; None where it came to its total."""
        return self._total if self._total is not None and self.step < self._total else None

    @property
    def stopped_short(self) -> bool:
        """A framework's loop ended before its total, and the framework did not say so."""
        return self.unreached_total is not None and not self._ended_early and not self._looping

    def is_inside_loop(self, ended: SystemExit) -> bool:
        """Say whether the script ended itself in the middle of a loop; where it was told to stop at a step it did not."""
        if any(end is not None and self.step >= end for end in (self._total, self._boundary.stop_at)):
            return False
        return self._looping or (self._loop_exit is not None and self._loop_exit.caused_by(ended))

    # --- what the channel's thread calls: flags only --------------------------------------------------------------

    def beat(self) -> Heartbeat | None:
        """Return a beat if something has moved since the last."""
        step = self.step
        if not self._progress.has_news(step):
            return None
        seconds = dict(self._sections.seconds)
        done = step - self._first_step
        return Heartbeat(
            step=step,
            section=self._sections.name,
            total_steps=self._total,
            epoch=self._position().epoch_of_data,
            step_s=seconds.get("step", 0.0) / done if done else None,
            seconds=seconds,
            longest_s=dict(self._sections.longest_s),
            metrics=self._step_log.metrics_or_empty(),
        )

    def on_save_request(self, message: SaveRequest) -> None:
        """Stage a checkpoint at the next boundary."""
        self._boundary.request_save(message.reason)

    def on_stop_request(self, message: StopRequest) -> None:
        """End at the next boundary."""
        self._boundary.request_exit(0, save=message.save)

    def on_supervisor_lost(self) -> None:
        """Stage one last checkpoint and end: what is written after that would be an orphan's."""
        self._boundary.request_exit(FENCED, save=True)
        silence_pipes()
        self._context.end_after_grace()

    # --- restoring, signals and the end, called by attach() and the runner ----------------------------------------

    def set_resumed(self, step: int) -> None:
        """The state of ``step`` is back in the objects."""
        self.step = self._first_step = step
        self._progress.start_at(step)
        self._saver.staged_step = step
        self.resumed = True

    def on_signal(self, number: int) -> None:
        """SIGTERM and Ctrl-C: inside the loop, end at the next boundary; outside there is nothing to wait for."""
        interrupted = number == signal.SIGINT
        if interrupted and (not self._looping or self._boundary.exit_request is not None):
            raise KeyboardInterrupt
        if not self._looping:
            raise SystemExit(TERMINATED)
        self._boundary.request_exit(INTERRUPTED if interrupted else TERMINATED, save=True)
        if interrupted:
            print("training-supervisor: saving after this step; Ctrl-C again ends at once", file=sys.stderr)

    def close(self) -> None:
        """The script came to its normal end: save what no checkpoint holds yet, as after an early ``break``."""
        self._saver.wait()
        if self.made_progress:
            self._boundary.save_now(self._position(), "final", self._sections)

    def scale_learning_rates(self, restored: Mapping[str, str]) -> None:
        """Make learning rates smaller where a rollback asks for it; ``restored`` says what made the state that is back."""
        self._skipper.scale_learning_rates(self._context.made_by, restored)

    def flush_on_error(self, error: BaseException) -> None:
        """The script failed: tell of a trouble before it, which may be why. A device that failed has nothing to tell."""
        if not self.is_device_oom(error):
            with suppress(RuntimeError):
                self._step_log.flush()

    def is_device_oom(self, error: BaseException) -> bool:
        """Say whether the error means that the accelerator's memory is used up."""
        return self._state.is_device_oom(error)

    def _position(self) -> Position:
        return Position(self.step, self._total, self._epoch_steps)

    def _leave_loop(self) -> None:
        if self._looping:
            self._looping = False
            self._progress.enter(AFTER)

    def _on_text(self, name: str, what: str) -> None:
        self._context.send(
            TrainerNote("warning", f"run.log({name}=…): a {what} is written as text, because JSON has no such value")
        )
