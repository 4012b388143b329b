"""The run that a script gets from attach(): the remaining steps, the step log, and a boundary after each step."""

from __future__ import annotations

import signal
import sys
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from supervisor.core.errors import FENCED, INTERRUPTED, TERMINATED, UsageError
from supervisor.core.policy.liveness import SECTION_AFTER_LOOP
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
    """Made by ``attach()``. ``step`` counts the completed steps over all machines and attempts.

    In a checkpoint of step N, N steps are done, N is the next index, and the log has rows with smaller indices only. A script's
    own loop iterates ``steps()``. Where a framework owns the loop, a callback calls ``begin``, ``advance`` and ``end``.
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
        # Without a supervisor no files are restored; they stay where they are.
        self.companions = CompanionFiles(
            settings.working,
            settings.watch_dir,
            settings.staging,
            lambda message: context.send(TrainerNote("warning", message)),
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
        """A folder that stays on this machine between attempts: for caches, never for results."""
        self._context.settings.scratch.mkdir(parents=True, exist_ok=True)
        return self._context.settings.scratch

    @property
    def first_step(self) -> int:
        """The step that this process resumed from; 0 if the run began here."""
        return self._first_step

    @property
    def made_progress(self) -> bool:
        """At least one step was done in this process."""
        return self.step > self._first_step

    @property
    def completed_a_step(self) -> bool:
        """At least one step ended normally in this process. A step that an error interrupted does not count."""
        return self.step - self._unfinished_steps > self._first_step

    def steps(self, total: int, epoch_steps: int | None = None) -> Iterator[int]:
        """Yield the remaining 0-based step indices, and save and stop at the boundaries between them.

        A step that the script leaves by ``break`` counts as done if it has logged something.

        Args:
            total: the number of steps over all attempts.
            epoch_steps: steps of an epoch, for ``--save-every 2ep`` and the shown epoch; None if there are no epochs.
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
        """Yield the remaining 0-based epochs of the attached DataLoader, the current one first. Its batches are the steps.

        A batch's step is done when the next batch is requested. Code behind the inner loop belongs to its epoch.

        Args:
            total: the number of epochs over all attempts.

        Raises:
            UsageError: the number of attached DataLoaders is not one.
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
        """The loop has begun and has not ended."""
        return self._looping

    @property
    def in_section(self) -> bool:
        """The loop is in a section of its own, such as an evaluation."""
        return self._looping and self._sections.name != "step"

    def begin(self, total: int | None, epoch_steps: int | None = None) -> None:
        """Begin a loop that a framework drives. Sets the random generators to the checkpoint's.

        Args:
            total: the number of steps over all attempts; None if unknown.
            epoch_steps: steps of an epoch; None if unknown.

        Raises:
            SystemExit: the script was told to stop.
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
        """Count one completed step, and save and stop if that is due.

        The attached objects must be in the state to resume from, and the step's values must be logged before.

        Raises:
            SystemExit: the script is to stop, and its state is saved.
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
        """Return whether a rollback skips the step with this index."""
        return self._skipper.active and self._skipper.is_skipped(index)

    def skip_step(self) -> None:
        """Skip the next step instead of training, logging and ``advance``. The caller advances the data itself."""
        self._step_log.skip_step(self.step)
        self.advance()

    def end(self, *, early: bool = True) -> None:
        """End the loop, also before its ``total``, and save the steps that no checkpoint holds yet.

        Args:
            early: False if the framework did not report an early stop, so that a loop short of its total counts as a failure.
        """
        self._ended_early = early
        self.close()
        self._leave_loop()

    def log(self, **values: Any) -> None:
        """Log values of the current step: numbers, strings, or tensors with one element. The device is not waited for.

        Values that are logged after the last step are shown. They belong to no step, so that no checkpoint's log has them.
        """
        self._step_log.add(self.step, values)
        if not self._looping:
            self._progress.force_heartbeat()

    def save(self) -> None:
        """Request a checkpoint at the next step boundary."""
        self._boundary.request_save("script")

    def before_update(self) -> None:
        """Call this right before ``optimizer.step()`` to copy checkpoints during forward and backward.

        The first call promises that only the optimizer's step changes parameters and optimizer state.
        """
        self._saver.before_update()

    def flush(self) -> None:
        """Wait until the last save is staged, or its failure is reported."""
        self._saver.wait()

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Count the time within as ``name`` ("eval"). A section has a hang timeout of its own."""
        with self._progress.section(name):
            yield

    def enter_section(self, name: str) -> None:
        """Begin a section for callbacks with separate begin and end events; ``leave_section`` ends it."""
        stack = ExitStack()
        stack.enter_context(self.section(name))
        self._open_sections.append(stack)

    def leave_section(self) -> None:
        """End the section that was entered last."""
        self._open_sections.pop().close()

    @property
    def unreached_total(self) -> int | None:
        """The total of the last loop if the loop ended before it; None if the loop reached it."""
        return self._total if self._total is not None and self.step < self._total else None

    @property
    def stopped_short(self) -> bool:
        """A framework's loop ended before its total, and the framework did not report an early stop."""
        return self.unreached_total is not None and not self._ended_early and not self._looping

    def is_inside_loop(self, ended: SystemExit) -> bool:
        """Return whether the script exited within a loop. An exit at the requested stop step does not count."""
        if any(end is not None and self.step >= end for end in (self._total, self._boundary.stop_at)):
            return False
        return self._looping or (self._loop_exit is not None and self._loop_exit.caused_by(ended))

    # --- what the channel's thread calls: flags only --------------------------------------------------------------

    def beat(self) -> Heartbeat | None:
        """Return a heartbeat if step or section changed since the last one."""
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
        """Stop at the next boundary."""
        self._boundary.request_exit(0, save=message.save)

    def on_supervisor_lost(self) -> None:
        """Stage one last checkpoint and end. An orphan's later work would have no supervisor to upload it."""
        self._boundary.request_exit(FENCED, save=True)
        silence_pipes()
        self._context.end_after_grace()

    # --- restoring, signals and the end, called by attach() and the runner ----------------------------------------

    def set_resumed(self, step: int) -> None:
        """Record that the objects have the state of ``step``."""
        self.step = self._first_step = step
        self._progress.start_at(step)
        self._saver.staged_step = step
        self.resumed = True

    def on_signal(self, number: int) -> None:
        """Handle SIGTERM and Ctrl-C: stop at the next boundary, or at once outside the loop."""
        interrupted = number == signal.SIGINT
        if interrupted and (not self._looping or self._boundary.exit_request is not None):
            raise KeyboardInterrupt
        if not self._looping:
            raise SystemExit(TERMINATED)
        self._boundary.request_exit(INTERRUPTED if interrupted else TERMINATED, save=True)
        if interrupted:
            print("training-supervisor: saving after this step; Ctrl-C again ends at once", file=sys.stderr)

    def close(self) -> None:
        """Save what no checkpoint holds yet: the script ended normally, or left its loop early."""
        self._saver.wait()
        if self.made_progress:
            self._boundary.save_now(self._position(), "final", self._sections)

    def scale_learning_rates(self, restored: Mapping[str, str]) -> None:
        """Scale learning rates after a rollback.

        ``restored``: the restored checkpoint's ``made_by``, which lists applied rollbacks.
        """
        self._skipper.scale_learning_rates(self._context.made_by, restored)

    def flush_on_error(self, error: BaseException) -> None:
        """Report an anomaly that preceded the script's error, because it may be the cause.

        A failed device has no values to read.
        """
        if not self.is_device_oom(error):
            with suppress(RuntimeError):
                self._step_log.flush()

    def is_device_oom(self, error: BaseException) -> bool:
        """Return whether the error means that the accelerator's memory is used up."""
        return self._state.is_device_oom(error)

    def _position(self) -> Position:
        return Position(self.step, self._total, self._epoch_steps)

    def _leave_loop(self) -> None:
        if self._looping:
            self._looping = False
            self._progress.enter(SECTION_AFTER_LOOP)

    def _on_text(self, name: str, what: str) -> None:
        self._context.send(
            TrainerNote("warning", f"run.log({name}=…): a {what} is written as text, because JSON has no such value")
        )
