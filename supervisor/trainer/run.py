"""A run as the script sees it: the steps still to do, the log, and what happens between two steps."""

from __future__ import annotations

import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from supervisor.core.errors import FENCED, INTERRUPTED, TERMINATED
from supervisor.core.messages import Beat, Note, Save, SaveFailed, Stop, Stopped
from supervisor.trainer.clock import Clock, sleep
from supervisor.trainer.due import Due
from supervisor.trainer.folder import Draft
from supervisor.trainer.life import silence_pipes
from supervisor.trainer.refused import RefusedError
from supervisor.trainer.rows import Rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from supervisor.trainer.life import Life
    from supervisor.trainer.saver import Saver
    from supervisor.trainer.sections import Sections
    from supervisor.trainer.state import Captured, State

TRIES = 3
TRY_AGAIN_S = 0.5
WAKE_EVERY_S = 0.05


class Run:
    """Made by ``attach()``. ``step`` counts the steps that are done, over all machines and attempts.

    A checkpoint of step N says: N steps are done, N is the next index, and the log has rows under N only. Other threads
    and signal handlers only set ``_attention`` and what goes with it; everything happens between two steps.
    """

    def __init__(self, life: Life, state: State, saver: Saver, sections: Sections, clock: Clock) -> None:
        self.step = 0
        self.resumed = False
        self.name = life.settings.name
        self.attempt = life.settings.attempt
        self._life = life
        self._state = state
        self._saver = saver
        self._sections = sections
        self._clock = clock
        self._due = Due(life.settings.save_every)
        self._rows = Rows(self._on_nonfinite)
        self._nonfinite: set[str] = set()
        self._total: int | None = None
        self._epoch_steps: int | None = None
        self._first_step = 0
        self._stop_at = life.settings.stop_at
        self._given_up_step: int | None = None
        self._looping = False
        self._attention = False
        self._prepared = False
        self._asked: str | None = None
        self._ending: tuple[int, bool] | None = None  # exit code, save before
        self._woken_s = clock() - WAKE_EVERY_S
        self._beat_seen: tuple[int, str] | None = None

    @property
    def scratch(self) -> Path:
        """A folder that stays on this machine from attempt to attempt: for caches, never for results."""
        self._life.settings.scratch.mkdir(parents=True, exist_ok=True)
        return self._life.settings.scratch

    @property
    def made_progress(self) -> bool:
        """At least one step was done in this process."""
        return self.step > self._first_step

    def steps(self, total: int, epoch_steps: int | None = None) -> Iterator[int]:
        """Yield the 0-based indices still to do, up to ``total`` steps over all attempts; save and end when it is time.

        A step that is left by ``break`` counts as done if it has logged something.
        """
        self._begin(total, epoch_steps)
        try:
            for index in range(self.step, total):
                yield index
                self.step = index + 1
                now_s = self._clock()
                self._sections.lap(now_s)
                due = index + 1 >= self._due.step or now_s >= self._due.at_s
                if due or self._attention or index + 1 in (total, self._stop_at):
                    self._attend(now_s)
        except GeneratorExit:
            self.step += self._rows.holds(self.step)
            raise
        finally:
            self._looping = False

    def log(self, **values: Any) -> None:
        """Note values of the present step: numbers, words, or tensors with one element, which are not waited for.

        What is logged after the last step is shown, but is in no checkpoint's log, because it belongs to no step.
        """
        self._rows.add(self.step, values)
        if not self._looping:
            self._beat_seen = None

    def save(self) -> None:
        """Ask for a checkpoint at the next step boundary."""
        self._asked, self._attention = "script", True

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
        with self._sections.within(name):
            self._wake()
            yield
        self._wake()

    # --- what the channel's thread calls: flags only --------------------------------------------------------------

    def beat(self) -> Beat | None:
        """Return a beat if something has moved since the last."""
        now = (self.step, self._sections.name)
        if now == self._beat_seen:
            return None
        self._beat_seen = now
        seconds = dict(self._sections.seconds)
        done = self.step - self._first_step
        return Beat(
            step=now[0],
            section=now[1],
            total_steps=self._total,
            epoch_of_data=self._epoch_of_data(),
            step_s=seconds.get("step", 0.0) / done if done else None,
            seconds=seconds,
            longest_s=dict(self._sections.longest_s),
            metrics=self._rows.metrics_if_any(),
        )

    def asked_to_save(self, message: Save) -> None:
        """Stage a checkpoint at the next boundary."""
        self._asked, self._attention = message.reason, True

    def asked_to_stop(self, message: Stop) -> None:
        """End at the next boundary."""
        self._ending, self._attention = (0, message.save), True

    def supervisor_gone(self) -> None:
        """Stage one last checkpoint and end: what is written after that would be an orphan's."""
        self._ending, self._attention = (FENCED, True), True
        silence_pipes()
        self._life.end_after_grace()

    # --- restoring, signals and the end, called by attach() and the runner ----------------------------------------

    def resume_at(self, step: int) -> None:
        """The state of ``step`` is back in the objects."""
        self.step = self._first_step = step
        self._saver.staged_step = step
        self.resumed = True

    def told_by_signal(self, number: int) -> None:
        """SIGTERM and Ctrl-C: inside the loop, end at the next boundary; outside there is nothing to wait for."""
        interrupted = number == signal.SIGINT
        if interrupted and (not self._looping or self._ending is not None):
            raise KeyboardInterrupt
        if not self._looping:
            raise SystemExit(TERMINATED)
        self._ending, self._attention = (INTERRUPTED if interrupted else TERMINATED, True), True
        if interrupted:
            print("training-supervisor: saving after this step; Ctrl-C again ends at once", file=sys.stderr)

    def close(self) -> None:
        """The script came to its normal end: save what no checkpoint holds yet, as after an early ``break``."""
        self._saver.wait()
        if self.made_progress and self.step not in {self._saver.staged_step, self._given_up_step}:
            self._save_now("final")

    def is_device_oom(self, error: BaseException) -> bool:
        """Say whether the error means that the accelerator's memory is used up."""
        return self._state.is_device_oom(error)

    # --- between two steps ----------------------------------------------------------------------------------------

    def _begin(self, total: int, epoch_steps: int | None) -> None:
        self._total, self._epoch_steps = total, epoch_steps
        self._due.begin(self.step, self._clock(), epoch_steps)
        for word in self._state.put_back_rng():
            self._life.say(Note("warning", word))
        self._sections.enter("step")
        self._wake()
        self._looping = True
        self._attention = True  # after the first step the state has all it will have, the optimizer's too
        if self._ending is not None:
            self._end(*self._ending)
        if self._stop_at is not None and self.step >= self._stop_at:
            raise SystemExit(0)

    def _attend(self, now_s: float) -> None:
        """Something waits to be done after the step; what still cannot be done keeps its flag."""
        self._attention = False
        if self._ending is not None:
            self._end(*self._ending)
        if self.step in (self._total, self._stop_at):
            self._save_now("final")
            if self.step != self._total:
                raise SystemExit(0)
            return
        if self.step >= self._due.step or now_s >= self._due.at_s:
            self._asked = self._asked or "due"
            self._due.passed(self.step, now_s)
        if not self._prepared and self._asked is None and (captured := self._captured()):
            self._saver.prepare(captured)
        self._prepared = True
        if self._asked is not None and self._saver.busy:
            self._attention = True  # look again after the next step
        elif self._asked is not None:
            reason, self._asked = self._asked, None
            self._save_beside(reason)

    def _save_beside(self, reason: str) -> None:
        with self.section("save"):
            began_s = self._clock()
            if captured := self._captured():
                self._saver.begin(self._draft(captured), captured, reason, began_s)

    def _captured(self) -> Captured | None:
        try:
            return self._state.captured()
        except RefusedError as error:  # the state was fine when it was attached: training goes on, and it is said
            self._life.say(SaveFailed(self.step, f"{error.what}; {error.hint}"))
            return None

    def _save_now(self, reason: str) -> None:
        """Save before going on, trying again a few times: after this there is no next boundary."""
        with self.section("save"):
            self._saver.wait()
            for tried in range(TRIES):
                if self._saver.staged_step == self.step:
                    return
                sleep(TRY_AGAIN_S * tried)
                if captured := self._captured():
                    self._saver.save_now(self._draft(captured), captured, reason)
            if self._saver.staged_step == self.step:
                return
        self._given_up_step = self.step
        self._life.say(
            Note("warning", f"step {self.step} could not be saved; the checkpoint before it stays the newest")
        )

    def _end(self, exit_code: int, save: bool) -> None:
        if save and self.made_progress:
            self._save_now("stop")
        self._saver.wait()
        self._looping = False
        self._life.say_last(Stopped(self.step))
        raise SystemExit(exit_code)

    def _draft(self, captured: Captured) -> Draft:
        self._saver.wait()  # so that it is known which rows are staged already
        if self._saver.staged_step is not None:
            self._rows.forget(self._saver.staged_step)
        return Draft(
            step=self.step,
            total_steps=self._total,
            epoch_of_data=self._epoch_of_data(),
            objects=captured.text,
            generators=captured.generators,
            rows=self._rows.taken(self.step),
            metrics=self._rows.metrics(),
            made_by=self._life.made_by,
            split={},
        )

    def _wake(self) -> None:
        """Have the change of section told at once, but not more often than anybody looks."""
        now_s = self._clock()
        if now_s - self._woken_s >= WAKE_EVERY_S:
            self._woken_s = now_s
            self._life.wake()

    def _epoch_of_data(self) -> float | None:
        return self.step / self._epoch_steps if self._epoch_steps else None

    def _on_nonfinite(self, step: int, name: str, value: str) -> None:
        if name not in self._nonfinite:
            self._nonfinite.add(name)
            self._life.say(Note("warning", f"{name} is {value} at step {step}"))
