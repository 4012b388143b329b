"""Removing what retention lets go: all manifests first, then the files that no other manifest names, then the folders.

So no reader sees a half, and a file that checkpoints share outlives the one that brought it.
"""

from __future__ import annotations

import re
from dataclasses import field
from typing import TYPE_CHECKING, Any

from supervisor.core import fields, nonfinite, retention, rollback, sharing
from supervisor.core.checkpoint import CHECKPOINT, MANIFEST_NAME, STEP_FOLDER, CheckpointId, Found, Manifest
from supervisor.core.claim import Rank, rank_of
from supervisor.core.values import dataclass, replace
from supervisor.engine.checkpoints import find, look_over, read_manifest
from supervisor.engine.claims import asked_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from supervisor.core.ports import Store
    from supervisor.engine.checkpoints import Listed
    from supervisor.engine.place import RunPlace

_TWIN = re.compile(r" \([0-9]{1,9}\)")
PIN = re.compile(rf"pin-{CHECKPOINT}{fields.TWIN}\.json")


@dataclass
class Knowledge:
    """What this session has proved about the store's checkpoints: the base on which anything may be removed.

    ``manifests``: by path, each read once, because nothing in the store is ever changed. ``on_its_way``: the manifest that
    this session will write next, whose files may lie in older folders. ``there``: those whose files were seen.
    ``bare``: folders of older sessions without any checkpoint or record, which nobody writes into any more and which are not
    listed again; ``swept``: those without leftovers.
    """

    durable: set[CheckpointId] = field(default_factory=set)
    broken: set[CheckpointId] = field(default_factory=set)
    scores: dict[CheckpointId, float] = field(default_factory=dict)
    manifests: dict[str, Manifest] = field(default_factory=dict)
    on_its_way: Manifest | None = None
    there: set[CheckpointId] = field(default_factory=set)
    bare: set[str] = field(default_factory=set)
    swept: set[str] = field(default_factory=set)

    def learn_bare(self, listed: Listed, mine: Rank) -> None:
        """Know which folders of sessions before ``mine`` need no second look."""
        self.bare.update(name for name in listed.bare if (rank := rank_of(name)) is not None and rank < mine)

    def learn(self, path: str, manifest: Manifest) -> None:
        """Know a manifest of ours that lies under ``path``, and its score."""
        self.manifests[path] = manifest
        loss = manifest.metrics.get("loss")
        if isinstance(loss, int | float):
            self.scores[manifest.id] = float(loss)


def retain(
    store: Store,
    run: RunPlace,
    policy: retention.Policy,
    knowledge: Knowledge,
    mine: Rank,
    *,
    keep: Collection[CheckpointId] = (),
) -> tuple[tuple[CheckpointId, ...], int]:
    """Remove what the policy lets go and the leftovers of uploads that never finished; return (removed, freed bytes).

    Manifests of earlier sessions count as DURABLE only if this session proved them (it resumed from one), because
    that they can be listed proves nothing. A receipt counts where its manifest could be read and the files are there:
    anybody who may write into the store can make one of a checkpoint that there is not.
    """
    listed = look_over(store, run, knowledge.bare)
    knowledge.learn_bare(listed, mine)
    found, pins = listed.found, pinned(store, run) | {*keep}
    manifests = Manifests(store, knowledge, found)
    stored = [
        retention.Kept(
            each.id,
            durable=each.id in knowledge.durable
            and each.id.rank <= mine
            and not rollback.withdrawn(each.id, listed.rollbacks)
            and _is_there(store, run, each.id, manifests, knowledge),
            broken=each.id in knowledge.broken,
            score=knowledge.scores.get(each.id),
        )
        for each in found
    ]
    stored = judged(stored, manifests, listed, policy.watched)
    plan = retention.plan(stored, retention.Policy(policy.newest, pins, policy.best))
    gone = set(plan.remove)
    for each in found:
        if each.id in gone:
            store.delete(each.path)
            knowledge.manifests.pop(each.path, None)
    proved = {each.id for each in stored if each.durable}
    if len(proved) < max(2, policy.newest):
        return plan.remove, 0
    left = [each for each in found if each.id not in gone]
    bounds = _Bounds({each.path.rpartition("/")[0] for each in left}, mine, max(id_.step for id_ in proved))
    return plan.remove, _remove_leftovers(store, run, bounds, _Needs(store, run, knowledge, left), knowledge)


def _is_there(store: Store, run: RunPlace, id_: CheckpointId, manifests: Manifests, knowledge: Knowledge) -> bool:
    """Say whether a checkpoint's manifest can be read and all its files are listed at their lengths; looked at once."""
    if id_ in knowledge.there:
        return True
    manifest = manifests(id_)
    if manifest is None or not manifest.files:
        return False
    folders: dict[str, set[tuple[str, int | None]]] = {}
    for entry in manifest.all_files():
        folder, _, name = f"{run.name}/{entry.path}".rpartition("/")
        if folder not in folders:
            folders[folder] = {(_untwinned(each.name), each.bytes) for each in store.list(folder)}
        if (name, entry.bytes) not in folders[folder]:
            return False
    knowledge.there.add(id_)
    return True


def _untwinned(name: str) -> str:
    return _TWIN.sub("", name)


def keep_last(options: Mapping[str, Any], default: int) -> int:
    """Return how many checkpoints a run's recorded options keep; the default where they do not say a number."""
    told = options.get("keep_last", default)
    return told if type(told) is int else default


