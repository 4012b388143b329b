"""A script that has not called attach(): what the hooks count of it, said to the supervisor; and what can be asked of it."""

from __future__ import annotations

import math
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from supervisor.core.liveness import AFTER
from supervisor.core.messages import Beat, Message, Note, ReadBack, Save, Saved, Stop, Stopped, Trouble
from supervisor.trainer import clock
from supervisor.trainer.hooks import put_back
from supervisor.trainer.hooks.saves import Saves
from supervisor.trainer.sections import Sections
from supervisor.trainer.watched import Watch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor.core.messages import Scalar
    from supervisor.trainer.life import Life

WAKE_EVERY_S = 0.05
LOSS, TORCH = "loss", "torch"


class Driver(Protocol):
    """A framework's loop that can be asked for something; both are called in the channel's thread and only set flags."""

    @property
    def saves_when_asked(self) -> bool:
        """Whether ``save_soon`` leads to a save."""

    def save_soon(self) -> None:
        """Save at the next place where the framework can, if that is worth a file of its own."""

    def end_soon(self, grace_s: float) -> bool:
        """Save and end within that time, by ``Unattached.stop_here``; False if it cannot."""


class Unattached:
    """``step`` counts the steps done over all attempts, as far as a hook tells them; the loop's thread alone counts.

    It begins at the step of the files that were put back, and at 0 again if the script reads none of them (``begins``).
    A framework that has the loop takes it (``driver``): from then on its own count is what counts. With attach() the
    script speaks for itself, and all of this is silent.
    """

    def __init__(self, life: Life) -> None:
        self.step = life.settings.base_step
        self.total_steps: int | None = None
        self.epoch: float | None = None
        self.values: dict[str, Any] = {}  # the newest, as the framework gave them: made numbers only for a beat
        self.driver: Driver | None = None
        self.sections = Sections(clock.now_s)
        self.saves = Saves(self)
        self._life = life
        self._learns = False
        self._stepped = False
        self._timed_steps = 0
        self._watch = Watch(life.settings.troubles.names, self._on_trouble, sampled=True)
        self._watch.begins(self.step)
        self._beside_said = False
        self.attaches = life.settings.attach  # a callback of ours is to join the next loop
        self._nonfinite: set[str] = set()
        self._judged: dict[str, Any] = {}
        self._poisoned = self._done_again = False
        self._woken_s = -math.inf
        self._beat_seen: tuple[int, str] | None = None
        self._put_back = put_back.begin(life.settings.put_back)
        self.began = False
        self.loads: set[str] | None = None  # what has loaded a state; None where no hook can tell

    @property
    def silent(self) -> bool:
        """The script is attached: whatever is said of it, it says itself."""
        return self._life.run is not None

    @property
    def step_or_none(self) -> int | None:
        """Steps done, None where nobody counts them: training goes on, and no step was seen."""
        return self.step if self._stepped or not self.began else None

    @property
    def stepped_yet(self) -> bool:
        """Whether a step was seen in this life."""
        return self._stepped

    @property
    def step_s(self) -> float | None:
        """Seconds that a step takes on average; None where none was timed."""
        return self.sections.lapped_s / self._timed_steps if self._timed_steps > 0 else None

    # --- what the hooks call, in the loop's thread ----------------------------------------------------------------

    def begins(self, *, trains: bool = True) -> None:
        """Training begins: what was opened until now of the files that were put back is what the script goes on from.

        Not ``trains``: the script ends without a step of this process, which then knows nothing of what was loaded.
        """
        if self.began or self.silent:
            return
        self.began = True
        files = self._put_back
        if files is None:
            return
        path = files.look()
        if not files.known:
            self._put_back = None
            return
        if not path and not self._stepped:
            self.step = 0
            self._watch.begins(0)
        loaded = "" if self.loads is None or not (path and trains) else " ".join(sorted(self.loads)) or "nothing"
        self.say(ReadBack(path, loaded=loaded))

    def loop_began(self, driver: Driver, step: int, total_steps: int | None) -> None:
        """A framework's loop begins; it tells when it is in a step, so that how long one takes can be learned."""
        self.loads = None  # it loads in its own ways
        self.begins()
        self.driver, self.total_steps, self._learns = driver, total_steps, True
        self.step, self._stepped = step, self._stepped or step > 0
        self._watch.begins(step)
        self.enter("step")

    def loop_ended(self) -> None:
        """The framework's loop is over; what comes now may be anything."""
        self.driver, self.total_steps, self._learns = None, None, False
        self.enter(AFTER)

    def stepped(self, step: int | None = None) -> None:
        """One more step is done, or, where the framework counts them itself, ``step`` are."""
        if not self.began:
            self.begins()
        before, self.step = self.step, self.step + 1 if step is None else step
        if self.sections.name != "step":
            self.enter("step")
        else:
            self.sections.lap(clock.now_s())
            self._timed_steps += self.step - before
        self._stepped = True

    def enter(self, name: str) -> None:
        """The script is in another section now."""
        if self.sections.name != name:
            self.sections.enter(name)
            self._wake()

    @contextmanager
    def within(self, name: str) -> Iterator[None]:
        """Count the time within as ``name``."""
        with self.sections.within(name):
            self._wake()
            yield
        self._wake()

    def say(self, message: Message) -> None:
        """Say it, unless the script speaks for itself."""
        if not self.silent:
            self._life.say(message)

    def saved(self, path: str, step: int | None = None, *, whole: bool = True) -> None:
        """Say that a file or folder was written, now or at an earlier ``step``."""
        if not self.began and TORCH not in sys.modules:  # nothing else tells where training of such a script begins
            self.begins()
        self.say(Saved(path, self.step_or_none if step is None else step, whole))

    def saved_beside(self, path: str) -> None:
        """Say, the first time, that a file which an attached script saves itself is in no checkpoint."""
        run = self._life.run
        if run is None or self._beside_said or run.companions.covers(path):
            return
        self._beside_said = True
        folder, working = Path(path).parent, self._life.settings.working
        way = f"--watch {os.path.relpath(folder, working)} keeps that folder, at the same step"
        if folder == working:
            way = "save it into a folder of its own and name that with --watch"
        words = f"{os.path.relpath(path, working)} is not part of the checkpoints, and is missing on another machine"
        self._life.say(Note("warning", f"{words}: {way}"))

    def stop_here(self) -> None:
        """End the script, whose state is saved: it was told to."""
        self._life.say_last(Stopped(self.step))
        raise SystemExit(0)

    # --- what the channel's thread calls --------------------------------------------------------------------------

    def beat(self) -> Beat | None:
        """Return a beat if something has moved since the last; the first says that the process lives."""
        self.saves.look()
        self._tell_of_late_reading()
        now = (self.step, self.sections.name)
        if now == self._beat_seen:
            return None
        self._beat_seen = now
        self._tell_of_steps_to_leave_out()
        seconds, longest_s = dict(self.sections.seconds), dict(self.sections.longest_s)
        if not self._learns:
            # Between two steps of a plain loop may lie anything, such as a first validation: nothing tells the hooks.
            longest_s.pop("step", None)
        return Beat(
            step=now[0],
            section=now[1],
            total_steps=self.total_steps,
            epoch_of_data=self.epoch,
            step_s=self.step_s,
            seconds=seconds,
            longest_s=longest_s,
            metrics=self._metrics(now[0]),
            asked=self.driver is not None and self.driver.saves_when_asked,
        )

    def asked_to_save(self, _message: Save) -> None:
        """Have the framework save soon, if it can be asked to; otherwise the script saves when it always does."""
        if self.driver is not None:
            self.driver.save_soon()

    def asked_to_stop(self, message: Stop) -> None:
        """Have the framework save and end, if it can be asked to; otherwise only the system's own way is left."""
        if not (message.save and self.driver is not None and self.driver.end_soon(message.grace_s)):
            self._life.asked_to_stop(message)

    def supervisor_gone(self) -> None:
        """End, because nobody would look after what this process goes on writing."""
        self._life.supervisor_gone()

    def _metrics(self, step: int) -> dict[str, Scalar]:
        """Return the newest values as numbers. It may wait for the device, but the loop does not wait for it."""
        values, numbers = dict(self.values), dict[str, float]()
        for name, value in values.items():
            try:
                numbers[name] = float(value)
            except (TypeError, ValueError, RuntimeError):
                continue  # not one number, or the device failed: the script meets that error itself
        new = {name: number for name, number in numbers.items() if self._judged.get(name) is not values[name]}
        self._judged = values
        self._watch.see(step - 1, new)
        return {
            name: number if self._is_finite(step, name, number) else str(number) for name, number in numbers.items()
        }

    def _is_finite(self, step: int, name: str, number: float) -> bool:
        finite = math.isfinite(number)
        if not finite and name not in self._nonfinite and not self._poisoned:  # or the supervisor says it
            self.say(Note("warning", f"{name} is {number} at step {step}"))
        (self._nonfinite.discard if finite else self._nonfinite.add)(name)
        return finite

    def _on_trouble(self, trouble: Trouble) -> None:
        self._poisoned |= self._life.met(trouble)

    def _tell_of_steps_to_leave_out(self) -> None:
        if self._stepped and not self._done_again and self._life.settings.troubles.rolled:
            self._done_again = True
            words = "nothing is left out after going back, and no rate is smaller: this script is not attached, so it"
            self.say(Note("warning", f"{words} does the same steps again, with the same data if it draws the same"))

    def _tell_of_late_reading(self) -> None:
        files = self._put_back
        if self.began and files is not None and not files.opened and (path := files.look()):
            self.say(ReadBack(path, late=True))

    def _wake(self) -> None:
        now_s = clock.now_s()
        if now_s - self._woken_s >= WAKE_EVERY_S:
            self._woken_s = now_s
            self._life.wake()
