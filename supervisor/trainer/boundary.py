"""What happens between two steps: the save that is due or asked for, and the end that was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from supervisor.core.messages import Note, Stopped
from supervisor.trainer.clock import sleep
from supervisor.trainer.due import Due
from supervisor.trainer.folder import Draft
from supervisor.trainer.refused import RefusedError, first_lines

if TYPE_CHECKING:
    from supervisor.trainer.clock import Clock
    from supervisor.trainer.companions import CompanionFiles
    from supervisor.trainer.life import Life
    from supervisor.trainer.rows import Rows
    from supervisor.trainer.saver import Saver
    from supervisor.trainer.sections import Sections
    from supervisor.trainer.state import Captured, State

TRIES = 3
TRY_AGAIN_S = 0.5


class Position(NamedTuple):
    """Between two steps: ``step`` are done of ``total_steps``, ``epoch_steps`` make an epoch; None where it is not known."""

    step: int
    total_steps: int | None
    epoch_steps: int | None

    @property
    def epoch_of_data(self) -> float | None:
        """Epochs done, as a number with a fraction."""
        return self.step / self.epoch_steps if self.epoch_steps else None


class Boundary:
    """Other threads and signal handlers only set ``asked`` or ``ending``, then ``attention``; the loop's thread attends."""

    def __init__(
        self, life: Life, state: State, saver: Saver, rows: Rows, clock: Clock, *, companions: CompanionFiles
    ) -> None:
        self.attention = False
        self.asked: str | None = None
        self.ending: tuple[int, bool] | None = None  # exit code, save before
        self.due = Due(life.settings.save_every)
        self.stop_at = life.settings.stop_at
        self.poisoned = False  # training has gone wrong: nothing more is saved until the supervisor has decided
        self._life = life
        self._state = state
        self._saver = saver
        self._rows = rows
        self._clock = clock
        self._companions = companions
        self._prepared = False
        self._given_up_step: int | None = None

    def ask(self, reason: str) -> None:
        """Have a checkpoint staged at the next boundary."""
        self.asked, self.attention = reason, True

    def end_at_next(self, exit_code: int, *, save: bool) -> None:
        """Have the script end at the next boundary."""
        self.ending, self.attention = (exit_code, save), True

    def begin(self, here: Position) -> None:
        """The loop begins: from now on what is due is counted."""
        self.due.begin(here.step, self._clock(), here.epoch_steps)
        for word in self._state.put_back_rng():
            self._life.say(Note("warning", word))
        self.attention = True  # after the first step the state has all it will have, the optimizer's too

    def attend(self, here: Position, now_s: float, sections: Sections, *, made_progress: bool) -> None:
        """Do what waits to be done after the step; what still cannot be done keeps its flag. May raise SystemExit."""
        self.attention = False
        self.end_if_told(here, sections, made_progress=made_progress)
        if here.step in (here.total_steps, self.stop_at):
            self.save_now(here, "final", sections)
            if here.step != here.total_steps:
                raise SystemExit(0)
            return
        if here.step >= self.due.step or now_s >= self.due.at_s:
            self.asked = self.asked or "due"
            self.due.passed(here.step, now_s)
        if not self._prepared and self.asked is None and (captured := self._captured(here.step)):
            self._saver.prepare(captured)
        self._prepared = True
        if self.asked is not None and self._saver.busy:
            self.attention = True  # look again after the next step
        elif self.asked is not None:
            reason, self.asked = self.asked, None
            self._save_beside(here, reason, sections)

    def end_if_told(self, here: Position, sections: Sections, *, made_progress: bool) -> None:
        """End the script if it was told to: a last save, a last word, SystemExit."""
        if self.ending is None:
            return
        exit_code, save = self.ending
        if save and made_progress:
            self.save_now(here, "stop", sections)
        self._saver.wait()
        self._life.say_last(Stopped(here.step))
        raise SystemExit(exit_code)

    def save_now(self, here: Position, reason: str, sections: Sections) -> None:
        """Save before going on, trying again a few times: after this there is no next boundary."""
        self._saver.wait()
        if self._saver.forked or here.step in {self._saver.staged_step, self._given_up_step}:
            return
        with sections.within("save"):
            self._life.wake()
            for tried in range(TRIES):
                sleep(TRY_AGAIN_S * tried)
                captured = self._captured(here.step)
                draft = self._draft(here, captured) if captured else None
                if self.poisoned:
                    return
                if captured and draft:
                    self._saver.save_now(draft, captured, reason)
                if self._saver.staged_step == here.step:
                    return
        self._given_up_step = here.step
        words = f"step {here.step} could not be saved; the checkpoint before it stays the newest"
        self._life.say(Note("warning", words))

    def _save_beside(self, here: Position, reason: str, sections: Sections) -> None:
        with sections.within("save"):
            began_s = self._clock()
            captured = self._captured(here.step)
            draft = self._draft(here, captured) if captured else None  # numbers from the rows may show a trouble
            if captured and draft and not self.poisoned:
                self._saver.begin(draft, captured, reason, began_s)

    def _captured(self, step: int) -> Captured | None:
        try:
            return self._state.captured()
        except RefusedError as error:  # the state was fine when it was attached: training goes on, and it is said
            self._saver.failed(step, f"{error.what}; {error.hint}")
        except Exception as error:  # noqa: BLE001  # a state_dict() of the script: a save that fails must not end the run
            self._saver.failed(step, f"state_dict() failed: {first_lines(error, 2)}")
        finally:
            self._life.notice(self._state)
        return None

    def _draft(self, here: Position, captured: Captured) -> Draft | None:
        """Return the checkpoint without its tensors; None, and a word, where the script's files cannot be copied."""
        self._saver.wait()  # so that it is known which rows are staged already
        if self._saver.staged_step is not None:
            self._rows.forget(self._saver.staged_step)
        try:
            companions = self._companions.take(here.step)
        except OSError as error:
            self._saver.failed(here.step, f"the script's files cannot be copied: {error}")
            return None
        return Draft(
            step=here.step,
            total_steps=here.total_steps,
            epoch_of_data=here.epoch_of_data,
            objects=captured.text,
            generators=captured.generators,
            rows=self._rows.taken(here.step),
            metrics=self._rows.metrics(),
            made_by=self._life.made_by,
            split={},
            beside=captured.beside,
            companions=companions,
        )
