"""Pruning: deletes the manifests that retention does not keep, then files that no other manifest names, then folders.

In this order no reader sees a part of a checkpoint, and a file that checkpoints share stays as long as one names it.
"""

from __future__ import annotations

import re
from dataclasses import field
from typing import TYPE_CHECKING, Any

from supervisor.core.checkpoint.manifest import (
    CHECKPOINT,
    MANIFEST_NAME,
    STEP_FOLDER,
    Candidate,
    CheckpointId,
    Manifest,
)
from supervisor.core.checkpoint.session_id import SessionId, parse_session_id
from supervisor.core.frozen import dataclass, replace
from supervisor.core.policy import dedup, nonfinite, retention, rollback
from supervisor.core.wire import fields
from supervisor.engine.resume.fetch import find, list_run, read_manifest
from supervisor.engine.run_catalog.claims import addressee

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from supervisor.core.ports import Store
    from supervisor.engine.paths import RunPaths
    from supervisor.engine.resume.fetch import RunListing

_TWIN = re.compile(r" \([0-9]{1,9}\)")
PIN = re.compile(rf"pin-{CHECKPOINT}{fields.TWIN}\.json")


@dataclass
class DurabilityIndex:
    """Facts about the store's checkpoints that this session has verified. Pruning relies on them alone.

    ``manifests`` holds each manifest by path, read once, because files never change. ``in_flight`` is the manifest that
    this session writes next. Its files may lie in older folders. ``there`` holds the checkpoints whose files were
    listed. ``bare`` holds folders of older sessions without a checkpoint or record. They are not listed again.
    ``swept`` holds folders without leftovers.
    """

    durable: set[CheckpointId] = field(default_factory=set)
    broken: set[CheckpointId] = field(default_factory=set)
    scores: dict[CheckpointId, float] = field(default_factory=dict)
    manifests: dict[str, Manifest] = field(default_factory=dict)
    in_flight: Manifest | None = None
    there: set[CheckpointId] = field(default_factory=set)
    bare: set[str] = field(default_factory=set)
    swept: set[str] = field(default_factory=set)

    def learn_bare(self, listed: RunListing, mine: SessionId) -> None:
        """Note the folders of sessions before ``mine`` that need no second listing."""
        self.bare.update(name for name in listed.bare if (rank := parse_session_id(name)) is not None and rank < mine)

    def learn(self, path: str, manifest: Manifest) -> None:
        """Note a manifest of this session at ``path``, and its score."""
        self.manifests[path] = manifest
        loss = manifest.metrics.get("loss")
        if isinstance(loss, int | float):
            self.scores[manifest.id] = float(loss)


def prune(
    store: Store,
    run: RunPaths,
    policy: retention.RetentionPolicy,
    knowledge: DurabilityIndex,
    mine: SessionId,
    *,
    keep: Collection[CheckpointId] = (),
) -> tuple[tuple[CheckpointId, ...], int]:
    """Delete what the policy does not keep, and the leftovers of failed uploads. Returns (deleted ids, freed bytes).

    Manifests of earlier sessions count as durable only if this session has confirmed them. A listing proves nothing. A
    verification record counts if its manifest is readable and its files are listed: anyone with access to the store can
    forge the record alone.
    """
    listed = list_run(store, run, knowledge.bare)
    knowledge.learn_bare(listed, mine)
    found, pins = listed.found, pinned(store, run) | {*keep}
    manifests = Manifests(store, knowledge, found)
    stored = [
        retention.RetentionItem(
            each.id,
            durable=each.id in knowledge.durable
            and each.id.session_id <= mine
            and not rollback.is_rolled_back(each.id, listed.rollbacks)
            and _files_are_listed(store, run, each.id, manifests, knowledge),
            broken=each.id in knowledge.broken,
            score=knowledge.scores.get(each.id),
        )
        for each in found
    ]
    stored = with_quality(stored, manifests, listed, policy.watched)
    plan = retention.plan(stored, retention.RetentionPolicy(policy.newest, pins, policy.best))
    gone = set(plan.remove)
    for each in found:
        if each.id in gone:
            store.delete(each.path)
            knowledge.manifests.pop(each.path, None)
    proved = {each.id for each in stored if each.durable}
    if len(proved) < max(2, policy.newest):
        return plan.remove, 0
    left = [each for each in found if each.id not in gone]
    leftovers = _LeftoverFilter({each.path.rpartition("/")[0] for each in left}, mine, max(id_.step for id_ in proved))
    return plan.remove, _remove_leftovers(
        store, run, leftovers, _ReferencedFiles(store, run, knowledge, left), knowledge
    )


