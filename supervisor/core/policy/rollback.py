"""Rollback after a loss anomaly: the rolled-back checkpoints, the skipped steps, and the number of attempts.

Theory of operation

An anomaly is a loss that is not finite, or one that jumps. If the user chose "stop" or "rollback", the session ends and
leaves one record. The next session derives from all records where to resume and which steps to skip.

Rules:

1. A record is a file of the session's own folder. Its name holds every number, so a listing is enough (I5):
   ``rollback-<limit>-<anomaly>-<skip from>-<skip end>-<attempt>-<rate>.json``. The content is for people.
2. The record is written before the session ends. A session that cannot write it does not roll back.
3. A record covers its own session and all older ones. Their checkpoints beyond ``limit`` steps are rolled back and
   never resumed from. Checkpoints of later sessions are not affected.
4. ``limit`` is the last step whose checkpoint is known good: the loss logged at the step after it was normal.
5. Later sessions skip the steps ``skip_from <= index < skip_end`` and advance the data past them.
6. Learning rates are multiplied by ``rate`` once per record.
7. At most ``ATTEMPTS_MAX`` attempts are made for one anomaly. After that the session stops, with attempt 0 in its record.
8. A session that starts at step 0 on purpose leaves ``anew.json``. Records of older sessions do not apply after it.

Cases:

- First anomaly, or the session resumed beyond the last one: attempt 1. It skips from ``limit`` to the anomaly.
- An anomaly while the last one is not passed yet: the next attempt. The resumed checkpoint itself is suspect.
  The session resumes from an older one and skips everything from step 0 on to the later of the two anomalies.
- A durable checkpoint beyond the last anomaly exists, before the new one: the last anomaly is over. This is a new one,
  with attempt 1 again.
- The attempts are used up, or the user chose "stop": the record rolls back the checkpoints beyond the last good step
  and skips nothing. A restart resumes from the same checkpoint, after the user has corrected the cause.
- A restart after such a stop meets the anomaly again: the checkpoint it resumed from is rolled back too.
- A name that no session can have written, for example one that skips steps after its anomaly: it is ignored.

While the last anomaly is not passed yet, nothing is pruned: another attempt may need any older checkpoint.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from supervisor.core.frozen import dataclass
from supervisor.core.wire import fields

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from supervisor.core.checkpoint.manifest import CheckpointId
    from supervisor.core.checkpoint.session_id import SessionId
    from supervisor.core.wire.messages import Anomaly

ROLLED_BACK = "rolled-back"  # the reason of a session that ended to go on from before a trouble
STOPPED_BY_ANOMALY = "trouble"  # of one that a trouble stopped
ATTEMPTS_MAX = 2
_RATE = r"([0-9]{1,20}(?:\.[0-9]{1,20})?(?:e-?[0-9]{1,3})?)"
RECORD = re.compile(rf"rollback-{'-'.join([f'({fields.STEPS})'] * 4)}-([0-9])-{_RATE}{fields.TWIN}\.json")
ANEW = re.compile(rf"anew{fields.TWIN}\.json")
ANEW_NAME = "anew.json"


@dataclass(frozen=True, slots=True)
class Rollback:
    """What the session ``session_id`` left of a trouble that the step with the index ``anomaly_step`` showed.

    Of it and of all sessions under it, checkpoints of more than ``last_good_step`` steps are withdrawn. The indices
    ``skip_from <= index < skip_end`` are passed over from then on. ``attempt``: 1 and 2 go back; 0 has only stopped, and
    passes over nothing. ``rate``: learning rates are multiplied by it once.
    """

    session_id: SessionId
    last_good_step: int
    anomaly_step: int
    skip_from: int = 0
    skip_end: int = 0
    attempt: int = 0
    rate: float = 1.0

    @property
    def name(self) -> str:
        """The name of its record, in the folder of its session."""
        numbers = "-".join(
            f"{each:09d}" for each in (self.last_good_step, self.anomaly_step, self.skip_from, self.skip_end)
        )
        return f"rollback-{numbers}-{self.attempt}-{self.rate:g}.json"


def parse(rank: SessionId, name: str) -> Rollback | None:
    """Return the rollback whose record has this name in the folder of this session; None for any other name.

    So for one that no session can have left: it would pass over more than what led to its trouble, or stop the learning.
    """
    match = RECORD.fullmatch(name)
    if match is None:
        return None
    limit, trouble, skip_from, skip_end, tries = (int(each) for each in match.groups()[:5])
    rate = float(match[6])
    passes_over = 0 <= skip_from <= skip_end == trouble + 1 if tries else skip_from == skip_end == 0
    if limit > trouble or tries > ATTEMPTS_MAX or not passes_over or not 0.0 < rate <= 1.0:
        return None
    return Rollback(rank, limit, trouble, skip_from, skip_end, tries, rate)


def is_rolled_back(id_: CheckpointId, rollbacks: Iterable[Rollback]) -> bool:
    """Say whether a rollback withdrew this checkpoint: then nobody ever goes on from it."""
    return any(id_.session_id <= each.session_id and id_.step > each.last_good_step for each in rollbacks)


def active(rollbacks: Iterable[Rollback], anew: Collection[int], epoch: int | None) -> tuple[Rollback, ...]:
    """Return those that hold for who goes on from a checkpoint of session ``epoch`` (None: from step 0), oldest first.

    ``anew``: the epochs of sessions that began at step 0 on purpose. What was before such a one is another training.
    """
    began = max((each for each in anew if epoch is None or each <= epoch), default=0)
    return tuple(
        sorted((each for each in rollbacks if each.session_id.generation >= began), key=lambda each: each.session_id)
    )


def next_rollback(
    trouble: Anomaly, *, mine: SessionId, rolled: Sequence[Rollback], began: int, passed: int | None
) -> Rollback:
    """Return the next rollback, whose ``tries`` are more than TRIES_MAX where it must not be made.

    ``rolled``: what holds already, oldest first. ``began``: the step this session went on from. ``passed``: the first
    step beyond the last trouble of which this session has a DURABLE checkpoint: with one before the new trouble, that
    is another trouble, and tried anew.
    """
    limit = last_good_step(trouble)
    last = _last(rolled)
    if last is None or began > last.anomaly_step or (passed is not None and passed <= limit):
        return Rollback(mine, limit, trouble.step, limit, trouble.step + 1, attempt=1)
    end = max(trouble.step + 1, last.skip_end)
    return Rollback(mine, max(0, min(limit, began - 1)), end - 1, 0, end, attempt=last.attempt + 1)


def stop_record(instead_of: Rollback, trouble: Anomaly, *, rolled: Sequence[Rollback], began: int) -> Rollback:
    """Return what is left by a session that stops instead: nothing from after the trouble is gone on from.

    Who mends the cause and starts again goes on from the same checkpoint. If after all tries the start after a stop meets
    the trouble too, then what it ``began`` with may be what is bad, and it is withdrawn: the next start tries an older one.
    """
    fine = last_good_step(trouble)
    limit = fine if fine >= began else max(0, trouble.step - 1)
    if instead_of.attempt > ATTEMPTS_MAX and not rolled[-1].attempt:
        limit = instead_of.last_good_step
    return Rollback(instead_of.session_id, limit, trouble.step)


def describe_anomaly(trouble: Anomaly) -> str:
    """Return in words what happened."""
    happened = "is" if trouble.kind == "nan" else "jumps to"
    return f"{trouble.name} {happened} {trouble.value} at step {trouble.step:,}"


def describe(rollback: Rollback) -> str:
    """Return in words what is done."""
    if not rollback.attempt:
        return f"checkpoints after step {rollback.last_good_step:,} are withdrawn"
    first, last = rollback.skip_from, rollback.skip_end - 1
    skips = f"steps {first:,} to {last:,}" if first else f"all steps up to {last:,}"
    slower = f", with the learning rate times {rollback.rate:g}" if rollback.rate != 1.0 else ""
    words = f"going back to step {rollback.last_good_step:,} or before and leaving out {skips}{slower}"
    return f"{words} (try {rollback.attempt} of {ATTEMPTS_MAX})"


def to_env(rolled: Iterable[Rollback]) -> str:
    """Return what the trainer has to heed, for its environment."""
    return " ".join(
        f"{each.session_id}:{each.skip_from}:{each.skip_end}:{each.rate:g}" for each in rolled if each.attempt
    )


def from_env(words: str) -> list[tuple[str, range, float]]:
    """Read that back: of each rollback the name of its session, the indices to pass over, the rate. Raises ValueError."""
    read = (word.split(":") for word in words.split())
    return [(name, range(int(begin), int(end)), float(rate)) for name, begin, end, rate in read]


def is_past(rolled: Sequence[Rollback], step: int) -> bool:
    """Say whether so many steps are beyond the last trouble that was gone back from."""
    last = _last(rolled)
    return last is not None and step > last.anomaly_step


def must_keep_older(rolled: Sequence[Rollback], *, began: int, passed: int | None) -> bool:
    """Say whether the last trouble is not passed yet: then going back once more may need any checkpoint there is."""
    last = _last(rolled)
    return last is not None and began <= last.anomaly_step and passed is None


def _last(rolled: Sequence[Rollback]) -> Rollback | None:
    return next((each for each in reversed(rolled) if each.attempt), None)


def last_good_step(trouble: Anomaly) -> int:
    """Return of how many steps a checkpoint is known to be good: the loss of the step after them was."""
    fine = trouble.step - 1 if trouble.last_good_step is None else min(trouble.last_good_step, trouble.step - 1)
    return max(0, fine)
