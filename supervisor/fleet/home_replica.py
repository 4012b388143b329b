"""Replica of a run on the user's computer: merges a machine's parts into the local store, and seeds the next machine.

Theory of operation. The controller uses it as follows. A kill at any point is safe, and each call may be repeated::

    home = HomeReplica(store, RunPaths(name), state, clock)  # state: a local folder of this run
    home.start_machine()         # a new machine: drops messages for the last one
    home.make_resume_set()       # .parcels to send, then job.json with "seed": .index(); UserError: no valid checkpoint
    home.delete_resume_set()     # after that
    home.merge(file, sha256)     # a fetched part; TransferPartError: fetch it again, no change was made
    home.pending_acks()          # parts for the machine's inbox; after each round of merges and each poll
    home.delivered(part)         # it was sent; else pending_acks() returns it again
    home.newest()                # the newest complete checkpoint

An acknowledged file lies in the local store under its name, flushed, with its digest compared. A manifest is
acknowledged only if all files that it names are present with the digests that it names.
"""

from __future__ import annotations

import shutil
from dataclasses import field
from typing import TYPE_CHECKING

from supervisor.core.checkpoint.manifest import (
    MANIFEST_NAME,
    STEP_FOLDER,
    CheckpointId,
    Manifest,
    ManifestError,
    parse_manifest,
)
from supervisor.core.checkpoint.session_id import parse_session_id
from supervisor.core.digest import algorithm_of
from supervisor.core.frozen import dataclass, replace
from supervisor.core.policy import retention
from supervisor.core.ports import FileDigest, StoreError
from supervisor.engine import json_file
from supervisor.engine.resume import fetch as checkpoint_fetch
from supervisor.engine.run_catalog import claims, runs, verification_records
from supervisor.engine.upload import prune as pruning
from supervisor.fleet import accepted_files, disk_quota, resume_set
from supervisor.fleet.transfer import part as transfer_part
from supervisor.fleet.transfer.acks import AckOutbox
from supervisor.fleet.transfer.reassembly import ChunkOutcome, Reassembly

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from supervisor.core.checkpoint.session_id import SessionId
    from supervisor.core.ports import Clock, Store
    from supervisor.engine.paths import RunPaths
    from supervisor.fleet.resume_set import ResumeSet

EVIDENCE = "relay"
KEEP_DEFAULT = 3
BEFORE = "before-this-machine.json"


@dataclass(frozen=True, slots=True)
class Merged:
    """Result of merging a part.

    - ``paths``: files that are new on this computer
    - ``acknowledged``: these and the ones that were present
    - ``refused``: rejected files and the reasons
    - ``checkpoints``: newly complete checkpoints
    - ``removed``: pruned checkpoints; ``prune_error``: a failure of the pruning
    """

    paths: tuple[str, ...] = ()
    acknowledged: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    checkpoints: tuple[CheckpointId, ...] = ()
    removed: tuple[CheckpointId, ...] = ()
    prune_error: str = ""


