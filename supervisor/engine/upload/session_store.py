"""Store operations of one session: inspect, claim, restore, upload, prune. They never run on the loop's thread."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core import project
from supervisor.core.checkpoint import log_pieces
from supervisor.core.checkpoint import manifest as cp
from supervisor.core.checkpoint.checkpoint_json import CheckpointInfoError
from supervisor.core.checkpoint.session_id import SessionId
from supervisor.core.errors import UserError
from supervisor.core.masking import masked
from supervisor.core.policy import nonfinite, retention
from supervisor.core.ports import StoreError
from supervisor.core.session import events as ev
from supervisor.engine.paths import SessionPaths
from supervisor.engine.resume import fetch as checkpoint_fetch
from supervisor.engine.resume import packed as packed_checkpoints
from supervisor.engine.resume import staging as staged_checkpoints
from supervisor.engine.resume.rollback_records import Nonfinites, record_fresh_start
from supervisor.engine.run_catalog import claims, finished_run, history, verification_records
from supervisor.engine.run_catalog.checkpoint_history import was_confirmed
from supervisor.engine.trainer_process import process_identity
from supervisor.engine.trainer_process.orphans import delete_dead_sessions, end_orphans
from supervisor.engine.upload import prune as pruning
from supervisor.engine.upload import step_log as step_log_store
from supervisor.engine.upload import uploader
from supervisor.engine.upload.durability import confirm_once
from supervisor.engine.upload.fenced_store import FencedError, FencedStore
from supervisor.engine.upload.uploader import CheckpointUploader, checkpoint_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.engine.context import SessionContext

ROOM_FOR = 1.5  # factor on the newest checkpoint's size: room for the next one and for other writes meanwhile


class SessionStore:
    """Holds the session's id, the checkpoints that are known to be durable, and the uploader with its step log."""

    def __init__(self, job: SessionContext, say: Callable[[str], None] = lambda _: None) -> None:
        self.job = job
        self._say = say
        self.rank = SessionId(0, job.writer)
        self.local = SessionPaths(job.local_root, job.run_id, self.rank)
        self.knowledge = pruning.DurabilityIndex()
        self.nonfinite = Nonfinites()
        self._start: ev.CheckpointReady | None = None
        self._seen: set[str] = set()
        self._afresh = False
        self.fenced = FencedStore(job.store, job.run, self.rank)
        self.uploader = CheckpointUploader(job, self.fenced, self.knowledge)

    def inspect_run(self) -> ev.Event:
        """List the run, before the claim and after it."""
        view = claims.inspect(self.job.store, self.job.run, self.job.alive)
        arguments = view.claim.get("arguments")
        # a lost claim does not show its job
        same = arguments is not None and masked([str(each) for each in arguments]) == masked(self.job.arguments)
        edited = project.changes(project.from_plain(view.claim.get("project")), self.job.project)
        lost = finished_run.missing(self.job.store, self.job.run, view.last) if same else ""
        return ev.RunInspected(view.names, view.last, same, " and ".join(edited), lost)

    def claim(self, epoch: int) -> SessionId:
        """Create the session's folders, on the local disk and in the store."""
        self.rank = SessionId(epoch, self.job.writer)
        self.local = SessionPaths(self.job.local_root, self.job.run_id, self.rank)
        self.nonfinite.rank = self.rank
        self.fenced = FencedStore(self.job.store, self.job.run, self.rank)
        self.uploader.store = self.fenced
        self.local.make()
        body = {
            "machine": dict(self.job.identity),
            "platform": self.job.platform,
            "arguments": masked(self.job.arguments),
            "project": project.to_plain(self.job.project),
            "local": str(self.local.session),
            **self.job.claim_extra,
        }
        claims.write_claim(self.job.store, self.job.run, self.rank, body)
        return self.rank

    def read_history(self) -> ev.Event:
        """Return how earlier sessions ended, and write a summary for the next one."""
        found = history.read(self.job.store, self.job.run, self.rank, self.job.alive, self.job.platform)
        try:
            history.write_summary(self.job.store, self.job.run, self.rank, found)
        except StoreError as error:  # the next start reads the older records instead
            return replace(
                found, summary=f"{found.summary} What is left for the next start was not written: {error}".strip()
            )
        return found

    def read_peer_lifetimes(self) -> ev.Event:
        """Return how long the machines of other runs in this store lived."""
        return ev.PeerLifetimesRead(history.peer_lifetimes(self.job.store, self.job.run, self.job.platform))

    def restart(self) -> ev.Event | None:
        """Return the checkpoint to restart a failed trainer from, without the store; None if the store must be asked.

        It is the newest staged one. If nothing was staged yet, it is the one that this session started from. No other
        session writes into this generation.
        """
        began = self.job.clock.now()
        if self._start is None:
            return None
        if own := self._newest_staged():
            assert isinstance(own.answer, cp.ResumeFrom)
            id_ = own.answer.found.id
            durable = id_ in self.knowledge.durable
            return ev.CheckpointReady(str(own.folder), id_, durable, seconds=self.job.clock.now().since(began))
        if self._newest_own_durable() is not None or staged_checkpoints.staged_in(self.local.staging, self.rank):
            return None
        start = replace(self._start, adopted=False, skipped=())
        if start.id is None:
            return start
        try:
            staged_checkpoints.verify(Path(start.folder), start.id.step)
        except (CheckpointInfoError, OSError):
            return None
        return replace(start, seconds=self.job.clock.now().since(began))

    def restore(self, *, afresh: bool) -> ev.Event:
        """Fetch the newest valid checkpoint, from the store or from the staged ones of this machine.

        ``afresh`` ignores everything older than this session, until the session ends.
        """
        ready = self._restore(afresh=afresh)
        if self._start is None and isinstance(ready, ev.CheckpointReady):
            self._start = ready
        return ready

    def _restore(self, *, afresh: bool) -> ev.Event:
        """Choose where the run resumes, then prepare the step log and the uploader for it."""
        began = self.job.clock.now()
        self._afresh = self._afresh or afresh
        first = self.uploader.log is None
        if first:
            end_orphans(self.local.run, self.rank, self._say)
        if first and afresh:
            record_fresh_start(self.job, self.rank)
        fetched = self._newest_staged() or self._fetch_newest()
        answer = fetched.answer
        skipped = tuple(map(checkpoint_fetch.describe_skipped, fetched.skipped_local))
        if not isinstance(answer, cp.StartFresh):
            self.knowledge.broken.update(each.id for each in answer.skipped if each.verdict is cp.Validity.BROKEN)
        if isinstance(answer, cp.NeedsUser):
            if outranked := self.fenced.superseded():
                return ev.FenceChecked(outranked)  # a successor uploaded and pruned meanwhile
            raise packed_checkpoints.refusal(self.job.store, self.job.run, answer, *skipped)
        if isinstance(answer, cp.StartFresh):
            self.uploader.log = step_log_store.StepLog(self.local.step_log, 0)
            return ev.CheckpointReady("", None, skipped=skipped, rollbacks=fetched.rolled)
        skipped += packed_checkpoints.warnings(self.job.store, self.job.run, answer.skipped)
        packed_checkpoints.pin_packed(self.job.store, self.job.run, answer.skipped)
        here = answer.found.path.startswith(checkpoint_fetch.LOCAL)
        if not here:
            self._continue_from(answer.found, fetched.folder)
        if first or answer.found.id.writer != self.rank.writer:
            self.uploader.log = step_log_store.StepLog(self.local.step_log, answer.found.id.step)
            if here:
                self._adopt_step_log(answer.found.id)
        delete_dead_sessions(self.local.run, self.rank, keep=fetched.folder)
        id_ = answer.found.id
        durable = id_ in self.knowledge.durable
        adopted = here and answer.found.id.writer != self.rank.writer
        seconds = self.job.clock.now().since(began)
        changed = self._note_origin(fetched, answer.found) if first else ""
        return ev.CheckpointReady(str(fetched.folder), id_, durable, adopted, skipped, seconds, fetched.rolled, changed)

    def take_log(self, folder: Path) -> None:
        """Add the rows of a staged checkpoint to the session's step log."""
        self._seen.add(folder.name)
        if self.uploader.log is not None:
            # an unreadable folder is damaged, and its upload reports that
            with suppress(OSError, ValueError):
                self.uploader.log.take(folder)

    def newest_durable(self) -> cp.CheckpointId | None:
        """Return the newest durable checkpoint of this run. If the session started fresh, only its own count."""
        since = self.rank.generation if self._afresh else 0
        return max((id_ for id_ in tuple(self.knowledge.durable) if id_.generation >= since), default=None)

    def unreported(self) -> list[staged_checkpoints.StagedCheckpoint]:
        """Return staged folders without a message. A trainer that dies right after staging leaves such a folder."""
        return [
            each
            for each in staged_checkpoints.staged_in(self.local.staging, self.rank)
            if each.folder.name not in self._seen
        ]

    def upload(self, folder: Path, step: int, emit: Callable[[ev.Event], None]) -> ev.Event:
        """Upload a staged checkpoint. A full store is pruned once, and the upload repeated."""
        id_ = checkpoint_id(folder, step, self.rank)
        try:
            return self.uploader.upload(folder, id_, emit)
        except StoreError as error:
            if error.kind != "full":
                raise
            self._make_room()
            return self.uploader.upload(folder, id_, emit)

    def note_nonfinite(self) -> None:
        """Record the non-finite losses that are not on record yet. Raises StoreError."""
        if self.nonfinite.unrecorded and self.fenced.superseded() is None:
            self.nonfinite.write(self.job.store, self.job.run)

    def flush(self, within_s: float) -> ev.Event:
        """Let the platform upload everything that is written. The store is not usable after it."""
        id_ = self.uploader.write_manifest_unconfirmed()
        try:
            self.job.flush(within_s)
        except UserError as error:
            return ev.DriveFlushed(None, f"{error.what}; {error.hint}")
        return ev.DriveFlushed(id_)

    def prune(self) -> ev.Event:
        """Delete the checkpoints that retention does not keep, unless the session is superseded."""
        names = self.fenced.superseded()
        if names is not None:
            return ev.FenceChecked(names)
        proved = verification_records.recorded(self.job.store, self.job.run)
        # a record about a checkpoint of this session itself is forged: only this session can have confirmed it
        self.knowledge.durable |= {id_ for id_ in proved if id_.session_id < self.rank}
        self.note_nonfinite()
        try:
            removed, freed = pruning.prune(self.fenced, self.job.run, self._retention(), self.knowledge, self.rank)
            verification_records.delete(self.fenced, self.job.run, proved.intersection(removed))
        except FencedError as fenced:
            return ev.FenceChecked(fenced.names)
        self.knowledge.durable.difference_update(removed)
        return ev.Pruned(removed, freed)

    def check_fence(self) -> ev.Event:
        """List the run. The answer shows the highest session, requests to stop, and probes."""
        looked_s = self.job.clock.now().mono_s
        names = self.fenced.look()
        if not names:
            raise StoreError("the run's folder is not there", "gone")
        stop, knocks = claims.stop_wanted(names, self.rank), claims.probe_count(names, self.rank)
        return ev.FenceChecked(names, stop, looked_s, knocks)

    def write_pieces(self, pieces: list[tuple[str, bytes]]) -> None:
        """Write pieces of the journal and of the output into the session's folder."""
        for name, body in pieces:
            uploader.create_idempotent(self.job.store, f"{self.job.run.session(self.rank)}/{name}", body)

    def _note_origin(self, fetched: checkpoint_fetch.FetchResult, found: cp.Candidate) -> str:
        """Record the checkpoint that this session starts from; return what changed since the session that made it."""
        self._record_nonfinite_origin(fetched, found)
        return self._changed(found.id)

    def _record_nonfinite_origin(self, fetched: checkpoint_fetch.FetchResult, found: cp.Candidate) -> None:
        """Record that the checkpoint may hold a non-finite value. The checkpoint that shows it may soon be pruned."""
        watched, listed = self.job.retention.watched, fetched.listed
        manifest = found.manifest or cp.Manifest(
            found.id, (), metrics=staged_checkpoints.content(fetched.folder).metrics
        )
        of = pruning.Manifests(self.job.store, self.knowledge, listed.found)
        known = nonfinite.quality(
            found.id, lambda id_: manifest if id_ == found.id else of(id_), listed.nonfinite, watched
        )
        if known != "good":
            self.nonfinite.note(found.id.step, 0, f"the checkpoint of step {found.id.step} may hold what is no number")
            with suppress(StoreError):  # it is written before anything is pruned
                self.note_nonfinite()

    def _changed(self, id_: cp.CheckpointId) -> str:
        """Describe how script and arguments differ from those of the checkpoint's session; "" if they do not."""
        claim = claims.read_claim(self.job.store, self.job.run, id_.session_id)
        if "arguments" not in claim:
            return f"with which script and arguments session {id_.generation} ran is not known: its claim.json is lost or damaged"
        words = project.changes(project.from_plain(claim.get("project")), self.job.project)
        arguments = project.arguments_changed([str(each) for each in claim["arguments"]], self.job.arguments)
        words += [arguments] if arguments else []
        return f"since session {id_.generation}, which made this checkpoint, {' and '.join(words)}" if words else ""

    def _newest_staged(self) -> checkpoint_fetch.FetchResult | None:
        """Return this session's newest staged checkpoint if it is valid and not older than its newest durable one."""
        proved = self._newest_own_durable()
        for each in reversed(staged_checkpoints.staged_in(self.local.staging, self.rank)):
            if proved is not None and each.id < proved:
                return None
            found, folder = checkpoint_fetch.verify_staged(each)
            if found.verdict is cp.Validity.WHOLE:
                return checkpoint_fetch.FetchResult(cp.ResumeFrom(found, ()), folder)
        return None

    def _newest_own_durable(self) -> cp.CheckpointId | None:
        """Return this session's newest durable checkpoint. Callable on any queue, so it reads a copy of the set."""
        return max(
            (id_ for id_ in tuple(self.knowledge.durable) if id_.generation == self.rank.generation), default=None
        )

    def _fetch_newest(self) -> checkpoint_fetch.FetchResult:
        """Fetch the newest valid checkpoint of the store or of this machine. Raises UserError for a full local disk."""
        left = [each for each in staged_checkpoints.staged_on_this_machine(self.local.run) if self._has_rows(each)]
        epoch = self.rank.generation if self._afresh else 0
        into = self.local.restored / "checkpoint"
        try:
            fetched = checkpoint_fetch.fetch_newest_valid(self.job.store, self.job.run, left, into, epoch=epoch)
        except (OSError, StoreError) as error:
            if isinstance(error, StoreError) and error.kind != "local":
                raise
            words = f"the checkpoint cannot be brought to the local disk: {error}"
            raise UserError(words, f"make room in {self.local.root} and start again; nothing was lost") from error
        self.knowledge.learn_bare(fetched.listed, self.rank)
        return fetched

    def _has_rows(self, each: staged_checkpoints.StagedCheckpoint) -> bool:
        """Return whether the step log of a dead session is complete enough to continue from its staged checkpoint."""
        of = each.id.session_id
        return step_log_store.covers(SessionPaths(self.job.local_root, self.job.run_id, of).step_log)

    def _continue_from(self, found: cp.Candidate, folder: Path) -> None:
        """Make this checkpoint of the store the parent of the next one. Confirm it if nobody has."""
        assert found.manifest is not None
        self.uploader.parent = found.id
        self.uploader.pieces = log_pieces.with_log(found.manifest.pieces, found.manifest.log)
        self._mark_if_confirmed(found)
        if found.id not in self.knowledge.durable and found.id.session_id != self.rank:
            self.uploader.confirm_inherited(folder, found.manifest)

    def _mark_if_confirmed(self, found: cp.Candidate) -> None:
        """Mark a fetched checkpoint as durable if it is confirmed."""
        assert found.manifest is not None
        if self._is_confirmed(found, found.manifest):
            self.knowledge.durable.add(found.id)

    def _is_confirmed(self, found: cp.Candidate, manifest: cp.Manifest) -> bool:
        """Return whether a fetched checkpoint is durable. Its bytes may have been read from a cache.

        On a mounted drive it is durable if another machine wrote it: reading it here proves that the upload finished.
        It also is if an earlier session confirmed it. One answer of this machine's client is not enough.
        """
        if self.job.store.traits.mounted:
            claim = claims.read_claim(self.job.store, self.job.run, found.id.session_id)
            machine = claim.get("machine") or {}
            here = self.job.alive(machine) is not None or process_identity.maybe_here(machine, self.job.identity)
            if bool(machine) and not here:
                return True
            return was_confirmed(self.job.store, self.job.run, found.id)
        try:
            confirm_once(self.job.store, self.job.run, manifest)
        except StoreError:
            return False
        return True

    def _retention(self) -> retention.RetentionPolicy:
        """Return the retention policy, reduced to the minimum if the next checkpoint would not fit."""
        policy, newest = self.job.retention, self.uploader.newest
        free = self.job.store.free_bytes() if self.job.store.traits.mounted else None
        if newest is None or free is None or free >= ROOM_FOR * newest.bytes:
            return policy
        return replace(policy, newest=retention.NEWEST_MIN)

    def _make_room(self) -> None:
        """Prune a full store down to the minimum. The upload that follows reports a store that stays full."""
        policy = replace(self.job.retention, newest=retention.NEWEST_MIN)
        with suppress(StoreError, FencedError):
            if self.fenced.superseded() is None:
                self.note_nonfinite()
                pruning.prune(self.fenced, self.job.run, policy, self.knowledge, self.rank)

    def _adopt_step_log(self, id_: cp.CheckpointId) -> None:
        """Take over the step log rows of the dead session that staged this checkpoint."""
        dead = SessionPaths(self.job.local_root, self.job.run_id, id_.session_id)
        folders = [each.folder for each in staged_checkpoints.staged_in(dead.staging, dead.rank) if each.id <= id_]
        self.uploader.pieces = checkpoint_fetch.pieces_before(self.job.store, self.job.run, id_)
        if self.uploader.log is not None:
            self.uploader.log.adopt(dead.step_log, folders, id_.step)
