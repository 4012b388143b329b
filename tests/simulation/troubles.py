"""Training that goes wrong, in the simulation: bad batches, what a trainer tells of them, and the laws of going back.

R1 a withdrawn checkpoint is never gone on from. R2 at most two rollbacks for one trouble. R3 what is left out is the same
on all machines. R4 the joined log replays to the state the run ends in, with each step done once or left out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

from supervisor.core import rollback
from supervisor.core.claim import rank_of
from supervisor.core.messages import Trouble

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.core import events as ev
    from supervisor.core.checkpoint import CheckpointId
    from supervisor.core.rollback import Rollback
    from tests.simulation.observer import Observer
    from tests.simulation.virtual_supervisor import Supervisor
    from tests.simulation.virtual_trainer import Trainer

SPACED = (40, 150)  # steps between bad batches
DELAYS = (0, 0, 1, 2)  # steps until a batch that poisoned the weights shows in the loss


@dataclass
class Bad:
    """The bad batches of a run: index to delay. ``mended``: a person has taken them out of the data."""

    batches: dict[int, int] = field(default_factory=dict)
    mended: bool = False

    @staticmethod
    def drawn(seed: int, total: int) -> Bad:
        """Draw some for a run of so many steps."""
        chance, batches, at = Random(f"bad {seed}"), {}, 0
        while (at := at + chance.randint(*SPACED)) < total - max(DELAYS) - 1:
            batches[at] = chance.choice(DELAYS)
        return Bad(batches)

    def poisons(self, step: int) -> bool:
        """Say whether the batch of this step ruins the weights."""
        return step in self.batches and not self.mended


def base(state: str) -> str:
    """Return a state without its sickness."""
    return state.partition(":")[0]


def sick_since(state: str) -> int | None:
    """Return the step whose batch ruined these weights, None if they are well."""
    since = state.partition(":")[2]
    return int(since) if since else None


def shows(state: str, step: int, bad: Bad) -> bool:
    """Say whether the loss of this step, after its batch was seen, is no number."""
    since = sick_since(state)
    return since is not None and step >= since + bad.batches[since]


class Noticing:
    """A trainer's watch: it looks at the rows when it saves, and often before."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._fine = -1
        self._found: Trouble | None = None
        self._told = False

    def begins(self, step: int) -> None:
        """The trainer goes on from here."""
        self._fine = step - 1

    def saw(self, step: int, *, nan: bool) -> None:
        """A step was logged."""
        if not nan:
            self._fine = step
        elif self._found is None:
            self._found = Trouble(step, "loss", "nan", "nan", self._fine)

    def looks(self) -> bool:
        """Look at the rows; say whether nothing may be saved any more."""
        if self._found is not None and not self._told:
            self._told = True
            self._trainer._say(self._found)
        return self._told


class Withdrawals:
    """Holds what was recorded of troubles against the laws. ``any``: whether there were any at all."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._records: dict[str, Rollback] = {}
        self._anew: dict[str, int] = {}
        self._sure: dict[Supervisor, set[str]] = {}
        self._fell_back: list[tuple[Rollback, float]] = []

    @property
    def any(self) -> bool:
        """Whether anybody recorded a trouble."""
        return bool(self._records)

    def written(self, by: Supervisor, path: str) -> None:
        """A file was written, whole or in part, for the first time or once more."""
        rank = rank_of(path.split("/")[1]) if path.count("/") == 2 else None
        name = path.rpartition("/")[2]
        if rank is None:
            return
        if rollback.ANEW.fullmatch(name):
            self._anew[path] = rank.epoch
        record = rollback.parse(rank, name)
        if record is None or path in self._records:
            return
        self._tries(by, record)
        self._records[path] = record
        kind = f"rolled back, try {record.tries}" if record.tries else "stopped by a trouble"
        self._observer.counts[kind] = self._observer.counts.get(kind, 0) + 1

    def restoring(self, by: Supervisor) -> None:
        """A session is going to choose where it goes on: what it must know by now."""
        shelf, now = self._observer.shelf, self._observer.world.now
        paths = (*self._records, *self._anew)
        self._sure[by] = {path for path in paths if shelf.since(path) <= now - shelf.lag_s}

    def began(self, epoch: int) -> int:
        """Return the epoch of the last session up to this one that began at step 0 on purpose, 0 for none."""
        return max((each for each in self._anew.values() if each <= epoch), default=0)

    def gone(self, id_: CheckpointId) -> bool:
        """Say whether anybody withdrew this checkpoint."""
        return rollback.withdrawn(id_, self._records.values())

    def chose(self, by: Supervisor, event: ev.CheckpointReady) -> None:
        """A session goes on from here, and leaves out what ``rolled`` says."""
        known = [self._records[path] for path in self._sure.get(by, ()) if path in self._records]
        if event.id is not None and event.id.rank != by.executor.storing.rank:
            self._hold("R1", not rollback.withdrawn(event.id, known), f"{event.id} is withdrawn")
        epoch = event.id.epoch if event.id is not None else None
        if event.id is not None and event.id.rank == by.executor.storing.rank:
            return  # only its trainer died: it leaves out what it left out before
        least = rollback.applying(known, set(self._anew.values()), epoch)
        most = set(self._records.values())
        words = f"{by.executor.storing.rank} leaves out {event.rolled}, of {least}"
        self._hold("R3", set(least) <= set(event.rolled) <= most, words)

    def did(self, by: Supervisor, step: int) -> None:
        """A trainer did this step and did not leave it out."""
        out = any(each.tries and each.skip_from <= step < each.skip_end for each in by.session.rolled)
        self._hold("R3", not out, f"{by.executor.storing.rank} does step {step}, which was to be left out")

    def replays(self, rows: Sequence[dict[str, Any]], final: str) -> None:
        """The log of a run in which batches were left out tells of the state it ended in."""
        chain = self._observer.chain
        self._hold("R4", [each["step"] for each in rows] == list(range(chain.total)), "the log has gaps")
        state = chain.states[0]
        for each in rows:
            if each.get("skipped"):
                continue
            self._hold("R4", each == chain.row(state, each["step"]), f"{each} is of no sound training")
            state = chain.following(state, each["step"])
        self._hold("R4", state == final, "the log is of another training than the last checkpoint")

    def _tries(self, by: Supervisor, record: Rollback) -> None:
        self._hold("R2", record.tries <= rollback.TRIES_MAX, f"{record}")
        known = {self._records[path] for path in self._sure.get(by, ()) if path in self._records}
        before = rollback.applying(known, set(self._anew.values()), by.session.rank.epoch)
        last = next((each for each in reversed(before) if each.tries), None)
        if record.tries != 1 or last is None or last.rank >= record.rank:
            return
        safe = [id_ for id_ in self._observer.durable if last.trouble < id_.step <= record.limit + 1]
        went_on = by.session.resumed_step > last.trouble
        self._hold("R2", bool(safe) or went_on, f"{record} calls itself a new trouble after {last}")

    def _hold(self, law: str, holds: bool, words: str) -> None:
        self._observer._hold(law, holds, words)


def final_state(observer: Observer) -> str:
    """Return the state in the newest checkpoint that is whole."""
    for id_ in sorted(observer.durable, reverse=True):
        if observer.loads(id_) and id_.step == observer.chain.total:
            files = observer._manifests[id_][1].files
            path = next(each.path for each in files if each.name == "state.json")
            told: str = json.loads(observer.shelf.copies(f"run/{path}")[0])["state"]
            return told
    raise AssertionError("no checkpoint of the end loads")
