"""All that can be told of a run right now: from its store, and from the live status where its session lives here."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from supervisor.core import rollback
from supervisor.core.errors import FAILED_PRECHECKS, FAILED_SETUP
from supervisor.core.rollback import ROLLED_BACK
from supervisor.core.status import RunStatus, to_json
from supervisor.core.values import dataclass
from supervisor.engine import checkpoints, claims, history, notes, runs
from supervisor.engine.place import STATUS, RunPlace
from supervisor.engine.runs import Run
from supervisor.engine.telling import told_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from supervisor.core.checkpoint import CheckpointId
    from supervisor.core.claim import Rank
    from supervisor.core.instant import Instant
    from supervisor.core.ports import Store
    from supervisor.engine.here import Here

FINAL_STATES = frozenset({"SUCCEEDED", "CANCELLED", "FAILED", "FAILED_SETUP", "FAILED_PRECHECKS", "FAILED_CONTROLLER"})
QUIET_S = 90.0
ASKED_MAX = 8  # checkpoints whose journals are read: on a drive each piece is a download
_AFTER_END = {
    "succeeded": "SUCCEEDED",
    "stopped": "CANCELLED",
    "handed-over": "PENDING",
    "controller-failed": "FAILED_CONTROLLER",
    "failed-setup": "FAILED_SETUP",
    "fenced": "RUNNING",
}
_AFTER_CODE = {FAILED_SETUP: "FAILED_SETUP", FAILED_PRECHECKS: "FAILED_PRECHECKS"}
_OF_THE_LIVING = frozenset(
    {"state", "eta_s", "deadline_in_s", "next_save_in_s", "durable_age_s", "unconfirmed_s", "store_answers"}
)
_OF_THIS_FILE = frozenset({"store", "arrival"})  # what the live status tells besides


@dataclass(frozen=True, slots=True)
class Overview:
    """What is seen of a run; ``plain`` is what ``status --json`` prints.

    ``alive``: does the newest session live, None where this machine cannot tell. ``silent_s``: since its last sign in
    the store, by the wall clock, for words only; up to ``quiet_s`` of that mean nothing in this store. ``end`` is the
    record of its end, empty if it left none.
    """

    run: RunPlace
    record: Run
    plain: Mapping[str, Any]
    rank: Rank | None = None
    sessions: int = 0
    alive: bool | None = None
    claim: Mapping[str, Any] | None = None
    end: Mapping[str, Any] | None = None
    silent_s: float | None = None
    quiet_s: float = QUIET_S

    @property
    def state(self) -> str:
        """The run's state."""
        return str(self.plain["state"])

    @property
    def over(self) -> bool:
        """Nothing more will happen by itself."""
        return self.state in FINAL_STATES

    @property
    def served(self) -> bool:
        """A session is at it, as far as can be told: it left no end and is not known to be dead."""
        return self.rank is not None and not self.end and self.alive is not False


def look(store: Store, run: RunPlace, record: Run, now: Instant) -> Overview:
    """Read it. Raises StoreError where the store cannot be read."""
    from supervisor.engine import identity

    view = claims.look(store, run, identity.alive)
    known = claims.ranks(store, run)
    if view.last is None:
        return Overview(run, record, to_json(RunStatus(run=run.name, id=record.id), None))
    rank, alive = view.last.rank, view.last.alive
    end = claims.read_end(store, run, rank) if view.last.end else {}
    seen = runs.last_status(store, run, known) or RunStatus(epoch=rank.epoch)
    seen = replace(seen, run=run.name, id=record.id, platform=str(view.claim.get("platform", seen.platform)))
    plain = to_json(seen, None) | {"epoch": rank.epoch, "state": _state(seen, end, alive, rank)}
    for key, at in (("durable_age_s", seen.durable_at), ("unconfirmed_s", seen.unproved_since)):
        if at is not None:
            plain[key] = round(max(0.0, now.wall_s - at.wall_s), 3)
    if alive is not None and not end:
        live = _live(view.claim) or {}
        plain |= live if alive else {key: live[key] for key in live.keys() - _OF_THE_LIVING}
    if end:
        plain |= {"exit_code": end.get("exit_code"), "cause": plain["cause"] or _cause(end)}
    plain |= {"place": plain["place"] or store.traits.place or None, **_with_manifests(store, run, plain, now)}
    updated = plain.get("updated")
    return Overview(
        run=run,
        record=record,
        plain=plain,
        rank=rank,
        sessions=len(known),
        alive=alive,
        claim=view.claim,
        end=end,
        silent_s=None if updated is None else max(0.0, now.wall_s - updated),
        quiet_s=QUIET_S + 2 * store.traits.settle_s,
    )


