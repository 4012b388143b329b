"""Removing what retention lets go: the manifest first, then the files, then the folder; so no reader sees a half."""

from __future__ import annotations

import re
from dataclasses import field
from typing import TYPE_CHECKING

from supervisor.core import retention
from supervisor.core.checkpoint import MANIFEST_NAME, STEP_FOLDER, CheckpointId, Found
from supervisor.core.claim import Rank, rank_of
from supervisor.core.values import dataclass
from supervisor.engine.checkpoints import find

if TYPE_CHECKING:
    from collections.abc import Collection

    from supervisor.core.ports import Store
    from supervisor.engine.place import RunPlace

PIN = re.compile(r"pin-(\d+)-(\d+)-([0-9a-z]+)-(\d+)( \(\d+\))?\.json")


@dataclass
class Knowledge:
    """What this session has proved about the store's checkpoints: the base on which anything may be removed."""

    durable: set[CheckpointId] = field(default_factory=set)
    broken: set[CheckpointId] = field(default_factory=set)
    scores: dict[CheckpointId, float] = field(default_factory=dict)


def retain(
    store: Store, run: RunPlace, policy: retention.Policy, knowledge: Knowledge, mine: Rank
) -> tuple[tuple[CheckpointId, ...], int]:
    """Remove what the policy lets go and the leftovers of uploads that never finished; return (removed, freed bytes).

    Manifests of earlier sessions count as DURABLE only if this session proved them (it resumed from one), because
    that they can be listed proves nothing.
    """
    found = find(store, run)
    pins = pinned(store, run)
    stored = [
        retention.Kept(
            each.id,
            durable=each.id in knowledge.durable,
            broken=each.id in knowledge.broken,
            score=knowledge.scores.get(each.id),
        )
        for each in found
    ]
    plan = retention.plan(stored, retention.Policy(policy.newest, pins, policy.best))
    gone = set(plan.remove)
    freed = sum(_remove(store, each) for each in found if each.id in gone)
    proved = {each.id for each in found} & knowledge.durable
    if len(proved) >= max(2, policy.newest):
        bounds = _Bounds({each.path.rpartition("/")[0] for each in found}, mine, max(id_.step for id_ in proved))
        freed += _remove_leftovers(store, run, bounds)
    return plan.remove, freed


def remove_unfinished(store: Store, run: RunPlace, mine: Rank, step: int) -> int:
    """Remove a step folder of our own that has no manifest; return the bytes freed."""
    folder = run.step(mine, step)
    if any(MANIFEST_NAME.fullmatch(entry.name) for entry in store.list(folder)):
        return 0
    return _empty(store, folder)


def pinned(store: Store, run: RunPlace) -> set[CheckpointId]:
    """Return the checkpoints that a person asked to keep for good."""
    matches = (PIN.fullmatch(entry.name) for entry in store.list(run.name))
    return {CheckpointId(int(m[1]), int(m[2]), m[3], int(m[4])) for m in matches if m}


def pin(store: Store, run: RunPlace, id_: CheckpointId) -> None:
    """Keep a checkpoint for good, by a file of its own in the run's folder."""
    store.create(f"{run.name}/pin-{id_.epoch}-{id_.step}-{id_.writer}-{id_.seq}.json", b"{}")


def _remove(store: Store, found: Found) -> int:
    folder = found.path.rpartition("/")[0]
    store.delete(found.path)
    others = [entry for entry in store.list(folder) if MANIFEST_NAME.fullmatch(entry.name)]
    return 0 if others else _empty(store, folder)


def _empty(store: Store, folder: str) -> int:
    freed = 0
    for entry in store.list(folder):
        store.delete(f"{folder}/{entry.name}")
        freed += entry.bytes or 0
    store.delete(folder)
    return freed


@dataclass(frozen=True, slots=True)
class _Bounds:
    """What may be a leftover: not the ``published`` folders, no session above ``mine``, none of ours from ``step`` on."""

    published: Collection[str]
    mine: Rank
    step: int

    def leave_over(self, folder: str, rank: Rank, name: str) -> bool:
        step = STEP_FOLDER.fullmatch(name)
        if step is None or folder in self.published:
            return False
        return rank < self.mine or (rank == self.mine and int(step[1]) < self.step)


def _remove_leftovers(store: Store, run: RunPlace, bounds: _Bounds) -> int:
    """Remove what deaths and failures cut short: step folders without a manifest, files that never got their name."""
    freed = store.sweep(run.name) + store.sweep(run.environments)
    for session in store.list(run.name):
        rank = rank_of(session.name)
        if rank is None or rank > bounds.mine:
            continue
        inside = f"{run.name}/{session.name}"
        freed += store.sweep(inside)
        for entry in store.list(inside):
            folder = f"{inside}/{entry.name}"
            if not entry.folder or not STEP_FOLDER.fullmatch(entry.name):
                continue
            freed += _empty(store, folder) if bounds.leave_over(folder, rank, entry.name) else store.sweep(folder)
    return freed
