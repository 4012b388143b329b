"""What people and programs see of a run: one value, folded from the records of all its sessions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from supervisor.core import commands as do
from supervisor.core import events as ev
from supervisor.core import messages, nonfinite, rollback
from supervisor.core.values import replace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor.core.instant import Instant

SCHEMA = 1
GOOD_KEPT = 16
TOGETHER_S = 1.0  # files that are written so soon after one another are one save
BADPUT = (
    "initialization", "environment set-up", "start-up", "data loading", "checkpoint save", "checkpoint restore",
    "wasted progress", "waiting for a machine", "other",
)  # fmt: skip
_NONE: Mapping[str, Any] = {"staged": None, "submitted": None, "durable": None}
_TEXTS = ("id", "cause", "platform", "device", "evidence", "place", "unconfirmed", "trouble", "store")
_NUMBERS = (
    "epoch", "attempt", "recoveries", "step", "total_steps", "epoch_of_data", "steps_per_s", "eta_s", "deadline_in_s",
    "durable_age_s", "next_save_in_s", "goodput", "started", "updated", "save_every_s", "expected_loss_s", "unconfirmed_s",
    "exit_code", "rollbacks",
)  # fmt: skip
_SECTIONS = {"start": "start-up", "restore": "checkpoint restore", "save": "checkpoint save", "data": "data loading"}


@dataclass(frozen=True, slots=True)
class OwnSaves:
    """Saves of a script that saves by itself, in this attempt; files written within a second are one.

    ``told``: by its framework. Else what is counted are the snapshots of its files.
    """

    count: int
    first: Instant
    last: Instant
    told: bool = False

    @property
    def every_s(self) -> float | None:
        """Seconds from one to the next, on average; None before the second."""
        return self.last.since(self.first) / (self.count - 1) if self.count > 1 else None


@dataclass(frozen=True, slots=True)
class RunStatus:
    """State of a run. Unknown is None, never 0. Times ending in ``_at`` are instants of the session's own clocks.

    ``nan_since``: the step from which a watched value is no number, None while all are; ``nan_fine``: with so many steps
    all was in order; ``nan_names``: the values, ``good``: steps of the newest DURABLE checkpoints, both as words.
    ``resumed``: whether the attempt goes on from what was restored; None where there was nothing, or it is not known yet.
    ``counted`` is False where no hook counts the steps: steps are then numbers of snapshots.
    ``own_saves``: of a script that nobody can ask for a save; None where it can be asked, or has not saved.
    """

    run: str = ""
    id: str = ""
    platform: str = ""
    device: str | None = None
    state: str = "PENDING"
    cause: str | None = None
    epoch: int | None = None
    attempt: int | None = None
    recoveries: int = 0
    step: int | None = None
    total_steps: int | None = None
    epoch_of_data: float | None = None
    step_s: float | None = None
    section: str | None = None
    staged: int | None = None
    submitted: int | None = None
    durable: int | None = None
    durable_at: Instant | None = None
    evidence: str | None = None
    unproved_since: Instant | None = None
    adopted: int | None = (
        None  # the step that was gone on from, verified on this machine's disk and not yet in the store
    )
    place: str = ""
    unconfirmed: str = ""
    provable: bool = True
    dark: bool = False
    next_save_at_s: float | None = None
    save_every_s: float | None = None
    expected_loss_s: float | None = None
    deadline_at_s: float | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    good_s: float = 0.0
    badput: Mapping[str, float] = field(default_factory=dict)
    started: Instant | None = None
    session_started: Instant | None = None
    updated: Instant | None = None
    attempt_seconds: Mapping[str, float] = field(default_factory=dict)
    session_from_step: int | None = None
    exit_code: int | None = None
    memory_available: float | None = None
    words: str = ""
    trouble: str = ""
    rollbacks: int = 0
    nan_since: int | None = None
    nan_fine: int = 0
    nan_names: str = ""
    good: str = ""
    resumed: bool | None = None
    counted: bool = True
    asked: bool = True
    own_saves: OwnSaves | None = None

    @property
    def unit(self) -> str:
        """What the numbers count: "step" or "snapshot"."""
        return "step" if self.counted else "snapshot"


def fold(status: RunStatus, record: Any, now: Instant) -> RunStatus:
    """Return the status after one record (an event or a command). Never raises; unknown records only move the time."""
    handler = _FOLDS.get(type(record))
    status = handler(status, record, now) if handler else status
    return replace(status, updated=now)


def begun_anew(status: RunStatus) -> RunStatus:
    """Return the status of a run that begins at step 0: no step of the training before is safe in the new one."""
    return replace(
        status, epoch_of_data=None, staged=None, submitted=None, durable=None, durable_at=None, evidence=None,
        unproved_since=None, metrics={}, session_from_step=None, trouble="", nan_since=None, nan_names="", good="",
    )  # fmt: skip


def to_json(status: RunStatus, now: Instant | None) -> dict[str, Any]:
    """Return the stable form that ``status --json`` prints. ``now`` None: no session lives, ages are unknown."""
    here = now or status.updated
    rate = None if not status.step_s else 1 / status.step_s
    left = None if status.total_steps is None or status.step is None else max(0, status.total_steps - status.step)
    live = now is not None
    return {
        "schema": SCHEMA,
        "run": status.run,
        "id": status.id,
        "state": status.state,
        "cause": status.cause,
        "platform": status.platform or None,
        "epoch": status.epoch,
        "attempt": status.attempt,
        "recoveries": status.recoveries,
        "step": status.step,
        "total_steps": status.total_steps,
        "epoch_of_data": status.epoch_of_data,
        "steps_per_s": rate,
        "eta_s": left * status.step_s if left is not None and status.step_s and live else None,
        "deadline_in_s": _until(status.deadline_at_s, here) if live else None,
        "checkpoints": {"staged": status.staged, "submitted": status.submitted, "durable": status.durable},
        "durable_age_s": _age(status.durable_at, here),
        "next_save_in_s": _until(status.next_save_at_s, here) if live else None,
        "goodput": goodput(status),
        "badput": {name: round(status.badput.get(name, 0.0), 3) for name in BADPUT},
        "metrics": dict(status.metrics),
        "device": status.device,
        "started": status.started.wall_s if status.started else None,
        "updated": status.updated.wall_s if status.updated else None,
        "save_every_s": status.save_every_s if status.asked else None,
        "expected_loss_s": status.expected_loss_s if status.asked else None,
        "evidence": status.evidence,
        "place": status.place or None,
        "unconfirmed": status.unconfirmed or None,
        "unconfirmed_s": _age(status.unproved_since, here),
        "provable": status.provable if status.submitted is not None else None,
        "store_answers": not status.dark if live else None,
        "exit_code": status.exit_code,
        "trouble": status.trouble or None,
        "rollbacks": status.rollbacks,
        "nan": nan_to_json(status),
        "resumed": status.resumed,
        "unit": status.unit,
        "own_saves": _own_saves(status, here),
        "adopted": status.adopted,
    }


def nan_to_json(status: RunStatus) -> dict[str, Any] | None:
    """Return since when which values are no numbers, and the newest checkpoint from before; None while all are numbers."""
    if status.nan_since is None:
        return None
    names = status.nan_names.split()
    return {"since": status.nan_since, "fine": status.nan_fine, "names": names, "last_good": last_good(status)}


def last_good(status: RunStatus) -> int | None:
    """Return the newest checkpoint from before the loss became no number; None while it is one, or where none is known."""
    if status.nan_since is None:
        return None
    return max((step for step in _steps(status.good) if step <= status.nan_fine), default=None)


def is_status(told: Mapping[str, Any]) -> bool:
    """Say whether each field of a JSON object is of the type that ``to_json`` gives it; absent ones are."""
    checkpoints, badput = told.get("checkpoints", _NONE), told.get("badput", {})
    return (
        all(isinstance(told.get(name, ""), str) for name in ("run", "state"))
        and all(isinstance(told.get(name), str | None) for name in _TEXTS)
        and all(isinstance(told.get(name), int | float | None) for name in _NUMBERS)
        and isinstance(told.get("metrics", {}), dict)
        and isinstance(checkpoints, dict)
        and all(isinstance(checkpoints.get(name, ""), int | None) for name in _NONE)
        and isinstance(badput, dict)
        and all(isinstance(each, int | float) for each in badput.values())
    )


def _own_saves(status: RunStatus, now: Instant | None) -> dict[str, Any] | None:
    """Return when a script that nobody can ask saved last, and how often it does."""
    own = status.own_saves
    if own is None or status.asked:
        return None
    every_s = None if own.every_s is None else round(own.every_s, 3)
    return {"count": own.count, "last_age_s": _age(own.last, now), "every_s": every_s}


def goodput(status: RunStatus) -> float | None:
    """Return the share of all time that made progress that was kept, 0 to 1, or None before the first beat."""
    total_s = status.good_s + sum(status.badput.values())
    return round(status.good_s / total_s, 4) if total_s > 0 and status.good_s > 0 else None


def _age(at: Instant | None, now: Instant | None) -> float | None:
    if at is None or now is None:
        return None
    wall_s, mono_s = now.wall_s - at.wall_s, now.mono_s - at.mono_s
    return round(max(0.0, mono_s if abs(wall_s - mono_s) < 1.0 else wall_s), 3)


def _until(at_s: float | None, now: Instant | None) -> float | None:
    return None if at_s is None or now is None else round(max(0.0, at_s - now.mono_s), 3)


def _started(status: RunStatus, _record: ev.Started, now: Instant) -> RunStatus:
    bad = dict(status.badput)
    if status.updated is not None:
        gap_s = max(0.0, now.wall_s - status.updated.wall_s)
        bad["waiting for a machine"] = bad.get("waiting for a machine", 0.0) + gap_s
    return replace(
        status, started=status.started or now, session_started=now, badput=bad, state="STARTING",
        attempt=None, staged=None, submitted=None, cause=status.cause, exit_code=None, words="",
        session_from_step=None, device=None, unproved_since=None, unconfirmed="", provable=True, dark=False,
    )  # fmt: skip


def _claimed(status: RunStatus, record: ev.ClaimWritten, _now: Instant) -> RunStatus:
    return replace(status, epoch=record.rank.epoch)


def _environment(status: RunStatus, record: ev.EnvironmentReady, _now: Instant) -> RunStatus:
    return _bad(status, "environment set-up", record.seconds)


def _restored(status: RunStatus, record: ev.CheckpointReady, now: Instant) -> RunStatus:
    step = record.id.step if record.id else 0
    status = _wasted(status, (status.step or 0) - step)
    status = _bad(status, "checkpoint restore", record.seconds)
    if record.id is None:
        status = begun_anew(status)
    elif record.durable:
        status = _known_good(status, step, restored=True)
    if step <= status.nan_fine:
        status = replace(status, nan_since=None, nan_names="")
    if record.adopted and not record.durable:
        status = replace(status, adopted=step, staged=step, unproved_since=status.unproved_since or now)
    known = step if record.durable and record.id else status.durable
    at = status.durable_at if known == status.durable else now
    first = step if status.session_from_step is None else status.session_from_step
    return replace(
        status, step=step, durable=known, durable_at=at, session_from_step=first, attempt_seconds={}, resumed=None,
        counted=record.counted if record.id else status.counted,
    )  # fmt: skip


def _wasted(status: RunStatus, steps: int) -> RunStatus:
    if steps <= 0 or not status.step_s:
        return status
    lost_s = min(steps * status.step_s, status.good_s)
    return replace(_bad(status, "wasted progress", lost_s), good_s=status.good_s - lost_s)


def _read_back(status: RunStatus, said: messages.ReadBack) -> RunStatus:
    if said.path:
        return replace(status, resumed=None if said.late else True)
    return replace(_wasted(status, status.step or 0), step=0, session_from_step=0, resumed=False)


def _launched(status: RunStatus, _record: ev.Launched, _now: Instant) -> RunStatus:
    return replace(status, attempt_seconds={}, section="start", own_saves=None)


def _said(status: RunStatus, record: ev.TrainerSaid, now: Instant) -> RunStatus:
    handler = _SAID.get(type(record.message))
    return handler(status, record.message, now) if handler else status


def _trouble(status: RunStatus, said: messages.Trouble) -> RunStatus:
    status = replace(status, trouble=rollback.what(said))
    if said.kind != "nan":
        return status
    names = " ".join(dict.fromkeys((*status.nan_names.split(), _key(said.name))))
    if status.nan_since is not None:
        return replace(status, nan_names=names)
    return replace(status, nan_since=said.step, nan_fine=rollback.fine_steps(said), nan_names=names)


def _nan_over(status: RunStatus, metrics: Mapping[str, Any]) -> RunStatus:
    """Where each value that was no number is one again, the trouble is over."""
    if status.nan_since is None:
        return status
    finite = {_key(name) for name, value in metrics.items() if not nonfinite.is_nonfinite(value)}
    left = [name for name in status.nan_names.split() if name not in finite]
    return replace(status, nan_names=" ".join(left), nan_since=status.nan_since if left else None)


def _known_good(status: RunStatus, step: int, *, restored: bool = False) -> RunStatus:
    """Note that a checkpoint is safe. Only the newest few count, and none that was gone back from."""
    before = (each for each in _steps(status.good) if each < step)
    kept = sorted({*(before if restored else _steps(status.good)), step})[-GOOD_KEPT:]
    return replace(status, good=" ".join(map(str, kept)))


def _steps(text: str) -> list[int]:
    return [int(each) for each in text.split() if each.isdecimal()]


def _key(name: str) -> str:
    return name.replace(" ", "_")


def _beat(status: RunStatus, beat: messages.Beat) -> RunStatus:
    for section, seconds in beat.seconds.items():
        spent_s = max(0.0, seconds - status.attempt_seconds.get(section, 0.0))
        if section in {"step", "eval"}:
            status = replace(status, good_s=status.good_s + spent_s)
        else:
            status = _bad(status, _SECTIONS.get(section, "other"), spent_s)
    status = _nan_over(status, beat.metrics)
    step_s = beat.step_s or status.step_s
    telling = step_s and beat.section != "start"  # else nothing is restored yet, or nobody counts the steps
    return replace(
        status,
        step=beat.step if telling else max(status.step or 0, beat.step),
        total_steps=beat.total_steps if beat.total_steps is not None else status.total_steps,
        epoch_of_data=beat.epoch_of_data if beat.epoch_of_data is not None else status.epoch_of_data,
        step_s=step_s,
        section=beat.section,
        asked=beat.asked,
        metrics={**status.metrics, **beat.metrics},
        attempt_seconds=dict(beat.seconds) or status.attempt_seconds,
    )


def _staged(status: RunStatus, said: messages.Staged, now: Instant) -> RunStatus:
    # where nobody counts the script's steps, the snapshots of its files say how far it is
    reached = status.step if status.step_s else max(status.step or 0, said.step)
    if said.reason in {"files", "end"} and not (status.own_saves and status.own_saves.told):
        status = _saved_by_itself(status, now, told=False)
    return replace(
        status, step=reached, staged=said.step, counted=said.counted, unproved_since=status.unproved_since or now
    )


def _saved_by_itself(status: RunStatus, now: Instant, *, told: bool) -> RunStatus:
    own = status.own_saves
    if own is None or own.told != told:
        return replace(status, own_saves=OwnSaves(1, now, now, told))
    new = now.since(own.last) >= TOGETHER_S
    return replace(status, own_saves=OwnSaves(own.count + new, own.first, now if new else own.last, told))


def _submitted(status: RunStatus, record: ev.Submitted, now: Instant) -> RunStatus:
    return replace(status, submitted=record.id.step, unproved_since=status.unproved_since or now)


def _durable(status: RunStatus, record: ev.Durable, now: Instant) -> RunStatus:
    status = _known_good(status, record.id.step)
    waiting = now if status.staged is not None and status.staged > record.id.step else None
    return replace(
        status, durable=record.id.step, durable_at=now, evidence=record.evidence, unproved_since=waiting,
        unconfirmed="", provable=True,
    )  # fmt: skip


def _unconfirmed(status: RunStatus, record: ev.Unconfirmed, _now: Instant) -> RunStatus:
    return replace(status, unconfirmed=record.words, provable=record.possible)


def _unreadable(status: RunStatus, record: ev.FenceUnreadable, _now: Instant) -> RunStatus:
    return replace(status, unconfirmed=f"the store does not answer: {record.error}", dark=True)


def _seen(status: RunStatus, _record: ev.FenceSeen, _now: Instant) -> RunStatus:
    return replace(status, unconfirmed="", dark=False) if status.dark else status


def _flushed(status: RunStatus, record: ev.Flushed, now: Instant) -> RunStatus:
    if record.error or record.id is None:
        return status
    return _durable(status, ev.Durable("", record.id, 0, 0.0, "flush"), now)


def _announced(status: RunStatus, record: do.Announce, _now: Instant) -> RunStatus:
    return replace(
        status,
        state=record.state,
        cause=record.cause or status.cause,
        attempt=record.attempt or status.attempt,
        recoveries=status.recoveries,
        deadline_at_s=record.deadline_at_s,
        next_save_at_s=record.next_save_at_s,
        save_every_s=record.save_every_s,
        expected_loss_s=record.expected_loss_s,
        exit_code=record.exit_code,
    )


def _exited(status: RunStatus, record: ev.TrainerExited, _now: Instant) -> RunStatus:
    return replace(status, section=None, recoveries=status.recoveries + (1 if record.code != 0 else 0))


def _memory(status: RunStatus, record: ev.MemorySeen, _now: Instant) -> RunStatus:
    return replace(status, memory_available=record.available_bytes / record.total_bytes if record.total_bytes else None)


def _bad(status: RunStatus, category: str, seconds: float) -> RunStatus:
    return replace(status, badput={**status.badput, category: status.badput.get(category, 0.0) + seconds})


_SAID: dict[type, Any] = {
    messages.Hello: lambda status, said, _now: replace(status, device=said.device or status.device),
    messages.Beat: lambda status, said, _now: _beat(status, said),
    messages.Staged: _staged,
    messages.Saved: lambda status, _said, now: _saved_by_itself(status, now, told=True),
    messages.Trouble: lambda status, said, _now: _trouble(status, said),
    messages.ReadBack: lambda status, said, _now: _read_back(status, said),
    messages.Restored: lambda status, said, _now: replace(status, step=said.step, resumed=True),
}
_FOLDS: dict[type, Any] = {
    ev.Started: _started,
    ev.ClaimWritten: _claimed,
    ev.EnvironmentReady: _environment,
    ev.CheckpointReady: _restored,
    ev.Launched: _launched,
    ev.TrainerSaid: _said,
    ev.TrainerExited: _exited,
    ev.Submitted: _submitted,
    ev.Durable: _durable,
    ev.Unconfirmed: _unconfirmed,
    ev.PublishFailed: lambda status, record, _now: replace(status, unconfirmed=record.error),
    ev.FenceSeen: _seen,
    ev.FenceUnreadable: _unreadable,
    ev.Flushed: _flushed,
    ev.MemorySeen: _memory,
    do.Announce: _announced,
    ev.MachineSeen: lambda status, record, _now: replace(status, device=status.device or record.device or None),
    do.WriteEnd: lambda status, record, _now: replace(status, words=record.words),
    do.WriteRollback: lambda status, at, _now: replace(status, rollbacks=status.rollbacks + bool(at.rollback.tries)),
}