def of_here(found: Here, error: str) -> Overview:
    """Return what a session of this machine says of itself, while its store does not answer."""
    plain = {key: value for key, value in found.plain.items() if key not in _OF_THIS_FILE}
    plain = {**to_json(RunStatus(), None), **plain, "store_answers": False, "unconfirmed": error}
    lives = found.lives
    return Overview(
        run=RunPlace(found.run),
        record=Run(str(plain.get("id", "")), ""),
        plain=plain,
        rank=found.rank,
        sessions=found.rank.epoch,
        alive=lives,
        end=None if lives else {"reason": "not told"},
    )


def earlier(store: Store, run: RunPlace, seen: Overview, newest: int) -> Sequence[str]:
    """Return a sentence for each of the ``newest`` machines that are gone, the last one first.

    A last one that left its own word of its end is told of by that word.
    """
    from supervisor.engine import identity

    known = claims.ranks(store, run)
    ended = known[:-1] if seen.served or seen.end else known
    return [history.told(store, run, rank, identity.alive) for rank in reversed(ended[-newest:])]


def _state(seen: RunStatus, end: Mapping[str, Any], alive: bool | None, rank: Rank) -> str:
    if end:
        if end.get("reason") == ROLLED_BACK:
            return "RECOVERING" if alive else "PENDING"  # the same process goes on with a new session
        named = _AFTER_END.get(str(end.get("reason", "")))
        return named or _AFTER_CODE.get(end.get("exit_code", 0), "FAILED")
    if alive is False:
        return "PENDING"  # it died without a word: the run waits for its next machine
    return seen.state if seen.epoch == rank.epoch and seen.state not in FINAL_STATES else "STARTING"


def _live(claim: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the newest status of a session on this machine, or None if it wrote none here."""
    folder = claims.local_folder(claim)
    told = None if folder is None else notes.live_status(folder / STATUS)
    return told and {key: told[key] for key in told if key not in _OF_THIS_FILE}


def _cause(end: Mapping[str, Any]) -> str | None:
    return None if end.get("exit_code") == 0 else str(end.get("words") or end.get("reason"))


def _with_manifests(store: Store, run: RunPlace, plain: Mapping[str, Any], now: Instant) -> dict[str, Any]:
    """Add what a listing shows: a manifest that is there was submitted; what is told of it makes it DURABLE, as in the list."""
    seen = checkpoints.look_over(store, run)
    listed = {found.id for found in seen.found if found.id.epoch >= seen.began}
    if not listed:
        return {}
    return {**_proved(store, run, plain, listed, now), **_last_good(plain, listed, seen)}


def _last_good(plain: Mapping[str, Any], listed: Collection[CheckpointId], seen: checkpoints.Listed) -> dict[str, Any]:
    """Add the newest checkpoint before the loss became no number, as the store shows it."""
    told = plain.get("nan")
    if not told:
        return {}
    good = [id_.step for id_ in listed if id_.step <= told["fine"] and not rollback.withdrawn(id_, seen.rollbacks)]
    return {"nan": {**told, "last_good": max(good, default=None)}}


def _proved(
    store: Store, run: RunPlace, plain: Mapping[str, Any], listed: AbstractSet[CheckpointId], now: Instant
) -> dict[str, Any]:
    known = {**plain["checkpoints"]}
    known["submitted"] = max(max(listed).step, known["submitted"] or 0)
    newer = sorted(id_ for id_ in listed if id_.step > (-1 if known["durable"] is None else known["durable"]))
    told_of_newer = told_of(store, run, newer[-ASKED_MAX:]) if newer else {}
    proved = max((id_ for id_, told in told_of_newer.items() if told.evidence), default=None)
    if proved is None:
        return {"checkpoints": known}
    known["durable"] = proved.step
    said = told_of_newer[proved]
    age_s = None if said.proved_wall_s is None else round(max(0.0, now.wall_s - said.proved_wall_s), 3)
    told: dict[str, Any] = {"checkpoints": known, "durable_age_s": age_s, "evidence": said.evidence}
    if max(known["submitted"], known["staged"] or 0) == proved.step:
        told |= {"unconfirmed": None, "unconfirmed_s": None}
    return told
