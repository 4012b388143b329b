"""A run as the script sees it: the steps still to do, the log, and a boundary after each step."""

from __future__ import annotations

import signal
import sys
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from supervisor.core.errors import FENCED, INTERRUPTED, TERMINATED, UsageError
from supervisor.core.liveness import AFTER
from supervisor.core.messages import Beat, Note, Save, Stop, Trouble
from supervisor.trainer.boundary import Boundary, Position
from supervisor.trainer.companions import CompanionFiles
from supervisor.trainer.ends import Left
from supervisor.trainer.life import silence_pipes
from supervisor.trainer.passing import Passing
from supervisor.trainer.rows import FLUSH_ROWS, WATCHED_ROWS, Rows
from supervisor.trainer.watched import Watch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from supervisor.trainer.clock import Clock
    from supervisor.trainer.life import Life
    from supervisor.trainer.saver import Saver
    from supervisor.trainer.sections import Sections
    from supervisor.trainer.state import State

WAKE_EVERY_S = 0.05


class Run:
    """Made by ``attach()``. ``step`` counts the steps that are done, over all machines and attempts.

    A checkpoint of step N says: N steps are done, N is the next index, and the log has rows under N only. A script's own
    loop goes over ``steps()``; where a framework has the loop, a callback calls ``begin``, ``advance`` and ``end``.
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
        awaited = life.settings.troubles.awaited
        self._watch = Watch(life.settings.troubles.names, self._on_trouble)
        flush_rows = WATCHED_ROWS if awaited else FLUSH_ROWS
        self._rows = Rows(self._on_nonfinite, self._watch.see, flush_rows=flush_rows, on_text=self._on_text)
        troubles = life.settings.troubles
        self._passing = Passing(troubles.rolled, state.attached, life.say, most=troubles.most)
        settings = life.settings
        # Without a supervisor nobody puts files back, and they stay where they are.
        self.companions = CompanionFiles(
            settings.working,
            settings.folder,
            settings.staging,
            lambda words: life.say(Note("warning", words)),
            supervised=settings.supervised,
        )
        self._boundary = Boundary(life, state, saver, self._rows, clock, companions=self.companions)
        self._nonfinite: set[str] = set()
        self._entered: list[ExitStack] = []
        self._total: int | None = None
        self._epoch_steps: int | None = None
        self._first_step = 0
        self._looping = False
        self._left: Left | None = None
        self._unended = 0
        self._early = True
        self._woken_s = clock() - WAKE_EVERY_S
        self._beat_seen: tuple[int, str] | None = None

    @property
    def scratch(self) -> Path:
        """A folder that stays on this machine from attempt to attempt: for caches, never for results."""
        self._life.settings.scratch.mkdir(parents=True, exist_ok=True)
        return self._life.settings.scratch

    @property
    def first_step(self) -> int:
        """The step that this process went on from; 0 where the run began here."""
        return self._first_step

    @property
    def made_progress(self) -> bool:
        """At least one step was done in this process."""
        return self.step > self._first_step

    @property
    def came_through_a_step(self) -> bool:
        """At least one step came to its end in this process: one that an error ended in its middle does not count."""
        return self.step - self._unended > self._first_step

    def steps(self, total: int, epoch_steps: int | None = None) -> Iterator[int]:
        """Yield the 0-based indices still to do, up to ``total`` steps over all attempts; save and end when it is time.

        A step that is left by ``break`` counts as done if it has logged something.
        """
        self._state.watch_data()
        self.begin(total, epoch_steps)
        try:
            while self.step < total:
                if self.skips(self.step):
                    self._passing.tell(self.step)
                    self.pass_over()
                    continue
                yield self.step
                self.advance()
        except GeneratorExit:
            self._unended = self._rows.holds(self.step)
            self.step += self._unended
            self._left = Left(sys._getframe(1))  # noqa: SLF001  # the frame that has the loop
            raise
        finally:
            self._leave_loop()

    def epochs(self, total: int) -> Iterator[int]:
        """Yield the 0-based epochs still to do of the attached DataLoader, the one under way first; its batches are the steps.

        A batch is a step that is done when the next one is asked for. What comes behind the inner loop belongs to its epoch.
        """
        places = self._state.places
        if len(places) != 1:
            raise UsageError(
                f"run.epochs() goes by one attached DataLoader, and {len(places) or 'none'} of that kind is attached",
                "call supervisor.attach(data=loader) with the one that trains, or go over run.steps(total)",
            )
        (place,) = places
        self.begin(total * len(place), len(place))
        place.drives = True
        try:
            while place.number < total:
                yield place.number
                place.epoch_ends()
        finally:
            place.drives = False
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
        self._left, self._early = None, True
        self._boundary.begin(self._position())
        self._passing.begins(self.step, total)
        for place in self._state.places:
            place.loop_begins()
        self._sections.enter("step")
        self._wake()
        self._looping = True
        self._boundary.end_if_told(self._position(), self._sections, made_progress=self.made_progress)
        if self._boundary.stop_at is not None and self.step >= self._boundary.stop_at:
            raise SystemExit(0)

    def advance(self) -> None:
        """One step more is done, and all that is attached is as it shall be found again: save and end when it is time.

        What is logged of a step is logged before. Raises SystemExit where the script is to end, its state saved.
        """
        if self._passing.any and self.skips(self.step) and not self._rows.holds_passed(self.step):
            self._passing.missed(self.step)
        self.step = step = self.step + 1
        now_s = self._clock()
        self._sections.lap(now_s)
        boundary = self._boundary
        due = boundary.attention or step >= boundary.due.step or now_s >= boundary.due.at_s
        if due or step in (self._total, boundary.stop_at):
            boundary.attend(self._position(), now_s, self._sections, made_progress=self.made_progress)

    def skips(self, index: int) -> bool:
        """Say whether the step with this index is to be left out, because training went wrong there before."""
        return self._passing.any and self._passing.skips(index)

    def pass_over(self) -> None:
        """Leave out the step that comes next: instead of doing it, logging and ``advance``. Its data are the caller's to pass."""
        self._rows.pass_over(self.step)
        self.advance()

    def end(self, *, early: bool = True) -> None:
        """The loop is over, also before its ``total``: save what no checkpoint holds yet.

        Not ``early``: the framework did not say that it stops sooner, so that a loop short of its total is no end.
        """
        self._early = early
        self.close()
        self._leave_loop()

    def log(self, **values: Any) -> None:
        """Note values of the present step: numbers, words, or tensors with one element, which are not waited for.

        What is logged after the last step is shown, but is in no checkpoint's log, because it belongs to no step.
        """
        self._rows.add(self.step, values)
        if not self._looping:
            self._beat_seen = None

    def save(self) -> None:
        """Ask for a checkpoint at the next step boundary."""
        self._boundary.ask("script")

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

    def enter(self, name: str) -> None:
        """As ``section``, for callbacks that hear of the begin and of the end apart: until ``leave``."""
        stack = ExitStack()
        stack.enter_context(self.section(name))
        self._entered.append(stack)

    def leave(self) -> None:
        """End the section that was entered last."""
        self._entered.pop().close()

    @property
    def short_of(self) -> int | None:
        """The total of the last loop where it was left before that; None where it came to its total."""
        return self._total if self._total is not None and self.step < self._total else None

    @property
    def stopped_short(self) -> bool:
        """A framework's loop ended before its total, and the framework did not say so."""
        return self.short_of is not None and not self._early and not self._looping

    def is_inside_loop(self, ended: SystemExit) -> bool:
        """Say whether the script ended itself in the middle of a loop; where it was told to stop at a step it did not."""
        if any(end is not None and self.step >= end for end in (self._total, self._boundary.stop_at)):
            return False
        return self._looping or (self._left is not None and self._left.by(ended))

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
            epoch_of_data=self._position().epoch_of_data,
            step_s=seconds.get("step", 0.0) / done if done else None,
            seconds=seconds,
            longest_s=dict(self._sections.longest_s),
            metrics=self._rows.metrics_if_any(),
        )

    def asked_to_save(self, message: Save) -> None:
        """Stage a checkpoint at the next boundary."""
        self._boundary.ask(message.reason)

    def asked_to_stop(self, message: Stop) -> None:
        """End at the next boundary."""
        self._boundary.end_at_next(0, save=message.save)

    def supervisor_gone(self) -> None:
        """Stage one last checkpoint and end: what is written after that would be an orphan's."""
        self._boundary.end_at_next(FENCED, save=True)
        silence_pipes()
        self._life.end_after_grace()

    # --- restoring, signals and the end, called by attach() and the runner ----------------------------------------

    def resume_at(self, step: int) -> None:
        """The state of ``step`` is back in the objects."""
        self.step = self._first_step = step
        self._watch.begins(step)
        self._saver.staged_step = step
        self.resumed = True

    def told_by_signal(self, number: int) -> None:
        """SIGTERM and Ctrl-C: inside the loop, end at the next boundary; outside there is nothing to wait for."""
        interrupted = number == signal.SIGINT
        if interrupted and (not self._looping or self._boundary.ending is not None):
            raise KeyboardInterrupt
        if not self._looping:
            raise SystemExit(TERMINATED)
        self._boundary.end_at_next(INTERRUPTED if interrupted else TERMINATED, save=True)
        if interrupted:
            print("training-supervisor: saving after this step; Ctrl-C again ends at once", file=sys.stderr)

    def close(self) -> None:
        """The script came to its normal end: save what no checkpoint holds yet, as after an early ``break``."""
        self._saver.wait()
        if self.made_progress:
            self._boundary.save_now(self._position(), "final", self._sections)

    def slow_down(self, restored: Mapping[str, str]) -> None:
        """Make learning rates smaller where a rollback asks for it; ``restored`` says what made the state that is back."""
        self._passing.slow_down(self._life.made_by, restored)

    def look_back(self, error: BaseException) -> None:
        """The script failed: tell of a trouble before it, which may be why. A device that failed has nothing to tell."""
        if not self.is_device_oom(error):
            with suppress(RuntimeError):
                self._rows.flush()

    def is_device_oom(self, error: BaseException) -> bool:
        """Say whether the error means that the accelerator's memory is used up."""
        return self._state.is_device_oom(error)

    def _position(self) -> Position:
        return Position(self.step, self._total, self._epoch_steps)

    def _leave_loop(self) -> None:
        if self._looping:
            self._looping = False
            self._sections.enter(AFTER)
            self._wake()

    def _wake(self) -> None:
        """Have the change of section told at once, but not more often than anybody looks."""
        now_s = self._clock()
        if now_s - self._woken_s >= WAKE_EVERY_S:
            self._woken_s = now_s
            self._life.wake()

    def _on_nonfinite(self, step: int, name: str, value: str) -> None:
        if name not in self._nonfinite and not self._boundary.poisoned:  # or the supervisor says it
            self._nonfinite.add(name)
            self._life.say(Note("warning", f"{name} is {value} at step {step}"))

    def _on_text(self, name: str, what: str) -> None:
        self._life.say(
            Note("warning", f"run.log({name}=…): a {what} is written as text, because JSON has no such value")
        )

    def _on_trouble(self, trouble: Trouble) -> None:
        self._boundary.poisoned |= self._life.met(trouble)