class HomeReplica:
    """One run in the local store. ``newest``: number of checkpoints to keep; None for the run's own option."""

    def __init__(self, store: Store, run: RunPaths, state: Path, clock: Clock, newest: int | None = None) -> None:
        self._store, self._run, self._clock, self._newest = store, run, clock, newest
        self._retention: retention.RetentionPolicy | None = None
        self._state = state
        state.mkdir(parents=True, exist_ok=True)
        self._reassembly = Reassembly(store, state / "gathering")
        self._acks = AckOutbox(store, run, state / "mail")
        self._knowledge = pruning.DurabilityIndex()
        self._budget: disk_quota.Budget | None = None

    def merge(self, file: Path, sha256: str = "") -> Merged:
        """Merge a part. Raises TransferPartError (no change was made), StoreError and OSError (call again)."""
        opened = transfer_part.read(file, sha256)
        outcomes: dict[str, ChunkOutcome] = {}
        refused: dict[str, str] = {}
        wanted: set[str] = set()
        whole: list[Manifest] = []
        for piece, body in sorted(opened, key=lambda each: _is_manifest(each[0].path)):
            why, lacking, manifest = self._check_chunk(piece, body)
            wanted.update(lacking)
            if why:
                refused |= why
                continue
            outcome = ChunkOutcome.WANTED if lacking else self._reassembly.take(piece, body)
            outcomes[piece.path] = outcome
            if outcome is ChunkOutcome.WANTED:
                wanted.add(piece.path)
            elif outcome is ChunkOutcome.REFUSED:
                refused[piece.path] = "another file is at home under this name"
            elif manifest is not None:
                whole.append(manifest)
        held = tuple(path for path, outcome in outcomes.items() if outcome in {ChunkOutcome.ADDED, ChunkOutcome.TWIN})
        new = tuple(path for path in held if outcomes[path] is ChunkOutcome.ADDED)
        done = [self._record_verified(manifest) for manifest in whole]
        self._acks.add(opened.header, held, refused, wanted)
        merged = Merged(new, held, refused, tuple(id_ for id_ in done if id_))
        return self._prune(merged) if merged.checkpoints else merged

    def make_resume_set(self) -> ResumeSet:
        """Return the parts for the next machine; their files stay until ``delete_resume_set``.

        Raises:
            UserError: the run has work, but no valid checkpoint.
            StoreError: the local store failed.
        """
        self.delete_resume_set()
        folder = self._state / "seed"
        folder.mkdir(parents=True)
        if runs.read(self._store, self._run) is None:
            return resume_set.ResumeSet()
        chosen = resume_set.choose(self._store, self._run, folder / "checkpoint")
        shutil.rmtree(folder / "checkpoint", ignore_errors=True)
        wanted = list(resume_set.paths(self._store, self._run, chosen))
        packed = tuple(resume_set.pack(self._store, wanted, folder))
        self._acks.mark_known(path for path, _, _ in wanted)
        return resume_set.ResumeSet(packed, chosen.manifest.id if chosen.manifest else None, chosen.skipped)

    def delete_resume_set(self) -> None:
        """Remove the files of the resume set."""
        shutil.rmtree(self._state / "seed", ignore_errors=True)

    def start_machine(self) -> None:
        """Drop the messages for the last machine, and its partly received files."""
        self._acks.forget()
        self._reassembly.drop(lambda _: True)
        ranks, newest = claims.ranks(self._store, self._run), self.newest()
        kept = [] if newest is None else [newest.generation, newest.step, newest.writer, newest.seq]
        spare = disk_quota.spare_bytes(self._store)
        record = {"epoch": ranks[-1].generation if ranks else 0, "newest": kept, "bytes_max": spare}
        json_file.write(self._state / BEFORE, record)
        self._budget = None

    def pending_acks(self) -> Sequence[transfer_part.TransferPart]:
        """Return the parts for the machine's inbox: acknowledgements, and requests to its session."""
        return self._acks.undelivered()

    def delivered(self, part: transfer_part.TransferPart) -> None:
        """Note that a part was put into the inbox."""
        self._acks.delivered(part)

    def cancel_stops(self, by: str) -> bool:
        """Remove this program's stop requests, here and in transit; return True if one was delivered.

        Raises StoreError.
        """
        paths = [path for path, (_, who) in claims.stop_requests(self._store, self._run).items() if who == by]
        for path in paths:
            self._store.delete(path)
        return bool(self._acks.cancel(paths))

    def newest(self) -> CheckpointId | None:
        """Return the newest checkpoint with a manifest on this computer; all its files were complete when that arrived."""
        return max((found.id for found in checkpoint_fetch.find(self._store, self._run)), default=None)

    def _check_chunk(
        self, piece: transfer_part.FileChunk, body: memoryview
    ) -> tuple[dict[str, str], set[str], Manifest | None]:
        """Check a chunk; return the rejected files with reasons, the missing files, and the manifest if it is one."""
        folder, _, name = piece.path.rpartition("/")
        if why := self._rejection_reason(piece):
            return {piece.path: why}, set(), None
        if not _is_manifest(piece.path):
            return {}, set(), None
        try:
            manifest = parse_manifest(name, bytes(body))
        except ManifestError as error:
            return {piece.path: f"it is damaged: {error}"}, set(), None
        if folder != self._run.step(manifest.id.session_id, manifest.id.step):
            return {piece.path: "it is of another checkpoint"}, set(), None
        refused: dict[str, str] = {}
        lacking: set[str] = set()
        for entry in manifest.all_files():
            path = f"{self._run.name}/{entry.path}"
            there = self._reassembly.measure(path, algorithm_of(entry.digest))
            if there is None:
                lacking.add(path)
            elif there != FileDigest(entry.bytes, entry.digest):
                refused |= {path: "it is not what its manifest names", piece.path: f"{entry.name} is not what it names"}
        return refused, lacking, manifest

    def _rejection_reason(self, piece: transfer_part.FileChunk) -> str:
        """Return why this machine may not send such a file; "" if it may."""
        if not piece.path.startswith(f"{self._run.name}/"):
            return f"it is not of the run {self._run.name}"
        if self._is_from_earlier_session(piece.path):
            return "it is of a session that another machine served"
        inside = piece.path.removeprefix(f"{self._run.name}/")
        return accepted_files.rejection_reason(inside, piece.total) or self._over_budget(inside, piece.total)

    def _over_budget(self, path: str, total: int) -> str:
        if self._budget is None:
            before = json_file.read(self._state / BEFORE) or {}
            epoch, spare = before.get("epoch"), before.get("bytes_max")
            bounds = (epoch if type(epoch) is int else 0, spare if type(spare) is int else None)
            self._budget = disk_quota.Budget(self._store, self._run, *bounds)
        return self._budget.refused(path, total, lambda: self._reassembly.partial_bytes(f"{self._run.name}/"))

    def _is_from_earlier_session(self, path: str) -> bool:
        """Return True if a file belongs to a session before this machine: those are complete here, or never will be."""
        rank = parse_session_id(path.removeprefix(f"{self._run.name}/").partition("/")[0])
        before = json_file.read(self._state / BEFORE) or {}
        top = before.get("epoch")
        return rank is not None and type(top) is int and rank.generation <= top

    def _newest_before(self) -> set[CheckpointId]:
        """Return the newest checkpoint from before this machine: no machine can have it removed."""
        kept = (json_file.read(self._state / BEFORE) or {}).get("newest")
        return {CheckpointId(*kept)} if isinstance(kept, list) and len(kept) == len(CheckpointId.__slots__) else set()

    def _record_verified(self, manifest: Manifest) -> CheckpointId | None:
        """Record the verification of a checkpoint that is complete here; return None if there was a record."""
        id_ = manifest.id
        path = f"{self._run.step(id_.session_id, id_.step)}/"
        self._reassembly.drop(lambda part: not part or _is_superseded(part, path))
        if id_ in verification_records.recorded(self._store, self._run):
            return None
        verification_records.write(self._store, self._run, manifest, EVIDENCE, self._clock.now())
        return id_

    def _prune(self, merged: Merged) -> Merged:
        """Prune checkpoints as a session would. A failure does not stop further merges."""
        newest = max(merged.checkpoints)
        try:
            self._knowledge.durable |= verification_records.recorded(self._store, self._run)
            policy = self._policy(newest.session_id)
            kept = self._newest_before()
            removed, _ = pruning.prune(self._store, self._run, policy, self._knowledge, newest.session_id, keep=kept)
            verification_records.delete(self._store, self._run, removed)
            self._knowledge.durable.difference_update(removed)
            if removed:
                self._reassembly.rescan()
                self._budget = None
        except StoreError as error:
            return replace(merged, prune_error=f"old checkpoints could not be removed on this computer: {error}")
        return replace(merged, removed=removed)

    def _policy(self, rank: SessionId) -> retention.RetentionPolicy:
        if self._newest is not None:
            return retention.RetentionPolicy(max(retention.NEWEST_MIN, self._newest))
        if self._retention is None:
            record = runs.read(self._store, self._run)
            options = claims.read_claim(self._store, self._run, rank).get("options") or (record and record.options)
            newest = max(retention.NEWEST_MIN, pruning.keep_last(options or {}, KEEP_DEFAULT))
            self._retention = retention.RetentionPolicy(newest, watched=pruning.watched(options or {}))
        return self._retention


def _is_manifest(path: str) -> bool:
    return MANIFEST_NAME.fullmatch(path.rpartition("/")[2]) is not None


def _is_superseded(part: str, folder: str) -> bool:
    """Return True if a file lies in an older step folder of the same session: a newer checkpoint replaced it."""
    mine, theirs = part.rpartition("/")[0].rpartition("/"), folder.rstrip("/").rpartition("/")
    return mine[0] == theirs[0] and STEP_FOLDER.fullmatch(mine[2]) is not None and mine[2] < theirs[2]
