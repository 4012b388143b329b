"""What one session does in its store: look, claim, restore, publish, retain. Called on the lanes, never on the loop."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core import checkpoint as cp
from supervisor.core import events as ev
from supervisor.core import log_pieces, nonfinite, project, retention
from supervisor.core.claim import Rank
from supervisor.core.content import ContentError
from supervisor.core.errors import UserError
from supervisor.core.masking import masked
from supervisor.core.ports import StoreError
from supervisor.engine import (
    checkpoints,
    claims,
    finished,
    history,
    identity,
    packed,
    publication,
    receipts,
    retaining,
    staged,
    steplog,
)
from supervisor.engine.fenced import FencedStore, Outranked
from supervisor.engine.orphans import end_orphans, forget_dead_sessions
from supervisor.engine.place import LocalPlace
from supervisor.engine.proof import evidence
from supervisor.engine.telling import was_proved
from supervisor.engine.uploads import Uploads, checkpoint_id
from supervisor.engine.withdrawing import Nonfinites, begin_anew, record

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.core.rollback import Rollback
    from supervisor.engine.job import Job

ROOM_FOR = 1.5  # times the newest checkpoint, for the next one to fit with what else is written meanwhile


class Storing:
    """Holds what the session knows of its store: its rank, what is proved, which rows of the log are there."""

    def __init__(self, job: Job, say: Callable[[str], None] = lambda _: None) -> None:
        self.job = job
        self._say = say
        self.rank = Rank(0, job.writer)
        self.local = LocalPlace(job.local_root, job.run_id, self.rank)
        self.knowledge = retaining.Knowledge()
        self.nonfinite = Nonfinites()
        self._log: steplog.StepLog | None = None
        self.uploads = Uploads(job, self.knowledge)
        self._start: ev.CheckpointReady | None = None
        self._seen: set[str] = set()
        self._afresh = False
        self._fenced = FencedStore(job.store, job.run, self.rank)

    def look(self) -> ev.Event:
        """List the run before and after the claim."""
        view = claims.look(self.job.store, self.job.run, self.job.alive)
        told = view.claim.get("arguments")
        same = told is not None and masked([str(each) for each in told]) == masked(
            self.job.arguments
        )  # a lost claim tells nothing of its job
        edited = project.changes(project.from_plain(view.claim.get("project")), self.job.project)
        lost = finished.missing(self.job.store, self.job.run, view.last) if same else ""
        return ev.Looked(view.names, view.last, same, " and ".join(edited), lost)

    def claim(self, epoch: int) -> Rank:
        """Make the session's folders, here and in the store."""
        self.rank = Rank(epoch, self.job.writer)
        self.local = LocalPlace(self.job.local_root, self.job.run_id, self.rank)
        self.nonfinite.rank = self.rank
        self._fenced = FencedStore(self.job.store, self.job.run, self.rank)
        self.uploads.begin(self._fenced, self._outranked)
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
        """Tell how earlier machines ended, and leave it for the next."""
        told = history.read(self.job.store, self.job.run, self.rank, self.job.alive, self.job.platform)
        try:
            history.carry(self.job.store, self.job.run, self.rank, told)
        except StoreError as error:  # the next start can do without it: it reads farther back
            return replace(told, words=f"{told.words} What is left for the next start was not written: {error}".strip())
        return told

    def read_lives(self) -> ev.Event:
        """Tell how long the machines of other runs in this store lived."""
        return ev.LivesRead(history.lives_of_others(self.job.store, self.job.run, self.job.platform))

    def restart(self) -> ev.Event | None:
        """Return where a session goes on of which only the trainer died, without asking the store; None if that has to be.

        The newest it staged, or while it has staged none, what it began with: nobody else writes into our epoch.
        """
        began = self.job.clock.now()
        if self._start is None:
            return None
        if own := self._own_newest():
            assert isinstance(own.answer, cp.ResumeFrom)
            id_ = own.answer.found.id
            durable = id_ in self.knowledge.durable
            return ev.CheckpointReady(str(own.folder), id_, durable, seconds=self.job.clock.now().since(began))
        if self._own_proved() is not None or staged.staged_in(self.local.staging, self.rank):
            return None
        start = replace(self._start, adopted=False, skipped=())
        if start.id is None:
            return start
        try:
            staged.prove(Path(start.folder), start.id.step)
        except (ContentError, OSError):
            return None
        return replace(start, seconds=self.job.clock.now().since(began))

    def restore(self, *, afresh: bool) -> ev.Event:
        """Bring the newest whole checkpoint, of the store or left staged on this machine, to the local disk.

        ``afresh`` holds for the whole session: what was there before it is left out of account.
        """
        ready = self._restore(afresh=afresh)
        if self._start is None and isinstance(ready, ev.CheckpointReady):
            self._start = ready
        return ready

    def _restore(self, *, afresh: bool) -> ev.Event:
        began = self.job.clock.now()
        self._afresh = self._afresh or afresh
        first = self._log is None
        if first:
            end_orphans(self.local.run, self.rank, self._say)
        if first and afresh:
            begin_anew(self.job, self.rank)
        brought = self._own_newest() or self._newest_anywhere()
        answer = brought.answer
        skipped = tuple(map(checkpoints.skipped, brought.passed_over))
        if not isinstance(answer, cp.StartAfresh):
            self.knowledge.broken.update(each.id for each in answer.skipped if each.verdict is cp.Verdict.BROKEN)
        if isinstance(answer, cp.AskUser):
            if outranked := self._outranked():
                return ev.FenceSeen(outranked)  # a successor has published and removed while we looked
            raise packed.refusal(self.job.store, self.job.run, answer, *skipped)
        if isinstance(answer, cp.StartAfresh):
            self._log = steplog.StepLog(self.local.step_log, 0)
            return ev.CheckpointReady("", None, skipped=skipped, rolled=brought.rolled)
        skipped += packed.warnings(self.job.store, self.job.run, answer.skipped)
        packed.keep(self.job.store, self.job.run, answer.skipped)
        here = answer.found.path.startswith(checkpoints.LOCAL)
        if not here:
            self._go_on_from(answer.found, brought.folder)
        if first or answer.found.id.writer != self.rank.writer:
            self._log = steplog.StepLog(self.local.step_log, answer.found.id.step)
            if here:
                self._adopt(answer.found.id)
        forget_dead_sessions(self.local.run, self.rank, keep=brought.folder)
        id_ = answer.found.id
        durable = id_ in self.knowledge.durable
        adopted = here and answer.found.id.writer != self.rank.writer
        seconds = self.job.clock.now().since(began)
        changed = self._went_on(brought, answer.found) if first else ""
        return ev.CheckpointReady(str(brought.folder), id_, durable, adopted, skipped, seconds, brought.rolled, changed)

    def take_log(self, folder: Path) -> None:
        """Take the step log rows of a staged checkpoint into the session's log."""
        self._seen.add(folder.name)
        if self._log is not None:
            # a folder that cannot be read is damaged, and publishing it will say so
            with suppress(OSError, ValueError):
                self._log.take(folder)

    def newest_proved(self) -> cp.CheckpointId | None:
        """Return the newest checkpoint of this run that is known to be safe; of one that begins anew, of this session alone."""
        since = self.rank.epoch if self._afresh else 0
        return max((id_ for id_ in tuple(self.knowledge.durable) if id_.epoch >= since), default=None)

    def unreported(self) -> list[staged.Staged]:
        """Return staged folders whose message got lost, as it does when the trainer dies right after staging."""
        return [each for each in staged.staged_in(self.local.staging, self.rank) if each.folder.name not in self._seen]

    def publish(self, folder: Path, step: int, tell: Callable[[ev.Event], None]) -> ev.Event:
        """Put a staged checkpoint into the store."""
        id_ = checkpoint_id(folder, step, self.rank)
        try:
            return self.uploads.publish(folder, id_, self._log, tell)
        except StoreError as error:
            if error.kind != "full":
                raise
            self._make_room()
            return self.uploads.publish(folder, id_, self._log, tell)

    def roll_back(self, order: Rollback, words: str) -> ev.Event:
        """Record what this session withdraws."""
        return record(self.job, order, words, self._outranked)

    def note_nonfinite(self) -> None:
        """Record the losses that are no number and are not on record yet. Raises StoreError."""
        if self.nonfinite.waiting and self._outranked() is None:
            self.nonfinite.write(self.job.store, self.job.run)

    def confirm(self, folder: Path) -> ev.Event:
        """Ask for the evidence on what was submitted of this folder."""
        return self.uploads.confirm(folder, self._log)

    def flush(self, within_s: float) -> ev.Event:
        """Let the platform send all that is written: the store is gone after it."""
        id_ = self.uploads.seal()
        try:
            self.job.flush(within_s)
        except UserError as error:
            return ev.Flushed(None, f"{error.what}; {error.hint}")
        return ev.Flushed(id_)

    def retain(self) -> ev.Event:
        """Remove what may go, unless we are outranked by now."""
        names = self._outranked()
        if names is not None:
            return ev.FenceSeen(names)
        proved = receipts.receipts(self.job.store, self.job.run)
        # of this session's own only what it has published itself: somebody else's word for it is forged
        self.knowledge.durable |= {id_ for id_ in proved if id_.rank < self.rank}
        self.note_nonfinite()
        try:
            removed, freed = retaining.retain(self._fenced, self.job.run, self._retention(), self.knowledge, self.rank)
            receipts.forget(self._fenced, self.job.run, proved.intersection(removed))
        except Outranked as fenced:
            return ev.FenceSeen(fenced.names)
        self.knowledge.durable.difference_update(removed)
        return ev.Retained(removed, freed)

    def look_at_fence(self) -> ev.Event:
        """List the run: who is the highest, and does somebody want us to stop."""
        looked_s = self.job.clock.now().mono_s
        names = self._fenced.look()
        if not names:
            raise StoreError("the run's folder is not there", "gone")
        stop, knocks = claims.stop_wanted(names, self.rank), claims.knocks(names, self.rank)
        return ev.FenceSeen(names, stop, looked_s, knocks)

    def write_pieces(self, pieces: list[tuple[str, bytes]]) -> None:
        """Close pieces of the journal and of the output in the session's folder."""
        for name, body in pieces:
            publication.create_once(self.job.store, f"{self.job.run.session(self.rank)}/{name}", body)

    def _went_on(self, brought: checkpoints.Brought, found: cp.Found) -> str:
        """Note what the session goes on from; return in words what changed since the one that made it."""
        self._pass_on_nonfinite(brought, found)
        return self._changed(found.id)

    def _pass_on_nonfinite(self, brought: checkpoints.Brought, found: cp.Found) -> None:
        """Record that this session goes on from a checkpoint whose loss is no number: what made that may soon be removed."""
        watched, listed = self.job.retention.watched, brought.listed
        manifest = found.manifest or cp.Manifest(found.id, (), metrics=staged.content(brought.folder).metrics)
        of = retaining.Manifests(self.job.store, self.knowledge, listed.found)
        known = nonfinite.quality(
            found.id, lambda id_: manifest if id_ == found.id else of(id_), listed.nonfinite, watched
        )
        if known != "good":
            self.nonfinite.saw(found.id.step, 0, f"the checkpoint of step {found.id.step} may hold what is no number")
            with suppress(StoreError):  # then it is written before anything is removed
                self.note_nonfinite()

    def _changed(self, id_: cp.CheckpointId) -> str:
        """Say how script and arguments differ from those of the session that made a checkpoint; "" where they do not."""
        claim = claims.read_claim(self.job.store, self.job.run, id_.rank)
        if "arguments" not in claim:
            return f"with which script and arguments session {id_.epoch} ran is not known: its claim.json is lost or damaged"
        words = project.changes(project.from_plain(claim.get("project")), self.job.project)
        arguments = project.arguments_changed([str(each) for each in claim["arguments"]], self.job.arguments)
        words += [arguments] if arguments else []
        return f"since session {id_.epoch}, which made this checkpoint, {' and '.join(words)}" if words else ""

    def _own_newest(self) -> checkpoints.Brought | None:
        """Return this session's newest staged checkpoint if it is whole: only the trainer died, the store is not needed."""
        proved = self._own_proved()
        for each in reversed(staged.staged_in(self.local.staging, self.rank)):
            if proved is not None and each.id < proved:
                return None
            found, folder = checkpoints.bring_local(each)
            if found.verdict is cp.Verdict.WHOLE:
                return checkpoints.Brought(cp.ResumeFrom(found, ()), folder)
        return None

    def _own_proved(self) -> cp.CheckpointId | None:
        """Return the newest DURABLE one of this session. Asked on any lane, so of a copy: the store's lane adds to it."""
        return max((id_ for id_ in tuple(self.knowledge.durable) if id_.epoch == self.rank.epoch), default=None)

    def _newest_anywhere(self) -> checkpoints.Brought:
        left = [each for each in staged.staged_on_this_machine(self.local.run) if self._has_rows(each)]
        epoch = self.rank.epoch if self._afresh else 0
        into = self.local.restored / "checkpoint"
        try:
            brought = checkpoints.newest_whole(self.job.store, self.job.run, left, into, epoch=epoch)
        except (OSError, StoreError) as error:
            if isinstance(error, StoreError) and error.kind != "local":
                raise
            words = f"the checkpoint cannot be brought to the local disk: {error}"
            raise UserError(words, f"make room in {self.local.root} and start again; nothing was lost") from error
        self.knowledge.learn_bare(brought.listed, self.rank)
        return brought

    def _has_rows(self, each: staged.Staged) -> bool:
        of = each.id.rank
        return steplog.covers(LocalPlace(self.job.local_root, self.job.run_id, of).step_log)

    def _go_on_from(self, found: cp.Found, folder: Path) -> None:
        """Name this checkpoint of the store as the parent of the next one, with the pieces of the log up to it."""
        assert found.manifest is not None
        self.uploads.parent = found.id
        self.uploads.pieces = log_pieces.with_log(found.manifest.pieces, found.manifest.log)
        self._prove(found)
        if found.id not in self.knowledge.durable and found.id.rank != self.rank:
            self.uploads.take_up(folder, found.manifest)

    def _prove(self, found: cp.Found) -> None:
        """Count what was read as DURABLE if that is a proof."""
        assert found.manifest is not None
        if self._is_proved(found, found.manifest):
            self.knowledge.durable.add(found.id)

    def _is_proved(self, found: cp.Found, manifest: cp.Manifest) -> bool:
        """Say whether what was read is flushed too: it may have been read from memory.

        On a drive: if it was written on another machine, which it has then certainly left, or was proved before. One answer of
        this machine's client would not be enough.
        """
        if self.job.store.traits.mounted:
            claim = claims.read_claim(self.job.store, self.job.run, found.id.rank)
            machine = claim.get("machine") or {}
            here = self.job.alive(machine) is not None or identity.maybe_here(machine, self.job.identity)
            if bool(machine) and not here:
                return True
            return was_proved(self.job.store, self.job.run, found.id)
        try:
            evidence(self.job.store, self.job.run, manifest)
        except StoreError:
            return False
        return True

    def _retention(self) -> retention.Policy:
        """Return the policy, with as few to keep as may be where the next checkpoint would not fit."""
        policy, newest = self.job.retention, self.uploads.newest
        free = self.job.store.free_bytes() if self.job.store.traits.mounted else None
        if newest is None or free is None or free >= ROOM_FOR * newest.bytes:
            return policy
        return replace(policy, newest=retention.NEWEST_MIN)

    def _make_room(self) -> None:
        """Remove what may go of a full store, down to the fewest; what cannot go stays, and the full store is said."""
        policy = replace(self.job.retention, newest=retention.NEWEST_MIN)
        with suppress(StoreError, Outranked):
            if self._outranked() is None:
                self.note_nonfinite()
                retaining.retain(self._fenced, self.job.run, policy, self.knowledge, self.rank)

    def _outranked(self) -> tuple[str, ...] | None:
        names = self._fenced.look()
        if self._fenced.fallen is None and str(self.rank) not in names:
            raise StoreError("the session's own folder is not there", "gone")
        return self._fenced.fallen

    def _adopt(self, id_: cp.CheckpointId) -> None:
        dead = LocalPlace(self.job.local_root, self.job.run_id, id_.rank)
        folders = [each.folder for each in staged.staged_in(dead.staging, dead.rank) if each.id <= id_]
        self.uploads.pieces = checkpoints.pieces_before(self.job.store, self.job.run, id_)
        if self._log is not None:
            self._log.adopt(dead.step_log, folders, id_.step)
