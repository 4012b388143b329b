"""The relay's end on the user's computer: parcels of the machines become files of the home store, and seed the next machine.

For the controller; all of it survives a kill at any point and may be repeated::

    home = HomeRun(store, RunPlace(name), state, clock)  # state: a local folder of this run, kept between calls
    home.begin_machine()             # a new machine begins: what was meant for the last one is dropped
    home.seed() -> Seed              # .parcels to put, then job.json with "seed": .index(); UserError: nothing is whole
    home.forget_seed()               # after that
    home.merge(file, sha256) -> Merged   # a fetched parcel; ParcelError: fetch it again, nothing was changed
    home.mail() -> Sequence[Parcel]  # what is to be put into the inbox now; after each round of merges and each poll
    home.delivered(parcel)           # it was put; without this mail() returns it again
    home.newest() -> CheckpointId | None

What is acknowledged lies in the home store under its name, flushed, its digest compared; a manifest besides only when all
that it names does, with the digests that it names.
"""

from __future__ import annotations

import shutil
from dataclasses import field
from typing import TYPE_CHECKING

from supervisor.core import retention
from supervisor.core.checkpoint import MANIFEST_NAME, STEP_FOLDER, CheckpointId, Manifest, ManifestError, parse_manifest
from supervisor.core.claim import rank_of
from supervisor.core.digest import algorithm_of
from supervisor.core.ports import Measured, StoreError
from supervisor.core.values import dataclass, replace
from supervisor.engine import checkpoints, claims, notes, receipts, retaining, runs
from supervisor.fleet import budget, next_machine, parcels, takes
from supervisor.fleet.gathering import Fate, Gathering
from supervisor.fleet.mailing import Mail

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from supervisor.core.claim import Rank
    from supervisor.core.ports import Clock, Store
    from supervisor.engine.place import RunPlace
    from supervisor.fleet.next_machine import Seed

EVIDENCE = "relay"
KEEP_DEFAULT = 3
BEFORE = "before-this-machine.json"


@dataclass(frozen=True, slots=True)
class Merged:
    """What a parcel brought. ``paths``: files that are new at home; ``acknowledged``: those and the ones that were there.

    ``refused``: files that home does not take, and why; ``checkpoints``: newly whole ones; ``removed`` by retention, and
    the ``trouble`` that it had, if any.
    """

    paths: tuple[str, ...] = ()
    acknowledged: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    checkpoints: tuple[CheckpointId, ...] = ()
    removed: tuple[CheckpointId, ...] = ()
    trouble: str = ""


