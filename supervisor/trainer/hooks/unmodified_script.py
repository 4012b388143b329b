"""Progress reports and save or stop requests for scripts that do not call attach()."""

from __future__ import annotations

import math
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from supervisor.core.policy.liveness import SECTION_AFTER_LOOP
from supervisor.core.wire.messages import (
    Heartbeat,
    Message,
    ReadBack,
    SaveRequest,
    ScriptSavedFile,
    Stopped,
    StopRequest,
    TrainerNote,
)
from supervisor.trainer import clock
from supervisor.trainer.hooks import restored_files
from supervisor.trainer.hooks.save_tracker import SaveTracker
from supervisor.trainer.steps.progress import ProgressMonitor
from supervisor.trainer.steps.section_timer import SectionTimer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor.core.wire.messages import Scalar
    from supervisor.trainer.context import TrainerContext

LOSS, TORCH = "loss", "torch"


class LoopControl(Protocol):
    """A framework's loop that accepts requests. Both methods are called in the channel's thread and only set flags."""

    @property
    def saves_on_request(self) -> bool:
        """``request_save`` leads to a save."""

    def request_save(self) -> None:
        """Save at the next possible place, if that is worth a file of its own."""

    def request_end(self, grace_s: float) -> bool:
        """Save and end within that time, by ``UnmodifiedScript.stop``; return False if that is impossible."""


