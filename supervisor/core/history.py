"""How earlier machines of a run lived and ended, told from what they left behind: nothing announces a death."""

from __future__ import annotations

from dataclasses import field, replace
from typing import TYPE_CHECKING

from supervisor.core.rollback import ROLLED_BACK, TROUBLE
from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from supervisor.core.events import HistoryRead
from supervisor.core.spoken import duration

LIVES_KEPT = 50
NEAR_LIMIT = 0.9
MEMORY_LOW = 0.05
HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Story:
    """What one session left. ``end`` is "" where it left no word; ``here`` is True if it ran on this very machine.

    ``age_s``: how old its machine was when it began.
    """

    epoch: int
    platform: str = ""
    lived_s: float | None = None
    limit_s: float | None = None
    end: str = ""
    end_words: str = ""
    first_step: int | None = None
    last_step: int | None = None
    durable_step: int | None = None
    step_s: float | None = None
    memory_available: float | None = None
    longest_s: Mapping[str, float] = field(default_factory=dict)
    here: bool = False
    counted: bool = True
    age_s: float = 0.0


def tell(carried: HistoryRead, stories: Sequence[Story]) -> HistoryRead:
    """Add the stories (oldest first) to the history that was carried along; ``words`` are about the last of them."""
    for story in stories:
        carried = _add(carried, story)
    if not stories:
        return replace(carried, words="")
    last = stories[-1]
    return replace(carried, words=words(last), last_step=last.last_step, step_s=last.step_s)


def words(story: Story) -> str:
    """Return one paragraph: how this machine ended and how far it had come."""
    return f"The last machine (session {story.epoch}) {sentence(story)}"


def sentence(story: Story) -> str:
    """Return the same without its subject."""
    lived = f" after {duration(story.lived_s)}" if story.lived_s is not None else ""
    unit = "step" if story.counted else "snapshot"
    reached = f" It had reached {unit} {story.last_step:,}" if story.last_step is not None else ""
    safe = "."
    if story.durable_step is not None and story.durable_step > (
        story.last_step or 0
    ):  # it began at its first step again
        safe = f"; {unit} {story.durable_step:,} of before was safe."
    elif story.durable_step is not None:
        safe = f", of which {unit} {story.durable_step:,} was safe."
    tail = f"{reached}{safe}" if reached else ""
    return f"{_ending(story)}{lived}.{tail}"


def _ending(story: Story) -> str:
    planned = {
        "handed-over": "ended as planned",
        "stopped": f"was {story.end_words or 'stopped by the user'}",
        "succeeded": "finished the run",
        "fenced": "gave way to another machine",
        ROLLED_BACK: f"went back to before a trouble ({story.end_words})",
        TROUBLE: f"was stopped by a trouble ({story.end_words})",
    }
    if story.end in planned:
        return planned[story.end]
    if story.end:
        return f"failed ({story.end_words or story.end})"
    if story.memory_available is not None and story.memory_available < MEMORY_LOW:
        return "was lost without a word, most likely because its memory ran out (under 5 % was left)"
    if story.limit_s and story.lived_s is not None and story.lived_s >= NEAR_LIMIT * story.limit_s:
        return f"was reclaimed near its limit of {duration(story.limit_s)}"
    if story.here:
        return "was this one: the supervisor was killed or crashed, or the machine was restarted"
    return "was lost early, without a word"


def _add(carried: HistoryRead, story: Story) -> HistoryRead:
    lost = not story.end
    progressed = (story.durable_step or 0) > (story.first_step or 0)
    lives = carried.lives_s if story.lived_s is None else (*carried.lives_s, story.lived_s)[-LIVES_KEPT:]
    reclaimed, on = carried.reclaimed_s, dict(carried.reclaimed_on)
    if lost and not story.here and story.lived_s is not None and story.lived_s + story.age_s > HOUR_S:
        reached_s = story.lived_s + story.age_s
        reclaimed = (*reclaimed, reached_s)[-LIVES_KEPT:]
        on[story.platform] = (*on.get(story.platform, ()), reached_s)[-LIVES_KEPT:]
    longest_s = {**carried.longest_s}
    for section, seconds in story.longest_s.items():
        longest_s[section] = max(seconds, longest_s.get(section, 0.0))
    return replace(
        carried,
        lives_s=lives,
        reclaimed_s=reclaimed,
        lost=carried.lost + lost,
        lost_in_a_row=0 if progressed or not lost else carried.lost_in_a_row + 1,
        longest_s=longest_s,
        reclaimed_on=on,
    )