def _files_are_listed(
    store: Store, run: RunPaths, id_: CheckpointId, manifests: Manifests, knowledge: DurabilityIndex
) -> bool:
    """Return whether the manifest is readable and all its files are listed at their lengths. Checked once for each."""
    if id_ in knowledge.there:
        return True
    manifest = manifests(id_)
    if manifest is None or not manifest.files:
        return False
    folders: dict[str, set[tuple[str, int | None]]] = {}
    for entry in manifest.all_files():
        folder, _, name = f"{run.name}/{entry.path}".rpartition("/")
        if folder not in folders:
            folders[folder] = {(_without_twin_suffix(each.name), each.bytes) for each in store.list(folder)}
        if (name, entry.bytes) not in folders[folder]:
            return False
    knowledge.there.add(id_)
    return True


def _without_twin_suffix(name: str) -> str:
    return _TWIN.sub("", name)


def keep_last(options: Mapping[str, Any], default: int) -> int:
    """Return how many checkpoints the run's recorded options keep, or the default."""
    told = options.get("keep_last", default)
    return told if type(told) is int else default


def watched(options: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the recorded names of logged values that must be finite; () stands for every loss."""
    return tuple(filter(None, str(options.get("nan_watch") or "").split(",")))


def with_quality(
    stored: Sequence[retention.RetentionItem],
    manifest_of: Callable[[CheckpointId], Manifest | None],
    listed: RunListing,
    watched: Collection[str],
) -> list[retention.RetentionItem]:
    """Return the checkpoints with their quality, from the newest down to the newest good durable one.

    For a run with finite losses this reads one manifest, which is usually known. A rolled-back checkpoint is never
    good.
    """
    found: list[retention.RetentionItem] = []
    matters = True
    for each in sorted(stored, key=lambda kept: kept.id, reverse=True):
        quality: nonfinite.Quality = "good"
        if rollback.is_rolled_back(each.id, listed.rollbacks):
            quality = "spoiled"
        elif matters and not each.broken:
            quality = nonfinite.quality(each.id, manifest_of, listed.nonfinite, watched)
            matters = not (each.durable and quality == "good")
        found.append(replace(each, quality=quality))
    return found


class Manifests:
    """Manifests of a store's checkpoints, each read once on demand."""

    def __init__(self, store: Store, knowledge: DurabilityIndex, found: Iterable[Candidate]) -> None:
        self._store, self._known = store, knowledge.manifests
        self._found = {each.id: each for each in found}

    def __call__(self, id_: CheckpointId) -> Manifest | None:
        each = self._found.get(id_)
        if each is None:
            return None
        known = self._known.get(each.path) or read_manifest(self._store, each).manifest
        if known is not None:
            self._known[each.path] = known
        return known


def remove_unfinished(store: Store, run: RunPaths, knowledge: DurabilityIndex, folder: str) -> int:
    """Delete unreferenced files from a step folder without a manifest; return the freed bytes."""
    return _empty(store, folder, _ReferencedFiles(store, run, knowledge, find(store, run)))


def pinned(store: Store, run: RunPaths) -> set[CheckpointId]:
    """Return the checkpoints that a user pinned."""
    matches = (PIN.fullmatch(entry.name) for entry in store.list(run.name))
    return {CheckpointId(int(m[1]), int(m[2]), m[3], int(m[4])) for m in matches if m}


def pin(store: Store, run: RunPaths, id_: CheckpointId) -> None:
    """Pin a checkpoint with a file in the run's folder."""
    store.create(f"{run.name}/pin-{id_.generation}-{id_.step}-{id_.writer}-{id_.seq}.json", b"{}")


def unpin(store: Store, run: RunPaths, step: int) -> list[CheckpointId]:
    """Remove the pins of this step, including copies that a drive made; return the unpinned checkpoints."""
    found = []
    for entry in store.list(run.name):
        match = PIN.fullmatch(entry.name)
        if match and int(match[2]) == step:
            store.delete(f"{run.name}/{entry.name}")
            found.append(CheckpointId(int(match[1]), int(match[2]), match[3], int(match[4])))
    return sorted(set(found))


class _ReferencedFiles:
    """Files that the remaining checkpoints name. Manifests are read on demand, because often none is needed."""

    def __init__(self, store: Store, run: RunPaths, knowledge: DurabilityIndex, left: Iterable[Candidate]) -> None:
        self._store, self._run, self._known, self._left = store, run, knowledge.manifests, left
        self._in_flight = knowledge.in_flight
        self._remaining: list[dedup.RemainingFiles] | None = None

    def unreferenced(self, paths: Iterable[str]) -> list[str]:
        """Return the paths that no remaining checkpoint names."""
        if self._remaining is None:
            self._remaining = [self._read(each) for each in self._left]
            if self._in_flight is not None:
                files = frozenset(entry.path for entry in self._in_flight.files)
                self._remaining.append(dedup.RemainingFiles("", files))
        above = f"{self._run.name}/"
        return [
            f"{above}{path}" for path in dedup.unreferenced((p.removeprefix(above) for p in paths), self._remaining)
        ]

    def _read(self, each: Candidate) -> dedup.RemainingFiles:
        manifest = self._known.get(each.path) or read_manifest(self._store, each).manifest
        folder = each.path.rpartition("/")[0].removeprefix(f"{self._run.name}/")
        if manifest is None:
            return dedup.RemainingFiles(folder, None)
        self._known[each.path] = manifest
        return dedup.RemainingFiles(folder, frozenset(entry.path for entry in manifest.files))


def _empty(store: Store, folder: str, referenced: _ReferencedFiles) -> int:
    """Delete a folder's unreferenced files, then the folder if it is empty. A folder with a manifest stays."""
    entries = store.list(folder)
    lengths = {f"{folder}/{entry.name}": entry.bytes or 0 for entry in entries if not entry.folder}
    if any(MANIFEST_NAME.fullmatch(path.rpartition("/")[2]) for path in lengths):
        return 0
    going = referenced.unreferenced(lengths) if lengths else []
    for path in going:
        store.delete(path)
    if len(going) == len(entries):  # a subfolder was not made by the supervisor, and stays
        store.delete(folder)
    return sum(lengths[path] for path in going)


@dataclass(frozen=True, slots=True)
class _LeftoverFilter:
    """Rule for leftovers: no ``published`` folder, no session above ``mine``, no own folder from ``step`` on."""

    published: Collection[str]
    mine: SessionId
    step: int

    def is_leftover(self, folder: str, rank: SessionId, name: str) -> bool:
        step = STEP_FOLDER.fullmatch(name)
        if step is None or folder in self.published:
            return False
        return rank < self.mine or (rank == self.mine and int(step[1]) < self.step)


def _remove_leftovers(
    store: Store, run: RunPaths, leftovers: _LeftoverFilter, referenced: _ReferencedFiles, knowledge: DurabilityIndex
) -> int:
    """Delete folders without a manifest, temporary files, and answered requests; return the freed bytes."""
    entries = store.list(run.name)
    folders = {f"{run.name}/{entry.name}" for entry in entries if entry.folder}
    freed = sum(store.sweep(folder) for folder in ("", run.name, *folders.intersection({run.environments})))
    for session in entries:
        asked = addressee(session.name)
        if asked is not None and asked < leftovers.mine:
            store.delete(f"{run.name}/{session.name}")
        rank = parse_session_id(session.name) if session.folder else None
        if rank is None or rank > leftovers.mine:
            continue
        inside = f"{run.name}/{session.name}"
        if session.name in knowledge.swept:
            continue
        freed += store.sweep(inside)
        if session.name in knowledge.bare:
            knowledge.swept.add(session.name)
            continue
        for entry in store.list(inside):
            folder = f"{inside}/{entry.name}"
            if not entry.folder or not STEP_FOLDER.fullmatch(entry.name):
                continue
            freed += store.sweep(folder)
            if leftovers.is_leftover(folder, rank, entry.name):
                freed += _empty(store, folder, referenced)
    return freed