class UnmodifiedScript:
    """``step`` counts the steps over all attempts, as far as hooks report them. Only the loop's thread counts.

    It starts at the step of the restored files, and at 0 if the script reads none of them (``on_training_start``). A
    framework's
    loop sets ``loop``, and its own count is used from then on. With attach() the script reports itself, and all of this is
    silent.
    """

    def __init__(self, context: TrainerContext) -> None:
        self.step = context.settings.base_step
        self.total_steps: int | None = None
        self.epoch: float | None = None
        self.values: dict[str, Any] = {}  # the newest, as the framework gave them: made numbers only for a beat
        self.loop: LoopControl | None = None
        self.sections = SectionTimer(clock.now_s)
        self.saves = SaveTracker(self)
        self._context = context
        self._times_steps = False
        self._has_stepped = False
        self._timed_steps = 0
        self._progress = ProgressMonitor(context, self.sections, clock.now_s, sampled=True)
        self._progress.start_at(self.step)
        self._unkept_reported = False
        self.auto_attach = context.settings.auto_attach  # a callback of ours is to join the next loop
        self._monitored_values: dict[str, Any] = {}
        self._unskipped_reported = False
        self._restored_files = restored_files.watch_restored_files(context.settings.restored_list)
        self.training_started = False
        self.loads: set[str] | None = None  # what has loaded a state; None where no hook can tell

    @property
    def silent(self) -> bool:
        """The script is attached and reports itself."""
        return self._context.run is not None

    @property
    def step_or_none(self) -> int | None:
        """Steps done; None if no hook counts them: training has started, and no step was reported."""
        return self.step if self._has_stepped or not self.training_started else None

    @property
    def has_stepped(self) -> bool:
        """A step was reported in this process."""
        return self._has_stepped

    @property
    def step_s(self) -> float | None:
        """Seconds of a step on average; None if none was timed."""
        return self.sections.lapped_s / self._timed_steps if self._timed_steps > 0 else None

    # --- what the hooks call, in the loop's thread ----------------------------------------------------------------

    def on_training_start(self, *, trains: bool = True) -> None:
        """Report the restored files that the script has opened so far: it resumes from them.

        Args:
            trains: False if the script ends without a step of this process, so that its loads say nothing.
        """
        if self.training_started or self.silent:
            return
        self.training_started = True
        files = self._restored_files
        if files is None:
            return
        path = files.poll()
        if not files.known:
            self._restored_files = None
            return
        if not path and not self._has_stepped:
            self.step = 0
            self._progress.start_at(0)
        loaded = "" if self.loads is None or not (path and trains) else " ".join(sorted(self.loads)) or "nothing"
        self.send(ReadBack(path, loaded=loaded))

    def on_loop_start(self, loop: LoopControl, step: int, total_steps: int | None) -> None:
        """Begin a framework's loop. It reports when it is in a step, so that the step time can be learned."""
        self.loads = None  # it loads in its own ways
        self.on_training_start()
        self.loop, self.total_steps, self._times_steps = loop, total_steps, True
        self.step, self._has_stepped = step, self._has_stepped or step > 0
        self._progress.start_at(step)
        self.enter("step")

    def on_loop_end(self) -> None:
        """End the framework's loop; the following work is unknown."""
        self.loop, self.total_steps, self._times_steps = None, None, False
        self.enter(SECTION_AFTER_LOOP)

    def on_step(self, step: int | None = None) -> None:
        """Count one more completed step, or, if the framework counts itself, set ``step``."""
        if not self.training_started:
            self.on_training_start()
        before, self.step = self.step, self.step + 1 if step is None else step
        if self.sections.name != "step":
            self.enter("step")
        else:
            self.sections.lap(clock.now_s())
            self._timed_steps += self.step - before
        self._has_stepped = True

    def enter(self, name: str) -> None:
        """Enter another section."""
        if self.sections.name != name:
            self._progress.enter(name)

    @contextmanager
    def within(self, name: str) -> Iterator[None]:
        """Count the time within as ``name``."""
        with self._progress.section(name):
            yield

    def send(self, message: Message) -> None:
        """Send a message, unless the script reports itself."""
        if not self.silent:
            self._context.send(message)

    def saved(self, path: str, step: int | None = None, *, whole: bool = True) -> None:
        """Report a written file or folder, of now or of an earlier ``step``."""
        # Without torch, no other hook tells where training begins.
        if not self.training_started and TORCH not in sys.modules:
            self.on_training_start()
        self.send(ScriptSavedFile(path, self.step_or_none if step is None else step, whole))

    def warn_unkept_file(self, path: str) -> None:
        """Warn once that a file which an attached script saves itself is in no checkpoint."""
        run = self._context.run
        if run is None or self._unkept_reported or run.companions.covers(path):
            return
        self._unkept_reported = True
        folder, working = Path(path).parent, self._context.settings.working
        way = f"--watch-dir {os.path.relpath(folder, working)} keeps that folder, at the same step"
        if folder == working:
            way = "save it into a folder of its own and name that with --watch-dir"
        message = f"{os.path.relpath(path, working)} is not part of the checkpoints, and is missing on another machine"
        self._context.send(TrainerNote("warning", f"{message}: {way}"))

    def stop(self) -> None:
        """End the script as requested; its state is saved."""
        self._context.send_final(Stopped(self.step))
        raise SystemExit(0)

    # --- what the channel's thread calls --------------------------------------------------------------------------

    def beat(self) -> Heartbeat | None:
        """Return a heartbeat if something changed since the last one. The first one shows that the process lives."""
        self.saves.poll_open_files()
        self._report_late_read()
        step = self.step
        if not self._progress.has_news(step):
            return None
        self._warn_if_unskipped()
        seconds, longest_s = dict(self.sections.seconds), dict(self.sections.longest_s)
        if not self._times_steps:
            # Between two steps of a plain loop may lie anything, such as a first validation: nothing tells the hooks.
            longest_s.pop("step", None)
        return Heartbeat(
            step=step,
            section=self.sections.name,
            total_steps=self.total_steps,
            epoch=self.epoch,
            step_s=self.step_s,
            seconds=seconds,
            longest_s=longest_s,
            metrics=self._metrics(step),
            saves_on_request=self.loop is not None and self.loop.saves_on_request,
        )

    def on_save_request(self, _message: SaveRequest) -> None:
        """Have the framework save soon if it can; otherwise the script saves at its usual times."""
        if self.loop is not None:
            self.loop.request_save()

    def on_stop_request(self, message: StopRequest) -> None:
        """Have the framework save and end if it can; otherwise send SIGTERM."""
        if not (message.save and self.loop is not None and self.loop.request_end(message.grace_s)):
            self._context.on_stop_request(message)

    def on_supervisor_lost(self) -> None:
        """End the process, because no supervisor would upload its further work."""
        self._context.on_supervisor_lost()

    def _metrics(self, step: int) -> dict[str, Scalar]:
        """Return the newest values as numbers. This may wait for the device; the loop does not wait for this."""
        values, numbers = dict(self.values), dict[str, float]()
        for name, value in values.items():
            try:
                numbers[name] = float(value)
            except (TypeError, ValueError, RuntimeError):
                continue  # not one number, or the device failed: the script meets that error itself
        new = {name: number for name, number in numbers.items() if self._monitored_values.get(name) is not values[name]}
        self._monitored_values = values
        self._progress.observe(step - 1, new)
        return {
            name: number if self._is_finite(step, name, number) else str(number) for name, number in numbers.items()
        }

    def _is_finite(self, step: int, name: str, number: float) -> bool:
        if math.isfinite(number):
            self._progress.rearm_nonfinite(name)
            return True
        self._progress.warn_nonfinite(step, name, number)
        return False

    def _warn_if_unskipped(self) -> None:
        if self._has_stepped and not self._unskipped_reported and self._context.settings.anomalies.rollbacks:
            self._unskipped_reported = True
            message = "nothing is left out after going back, and no rate is smaller: this script is not attached, so it"
            self.send(
                TrainerNote("warning", f"{message} does the same steps again, with the same data if it draws the same")
            )

    def _report_late_read(self) -> None:
        files = self._restored_files
        if self.training_started and files is not None and not files.opened and (path := files.poll()):
            self.send(ReadBack(path, late=True))
