"""All that can be told of a run right now: from its store, and from the live status where its session lives here."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from supervisor.core.errors import FAILED_PRECHECKS, FAILED_SETUP
from supervisor.core.status import RunStatus, to_json
from supervisor.core.values import dataclass
from supervisor.engine import checkpoints, claims, history, runs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from supervisor.core.claim import Rank
    from supervisor.core.instant import Instant
    from supervisor.core.ports import Store
    from supervisor.engine.place import RunPlace
    from supervisor.engine.runs import Run

FINAL_STATES = frozenset({"SUCCEEDED", "CANCELLED", "FAILED", "FAILED_SETUP", "FAILED_PRECHECKS", "FAILED_CONTROLLER"})
_AFTER_END = {
    "succeeded": "SUCCEEDED",
    "stopped": "CANCELLED",
    "handed-over": "PENDING",
    "controller-failed": "FAILED_CONTROLLER",
    "failed-setup": "FAILED_SETUP",
    "fenced": "RUNNING",
}
_AFTER_CODE = {FAILED_SETUP: "FAILED_SETUP", FAILED_PRECHECKS: "FAILED_PRECHECKS"}
_OF_THE_LIVING = frozenset({"state", "eta_s", "deadline_in_s", "next_save_in_s", "durable_age_s"})


@dataclass(frozen=True, slots=True)
class Overview:
    """What is seen of a run; ``plain`` is what ``status --json`` prints.

    ``alive``: does the newest session live, None where this machine cannot tell. ``silent_s``: since its last sign in
    the store, by the wall clock, for words only. ``end`` is the record of its end, empty if it left none.
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
    if seen.durable_at is not None:
        plain["durable_age_s"] = round(max(0.0, now.wall_s - seen.durable_at.wall_s), 3)
    if alive is not None and not end:
        live = _live(view.claim) or {}
        plain |= live if alive else {key: live[key] for key in live.keys() - _OF_THE_LIVING}
    if end:
        plain |= {"exit_code": end.get("exit_code"), "cause": plain["cause"] or _cause(end)}
    plain["checkpoints"] = _with_manifests(store, run, plain["checkpoints"])
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
        named = _AFTER_END.get(str(end.get("reason", "")))
        return named or _AFTER_CODE.get(end.get("exit_code", 0), "FAILED")
    if alive is False:
        return "PENDING"  # it died without a word: the run waits for its next machine
    return seen.state if seen.epoch == rank.epoch and seen.state not in FINAL_STATES else "STARTING"


def _live(claim: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the newest status of a session on this machine, or None if it wrote none here."""
    folder = claims.local_folder(claim)
    try:
        return None if folder is None else dict(json.loads((folder / "status.json").read_bytes()))
    except (FileNotFoundError, NotADirectoryError):
        return None


def _cause(end: Mapping[str, Any]) -> str | None:
    return None if end.get("exit_code") == 0 else str(end.get("words") or end.get("reason"))


def _with_manifests(store: Store, run: RunPlace, known: Mapping[str, Any]) -> dict[str, Any]:
    """Add what a listing proves: a manifest that is there was submitted; only a journal's word makes it DURABLE."""
    newest = max((found.id for found in checkpoints.find(store, run)), default=None)
    submitted = known["submitted"] if newest is None else newest.step
    return {"staged": known["staged"], "submitted": submitted, "durable": known["durable"]}
