"""What the ledgers of a row's lives say: which steps were kept, lost and done wrong."""

from __future__ import annotations

import itertools
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path


class Line(NamedTuple):
    """One step: its loss to the last bit, and when its work began and ended on the machine's monotonic clock."""

    step: int
    loss: str
    began_s: float
    ended_s: float


@dataclass(slots=True)
class Life:
    """One machine, blank at ``began_s``. ``had``: a whole checkpoint was on the drive; ``raised``: starts that died before a step.

    ``wait_s``: seconds of the start that were counted, not waited.
    """

    began_s: float
    had: bool
    wait_s: float = 0.0
    raised: int = 0
    lines: list[Line] = field(default_factory=list)

    @property
    def start_s(self) -> float | None:
        """Seconds from the blank machine to the end of the first new step."""
        return self.lines[0].ended_s - self.began_s + self.wait_s if self.lines else None


class Reckoning(NamedTuple):
    """A row's result: the steps it kept, how long one takes, what a save costs, steps lost at each death, seconds of each start."""

    kept: int
    step_s: float
    save_s: float
    lost: list[int]
    starts_s: list[float]
    wrong: int
    failed: int


def read(path: Path) -> list[Line]:
    """Return the whole lines of a ledger; the last may be torn."""
    if not path.exists():
        return []
    whole = path.read_text("ascii").rpartition("\n")[0]
    rows = (line.split() for line in whole.splitlines())
    return [Line(int(step), loss, float(began), float(ended)) for step, loss, began, ended in rows]


def reckon(lives: Sequence[Life], truth: Mapping[int, str], saves: Callable[[int], bool]) -> Reckoning:
    """Put the lives together; the last only shows where a machine after all the deaths goes on.

    ``truth`` has the losses of the run that nothing interrupted, ``saves`` says of a step's index whether a save follows it.
    """
    gaps = [gap for life in lives for gap in _gaps(life.lines)]
    step_s = statistics.median(seconds for _, seconds in gaps)
    held_s = [seconds - step_s for step, seconds in gaps if saves(step)]
    return Reckoning(
        kept=lives[-1].lines[0].step if lives[-1].lines else 0,
        step_s=step_s,
        save_s=max(statistics.mean(held_s), 0.0) if held_s else 0.0,
        lost=_lost(lives),
        starts_s=[life.start_s for life in lives if life.start_s is not None],
        wrong=_wrong(lives, truth),
        failed=sum(life.raised + (life.had and (not life.lines or life.lines[0].step == 0)) for life in lives),
    )


def allowed(every_s: float, save_s: float, loss_s: float, life_s: float, restart_s: float) -> float:
    """Return the share of machine time that can be kept at these costs, as ``core.interval`` expects it, less restarts.

    ``loss_s`` is what a death takes: half the interval and one upload.
    """
    return 1 - save_s / (every_s + save_s) - loss_s / life_s - restart_s / life_s


def _gaps(lines: Sequence[Line]) -> list[tuple[int, float]]:
    """Return after which step how long it took until the next was done."""
    return [(one.step, other.ended_s - one.ended_s) for one, other in itertools.pairwise(lines)]


def _lost(lives: Sequence[Life]) -> list[int]:
    """Return how many steps each death took from the run: those that the next machine with a step went back."""
    worked = [life.lines for life in lives if life.lines]
    return [before[-1].step + 1 - after[0].step for before, after in itertools.pairwise(worked)]


def _wrong(lives: Sequence[Life], truth: Mapping[int, str]) -> int:
    """Return how many machines went on with a state that no run had there before.

    What goes on rightly from a wrong resume is not wrong a second time.
    """
    known = [dict(truth)]
    wrong = 0
    for life in lives:
        same = next((one for one in known if _agree(life.lines, one)), None)
        if same is None:
            wrong += 1
            same = {}
            known.append(same)
        same.update((line.step, line.loss) for line in life.lines)
    return wrong


def _agree(lines: Sequence[Line], known: Mapping[int, str]) -> bool:
    both = [(line.loss, known[line.step]) for line in lines if line.step in known]
    return all(mine == theirs for mine, theirs in both) and bool(both or not lines)