class HomeRun:
    """One run in the home store. ``newest``: how many checkpoints to keep, None: as the run's own options say."""

    def __init__(self, store: Store, run: RunPlace, state: Path, clock: Clock, newest: int | None = None) -> None:
        self._store, self._run, self._clock, self._newest = store, run, clock, newest
        self._kept: retention.Policy | None = None
        self._state = state
        state.mkdir(parents=True, exist_ok=True)
        self._gathering = Gathering(store, state / "gathering")
        self._mail = Mail(store, run, state / "mail")
        self._knowledge = retaining.Knowledge()
        self._budget: budget.Budget | None = None

    def merge(self, file: Path, sha256: str = "") -> Merged:
        """Take a parcel in. Raises ParcelError (nothing was changed), StoreError and OSError (call again)."""
        opened = parcels.read(file, sha256)
        fates: dict[str, Fate] = {}
        refused: dict[str, str] = {}
        wanted: set[str] = set()
        whole: list[Manifest] = []
        for piece, body in sorted(opened, key=lambda each: _is_manifest(each[0].path)):
            why, lacking, manifest = self._judge(piece, body)
            wanted.update(lacking)
            if why:
                refused |= why
                continue
            fate = Fate.WANTED if lacking else self._gathering.take(piece, body)
            fates[piece.path] = fate
            if fate is Fate.WANTED:
                wanted.add(piece.path)
            elif fate is Fate.REFUSED:
                refused[piece.path] = "another file is at home under this name"
            elif manifest is not None:
                whole.append(manifest)
        held = tuple(path for path, fate in fates.items() if fate in {Fate.ADDED, Fate.TWIN})
        new = tuple(path for path in held if fates[path] is Fate.ADDED)
        done = [self._whole(manifest) for manifest in whole]
        self._mail.owe(opened.header, held, refused, wanted)
        merged = Merged(new, held, refused, tuple(id_ for id_ in done if id_))
        return self._retained(merged) if merged.checkpoints else merged

    def seed(self) -> Seed:
        """Return parcels for the next machine; their files are kept until ``forget_seed``.

        Raises UserError where home shows work and no checkpoint in it is whole, StoreError.
        """
        self.forget_seed()
        folder = self._state / "seed"
        folder.mkdir(parents=True)
        if runs.read(self._store, self._run) is None:
            return next_machine.Seed()
        chosen = next_machine.choose(self._store, self._run, folder / "checkpoint")
        shutil.rmtree(folder / "checkpoint", ignore_errors=True)
        wanted = list(next_machine.paths(self._store, self._run, chosen))
        packed = tuple(next_machine.pack(self._store, wanted, folder))
        self._mail.known(path for path, _, _ in wanted)
        return next_machine.Seed(packed, chosen.manifest.id if chosen.manifest else None, chosen.skipped)

    def forget_seed(self) -> None:
        """Remove the files of the seed."""
        shutil.rmtree(self._state / "seed", ignore_errors=True)

    def begin_machine(self) -> None:
        """Forget what was meant for the last machine, and what came of it in part only."""
        self._mail.forget()
        self._gathering.drop(lambda _: True)
        ranks, newest = claims.ranks(self._store, self._run), self.newest()
        kept = [] if newest is None else [newest.epoch, newest.step, newest.writer, newest.seq]
        spare = budget.spare_bytes(self._store)
        told = {"epoch": ranks[-1].epoch if ranks else 0, "newest": kept, "bytes_max": spare}
        notes.write(self._state / BEFORE, told)
        self._budget = None

    def mail(self) -> Sequence[parcels.Parcel]:
        """Return what is to be put into the machine's inbox: what home holds, and what people ask of the session there."""
        return self._mail.undelivered()

    def delivered(self, parcel: parcels.Parcel) -> None:
        """Know that a parcel was put into the inbox."""
        self._mail.delivered(parcel)

    def withdraw_stops(self, by: str) -> bool:
        """Remove the requests to stop that this program left at home and on the way; say whether one was delivered.

        Raises StoreError.
        """
        paths = [path for path, (_, who) in claims.stop_requests(self._store, self._run).items() if who == by]
        for path in paths:
            self._store.delete(path)
        return bool(self._mail.withdraw(paths))

    def newest(self) -> CheckpointId | None:
        """Return the newest checkpoint whose manifest is at home: all its files were whole when that came."""
        return max((found.id for found in checkpoints.find(self._store, self._run)), default=None)

    def _judge(self, piece: parcels.Piece, body: memoryview) -> tuple[dict[str, str], set[str], Manifest | None]:
        """Say what speaks against a piece: (refused files and why, files that lack); and the manifest if it is one."""
        folder, _, name = piece.path.rpartition("/")
        if why := self._refused(piece):
            return {piece.path: why}, set(), None
        if not _is_manifest(piece.path):
            return {}, set(), None
        try:
            manifest = parse_manifest(name, bytes(body))
        except ManifestError as error:
            return {piece.path: f"it is damaged: {error}"}, set(), None
        if folder != self._run.step(manifest.id.rank, manifest.id.step):
            return {piece.path: "it is of another checkpoint"}, set(), None
        refused: dict[str, str] = {}
        lacking: set[str] = set()
        for entry in manifest.all_files():
            path = f"{self._run.name}/{entry.path}"
            there = self._gathering.measured(path, algorithm_of(entry.digest))
            if there is None:
                lacking.add(path)
            elif there != Measured(entry.bytes, entry.digest):
                refused |= {path: "it is not what its manifest names", piece.path: f"{entry.name} is not what it names"}
        return refused, lacking, manifest

    def _refused(self, piece: parcels.Piece) -> str:
        """Return why this machine may not send such a file; "" where it may."""
        if not piece.path.startswith(f"{self._run.name}/"):
            return f"it is not of the run {self._run.name}"
        if self._is_of_before(piece.path):
            return "it is of a session that another machine served"
        inside = piece.path.removeprefix(f"{self._run.name}/")
        return takes.refused(inside, piece.total) or self._over_budget(inside, piece.total)

    def _over_budget(self, path: str, total: int) -> str:
        if self._budget is None:
            before = notes.read(self._state / BEFORE) or {}
            epoch, spare = before.get("epoch"), before.get("bytes_max")
            bounds = (epoch if type(epoch) is int else 0, spare if type(spare) is int else None)
            self._budget = budget.Budget(self._store, self._run, *bounds)
        return self._budget.refused(path, total, lambda: self._gathering.arriving(f"{self._run.name}/"))

    def _is_of_before(self, path: str) -> bool:
        """Say whether a file belongs to a session from before this machine began: those are whole here, or never will be."""
        rank = rank_of(path.removeprefix(f"{self._run.name}/").partition("/")[0])
        before = notes.read(self._state / BEFORE) or {}
        top = before.get("epoch")
        return rank is not None and type(top) is int and rank.epoch <= top

    def _brought_before(self) -> set[CheckpointId]:
        """Return the newest checkpoint that was here when this machine began: no machine has it removed."""
        kept = (notes.read(self._state / BEFORE) or {}).get("newest")
        return {CheckpointId(*kept)} if isinstance(kept, list) and len(kept) == len(CheckpointId.__slots__) else set()

    def _whole(self, manifest: Manifest) -> CheckpointId | None:
        """Leave a receipt of a checkpoint that is whole at home; None if there was one."""
        id_ = manifest.id
        path = f"{self._run.step(id_.rank, id_.step)}/"
        self._gathering.drop(lambda part: not part or _behind(part, path))
        if id_ in receipts.receipts(self._store, self._run):
            return None
        receipts.write(self._store, self._run, manifest, EVIDENCE, self._clock.now())
        return id_

    def _retained(self, merged: Merged) -> Merged:
        """Remove what may go at home, as a session would. That it could not is no reason not to take more in."""
        newest = max(merged.checkpoints)
        try:
            self._knowledge.durable |= receipts.receipts(self._store, self._run)
            policy = self._policy(newest.rank)
            kept = self._brought_before()
            removed, _ = retaining.retain(self._store, self._run, policy, self._knowledge, newest.rank, keep=kept)
            receipts.forget(self._store, self._run, removed)
            self._knowledge.durable.difference_update(removed)
            if removed:
                self._gathering.look_again()
                self._budget = None
        except StoreError as error:
            return replace(merged, trouble=f"old checkpoints could not be removed at home: {error}")
        return replace(merged, removed=removed)

    def _policy(self, rank: Rank) -> retention.Policy:
        if self._newest is not None:
            return retention.Policy(max(retention.NEWEST_MIN, self._newest))
        if self._kept is None:
            record = runs.read(self._store, self._run)
            options = claims.read_claim(self._store, self._run, rank).get("options") or (record and record.options)
            newest = max(retention.NEWEST_MIN, retaining.keep_last(options or {}, KEEP_DEFAULT))
            self._kept = retention.Policy(newest, watched=retaining.watched(options or {}))
        return self._kept


def _is_manifest(path: str) -> bool:
    return MANIFEST_NAME.fullmatch(path.rpartition("/")[2]) is not None


def _behind(part: str, folder: str) -> bool:
    """Say whether a file lies in an older step folder of the same session: a newer checkpoint went out in its place."""
    mine, theirs = part.rpartition("/")[0].rpartition("/"), folder.rstrip("/").rpartition("/")
    return mine[0] == theirs[0] and STEP_FOLDER.fullmatch(mine[2]) is not None and mine[2] < theirs[2]
