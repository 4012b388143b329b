"""Back before a trouble: which checkpoints are withdrawn by it, which steps are passed over, and how often that is tried.

A session that meets a trouble leaves one record of it in its own folder. All that the others need stands in the
record's name, so that a listing is enough and all machines draw the same from it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from supervisor.core import fields
from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from supervisor.core.checkpoint import CheckpointId
    from supervisor.core.claim import Rank
    from supervisor.core.messages import Trouble

ROLLED_BACK = "rolled-back"  # the reason of a session that ended to go on from before a trouble
TROUBLE = "trouble"  # of one that a trouble stopped
TRIES_MAX = 2
_RATE = r"([0-9]{1,20}(?:\.[0-9]{1,20})?(?:e-?[0-9]{1,3})?)"
RECORD = re.compile(rf"rollback-{'-'.join([f'({fields.STEPS})'] * 4)}-([0-9])-{_RATE}{fields.TWIN}\.json")
ANEW = re.compile(rf"anew{fields.TWIN}\.json")
ANEW_NAME = "anew.json"


@dataclass(frozen=True, slots=True)
class Rollback:
    """What the session ``rank`` left of a trouble that the step with the index ``trouble`` showed.

    Of it and of all sessions under it, checkpoints of more than ``limit`` steps are withdrawn. The indices
    ``skip_from <= index < skip_end`` are passed over from then on. ``tries``: 1 and 2 go back; 0 has only stopped, and
    passes over nothing. ``rate``: learning rates are multiplied by it once.
    """

    rank: Rank
    limit: int
    trouble: int
    skip_from: int = 0
    skip_end: int = 0
    tries: int = 0
    rate: float = 1.0

    @property
    def name(self) -> str:
        """The name of its record, in the folder of its session."""
        numbers = "-".join(f"{each:09d}" for each in (self.limit, self.trouble, self.skip_from, self.skip_end))
        return f"rollback-{numbers}-{self.tries}-{self.rate:g}.json"


def parse(rank: Rank, name: str) -> Rollback | None:
    """Return the rollback whose record has this name in the folder of this session; None for any other name.

    So for one that no session can have left: it would pass over more than what led to its trouble, or stop the learning.
    """
    match = RECORD.fullmatch(name)
    if match is None:
        return None
    limit, trouble, skip_from, skip_end, tries = (int(each) for each in match.groups()[:5])
    rate = float(match[6])
    passes_over = 0 <= skip_from <= skip_end == trouble + 1 if tries else skip_from == skip_end == 0
    if limit > trouble or tries > TRIES_MAX or not passes_over or not 0.0 < rate <= 1.0:
        return None
    return Rollback(rank, limit, trouble, skip_from, skip_end, tries, rate)


def withdrawn(id_: CheckpointId, rollbacks: Iterable[Rollback]) -> bool:
    """Say whether a rollback withdrew this checkpoint: then nobody ever goes on from it."""
    return any(id_.rank <= each.rank and id_.step > each.limit for each in rollbacks)


def applying(rollbacks: Iterable[Rollback], anew: Collection[int], epoch: int | None) -> tuple[Rollback, ...]:
    """Return those that hold for who goes on from a checkpoint of session ``epoch`` (None: from step 0), oldest first.

    ``anew``: the epochs of sessions that began at step 0 on purpose. What was before such a one is another training.
    """
    began = max((each for each in anew if epoch is None or each <= epoch), default=0)
    return tuple(sorted((each for each in rollbacks if each.rank.epoch >= began), key=lambda each: each.rank))


def decided(trouble: Trouble, *, mine: Rank, rolled: Sequence[Rollback], began: int, passed: int | None) -> Rollback:
    """Return the next rollback, whose ``tries`` are more than TRIES_MAX where it must not be made.

    ``rolled``: what holds already, oldest first. ``began``: the step this session went on from. ``passed``: the first
    step beyond the last trouble of which this session has a DURABLE checkpoint: with one before the new trouble, that
    is another trouble, and tried anew.
    """
    limit = fine_steps(trouble)
    last = _last(rolled)
    if last is None or began > last.trouble or (passed is not None and passed <= limit):
        return Rollback(mine, limit, trouble.step, limit, trouble.step + 1, tries=1)
    end = max(trouble.step + 1, last.skip_end)
    return Rollback(mine, max(0, min(limit, began - 1)), end - 1, 0, end, tries=last.tries + 1)


def stopped(instead_of: Rollback, trouble: Trouble, *, rolled: Sequence[Rollback], began: int) -> Rollback:
    """Return what is left by a session that stops instead: nothing from after the trouble is gone on from.

    Who mends the cause and starts again goes on from the same checkpoint. If after all tries the start after a stop meets
    the trouble too, then what it ``began`` with may be what is bad, and it is withdrawn: the next start tries an older one.
    """
    fine = fine_steps(trouble)
    limit = fine if fine >= began else max(0, trouble.step - 1)
    if instead_of.tries > TRIES_MAX and not rolled[-1].tries:
        limit = instead_of.limit
    return Rollback(instead_of.rank, limit, trouble.step)


def what(trouble: Trouble) -> str:
    """Return in words what happened."""
    happened = "is" if trouble.kind == "nan" else "jumps to"
    return f"{trouble.name} {happened} {trouble.value} at step {trouble.step:,}"


def told(rollback: Rollback) -> str:
    """Return in words what is done."""
    if not rollback.tries:
        return f"checkpoints after step {rollback.limit:,} are withdrawn"
    first, last = rollback.skip_from, rollback.skip_end - 1
    skips = f"steps {first:,} to {last:,}" if first else f"all steps up to {last:,}"
    slower = f", with the learning rate times {rollback.rate:g}" if rollback.rate != 1.0 else ""
    words = f"going back to step {rollback.limit:,} or before and leaving out {skips}{slower}"
    return f"{words} (try {rollback.tries} of {TRIES_MAX})"


def as_words(rolled: Iterable[Rollback]) -> str:
    """Return what the trainer has to heed, for its environment."""
    return " ".join(f"{each.rank}:{each.skip_from}:{each.skip_end}:{each.rate:g}" for each in rolled if each.tries)


def of_words(words: str) -> list[tuple[str, range, float]]:
    """Read that back: of each rollback the name of its session, the indices to pass over, the rate. Raises ValueError."""
    read = (word.split(":") for word in words.split())
    return [(name, range(int(begin), int(end)), float(rate)) for name, begin, end, rate in read]


def beyond(rolled: Sequence[Rollback], step: int) -> bool:
    """Say whether so many steps are beyond the last trouble that was gone back from."""
    last = _last(rolled)
    return last is not None and step > last.trouble


def needs_older(rolled: Sequence[Rollback], *, began: int, passed: int | None) -> bool:
    """Say whether the last trouble is not passed yet: then going back once more may need any checkpoint there is."""
    last = _last(rolled)
    return last is not None and began <= last.trouble and passed is None


def _last(rolled: Sequence[Rollback]) -> Rollback | None:
    return next((each for each in reversed(rolled) if each.tries), None)


def fine_steps(trouble: Trouble) -> int:
    """Return of how many steps a checkpoint is known to be good: the loss of the step after them was."""
    fine = trouble.step - 1 if trouble.fine is None else min(trouble.fine, trouble.step - 1)
    return max(0, fine)