def watched(options: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the logged values that must be finite, as recorded; () for every loss."""
    return tuple(filter(None, str(options.get("nan_watch") or "").split(",")))


def judged(
    stored: Sequence[retention.Kept],
    manifest_of: Callable[[CheckpointId], Manifest | None],
    listed: Listed,
    watched: Collection[str],
) -> list[retention.Kept]:
    """Return the checkpoints with their quality, as far down as it matters: to the newest good one that is proved.

    So a store whose losses are all numbers is asked for one manifest, which is mostly known already. What is withdrawn is
    never good.
    """
    found: list[retention.Kept] = []
    matters = True
    for each in sorted(stored, key=lambda kept: kept.id, reverse=True):
        quality: nonfinite.Quality = "good"
        if rollback.withdrawn(each.id, listed.rollbacks):
            quality = "spoiled"
        elif matters and not each.broken:
            quality = nonfinite.quality(each.id, manifest_of, listed.nonfinite, watched)
            matters = not (each.durable and quality == "good")
        found.append(replace(each, quality=quality))
    return found


class Manifests:
    """The manifests of a store's checkpoints, each read when first asked for and known from then on."""

    def __init__(self, store: Store, knowledge: Knowledge, found: Iterable[Found]) -> None:
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


def remove_unfinished(store: Store, run: RunPlace, knowledge: Knowledge, folder: str) -> int:
    """Remove what no manifest names from a step folder of our own that has none; return the bytes freed."""
    return _empty(store, folder, _Needs(store, run, knowledge, find(store, run)))


def pinned(store: Store, run: RunPlace) -> set[CheckpointId]:
    """Return the checkpoints that a person asked to keep for good."""
    matches = (PIN.fullmatch(entry.name) for entry in store.list(run.name))
    return {CheckpointId(int(m[1]), int(m[2]), m[3], int(m[4])) for m in matches if m}


def pin(store: Store, run: RunPlace, id_: CheckpointId) -> None:
    """Keep a checkpoint for good, by a file of its own in the run's folder."""
    store.create(f"{run.name}/pin-{id_.epoch}-{id_.step}-{id_.writer}-{id_.seq}.json", b"{}")


def unpin(store: Store, run: RunPlace, step: int) -> list[CheckpointId]:
    """Let go of what a person asked to keep at this step; return what was pinned. Twins that a drive made go too."""
    found = []
    for entry in store.list(run.name):
        match = PIN.fullmatch(entry.name)
        if match and int(match[2]) == step:
            store.delete(f"{run.name}/{entry.name}")
            found.append(CheckpointId(int(match[1]), int(match[2]), match[3], int(match[4])))
    return sorted(set(found))


class _Needs:
    """What the checkpoints that stay need. Their manifests are read when first asked, because often nobody asks."""

    def __init__(self, store: Store, run: RunPlace, knowledge: Knowledge, left: Iterable[Found]) -> None:
        self._store, self._run, self._known, self._left = store, run, knowledge.manifests, left
        self._on_its_way = knowledge.on_its_way
        self._remaining: list[sharing.Remaining] | None = None

    def unneeded(self, paths: Iterable[str]) -> list[str]:
        """Return which of these paths, of the store, nobody needs."""
        if self._remaining is None:
            self._remaining = [self._read(each) for each in self._left]
            if self._on_its_way is not None:
                files = frozenset(entry.path for entry in self._on_its_way.files)
                self._remaining.append(sharing.Remaining("", files))
        above = f"{self._run.name}/"
        return [f"{above}{path}" for path in sharing.unneeded((p.removeprefix(above) for p in paths), self._remaining)]

    def _read(self, each: Found) -> sharing.Remaining:
        manifest = self._known.get(each.path) or read_manifest(self._store, each).manifest
        folder = each.path.rpartition("/")[0].removeprefix(f"{self._run.name}/")
        if manifest is None:
            return sharing.Remaining(folder, None)
        self._known[each.path] = manifest
        return sharing.Remaining(folder, frozenset(entry.path for entry in manifest.files))


def _empty(store: Store, folder: str, needs: _Needs) -> int:
    """Remove the files of a folder that nobody needs, and it when it is empty; nothing while it shows a manifest."""
    entries = store.list(folder)
    lengths = {f"{folder}/{entry.name}": entry.bytes or 0 for entry in entries if not entry.folder}
    if any(MANIFEST_NAME.fullmatch(path.rpartition("/")[2]) for path in lengths):
        return 0
    going = needs.unneeded(lengths) if lengths else []
    for path in going:
        store.delete(path)
    if len(going) == len(entries):  # a folder in it is of nobody's making, and stays
        store.delete(folder)
    return sum(lengths[path] for path in going)


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


def _remove_leftovers(store: Store, run: RunPlace, bounds: _Bounds, needs: _Needs, knowledge: Knowledge) -> int:
    """Remove what has no manifest, be it that one was removed or never written, and files that never got their name."""
    entries = store.list(run.name)
    folders = {f"{run.name}/{entry.name}" for entry in entries if entry.folder}
    freed = sum(store.sweep(folder) for folder in ("", run.name, *folders.intersection({run.environments})))
    for session in entries:
        asked = asked_of(session.name)
        if asked is not None and asked < bounds.mine:
            store.delete(f"{run.name}/{session.name}")
        rank = rank_of(session.name) if session.folder else None
        if rank is None or rank > bounds.mine:
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
            if bounds.leave_over(folder, rank, entry.name):
                freed += _empty(store, folder, needs)
    return freed
