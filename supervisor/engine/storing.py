"""What one session does in its store: look, claim, restore, publish, retain. Called on the lanes, never on the loop."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from supervisor.core import checkpoint as cp
from supervisor.core import events as ev
from supervisor.core.claim import Rank
from supervisor.core.errors import FAILED_PRECHECKS, UserError
from supervisor.core.ports import StoreError, Taken
from supervisor.engine import checkpoints, claims, history, publication, retaining, staged, steplog
from supervisor.engine.fenced import FencedStore, Outranked
from supervisor.engine.orphans import end_orphans, forget_dead_sessions
from supervisor.engine.packing import Packer
from supervisor.engine.place import LocalPlace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from supervisor.engine.job import Job


class Storing:
    """Holds what the session knows of its store: its rank, what is proved, which rows of the log are there."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.rank = Rank(0, job.writer)
        self.local = LocalPlace(job.local_root, job.run_id, self.rank)
        self.knowledge = retaining.Knowledge()
        self._log: steplog.StepLog | None = None
        self._parent: cp.CheckpointId | None = None
        self._newest: cp.Manifest | None = None
        self._packer = Packer(job.clock, job.packing)
        self._seen: set[str] = set()
        self._afresh = False
        self._fenced = FencedStore(job.store, job.run, self.rank)
        self._failed_step: int | None = None

    def look(self) -> ev.Event:
        """List the run before and after the claim."""
        view = claims.look(self.job.store, self.job.run, self.job.alive)
        same = view.claim.get("arguments", list(self.job.arguments)) == list(self.job.arguments)
        return ev.Looked(view.names, view.last, same)

    def claim(self, epoch: int) -> Rank:
        """Make the session's folders, here and in the store."""
        self.rank = Rank(epoch, self.job.writer)
        self.local = LocalPlace(self.job.local_root, self.job.run_id, self.rank)
        self._fenced = FencedStore(self.job.store, self.job.run, self.rank)
        for folder in (self.local.staging, self.local.restored, self.local.scratch):
            folder.mkdir(parents=True, exist_ok=True)
        body = {
            "machine": dict(self.job.identity),
            "platform": self.job.platform,
            "arguments": list(self.job.arguments),
            "local": str(self.local.session),
            **self.job.claim_extra,
        }
        claims.write_claim(self.job.store, self.job.run, self.rank, body)
        return self.rank

    def read_history(self) -> ev.Event:
        """Tell how earlier machines ended, and leave it for the next."""
        told = history.read(self.job.store, self.job.run, self.rank, self.job.alive)
        history.carry(self.job.store, self.job.run, self.rank, told)
        return told

    def restore(self, *, afresh: bool) -> ev.Event:
        """Bring the newest whole checkpoint, of the store or left staged on this machine, to the local disk.

        ``afresh`` holds for the whole session: what was there before it is left out of account.
        """
        began = self.job.clock.now()
        self._afresh = self._afresh or afresh
        first = self._log is None
        if first:
            end_orphans(self.local.run, self.rank)
        brought = self._own_newest() or self._newest_anywhere()
        answer = brought.answer
        skipped = tuple(map(_skipped, brought.passed_over))
        if not isinstance(answer, cp.StartAfresh):
            skipped += tuple(map(_skipped, answer.skipped))
            self.knowledge.broken.update(each.id for each in answer.skipped)
        if isinstance(answer, cp.AskUser):
            if outranked := self._outranked():
                return ev.FenceSeen(outranked)  # a successor has published and removed while we looked
            raise UserError("; ".join([answer.why, *skipped]), answer.hint, FAILED_PRECHECKS)
        if isinstance(answer, cp.StartAfresh):
            self._begin_log(0)
            return ev.CheckpointReady("", None, skipped=skipped)
        here = answer.found.path.startswith(checkpoints.LOCAL)
        if not here:
            self._parent = answer.found.id
            self._prove(answer.found)
        if first or answer.found.id.writer != self.rank.writer:
            self._begin_log(answer.found.id.step)
            if here:
                self._adopt(answer.found.id)
        forget_dead_sessions(self.local.run, self.rank, keep=brought.folder)
        durable = answer.found.id in self.knowledge.durable
        adopted = here and answer.found.id.writer != self.rank.writer
        seconds = self.job.clock.now().since(began)
        return ev.CheckpointReady(str(brought.folder), answer.found.id, durable, adopted, skipped, seconds)

    def take_log(self, folder: Path) -> None:
        """Take the step log rows of a staged checkpoint into the session's log."""
        self._seen.add(folder.name)
        if self._log is not None:
            # a folder that cannot be read is damaged, and publishing it will say so
            with suppress(OSError, ValueError):
                self._log.take(folder)

    def unreported(self) -> list[staged.Staged]:
        """Return staged folders whose message got lost, as it does when the trainer dies right after staging."""
        return [each for each in staged.staged_in(self.local.staging, self.rank) if each.folder.name not in self._seen]

    def publish(self, folder: Path, step: int, tell: Callable[[ev.Event], None]) -> ev.Event:
        """Put a staged checkpoint into the store and wait for the evidence."""
        began = self.job.clock.now()
        id_ = cp.CheckpointId(self.rank.epoch, step, self.rank.writer, _seq(folder))
        log = None if self._log is None else self._log.piece(step)
        newest = None if self._newest is None or self._newest.id in self.knowledge.broken else self._newest
        log = log if log and log[1] else None
        order = publication.Order(folder, id_, self._parent, log, newest, self.job.shared_bytes_min, self._packer)
        try:
            self._clear_failed(step)
            manifest = publication.publish(self._fenced, self.job.run, self.rank, order, self._outranked)
            tell(ev.Submitted(str(folder), id_, manifest.bytes))
            proof = publication.evidence(self.job.store, self.job.run, manifest)
        except Outranked as fenced:
            tell(ev.PublishFailed(str(folder), "another machine has the run"))
            return ev.FenceSeen(fenced.names)
        except publication.Hopeless as error:
            return ev.PublishFailed(str(folder), str(error), hopeless=True)
        self._parent, self._newest, self._failed_step = id_, manifest, None
        self.knowledge.durable.add(id_)
        self.knowledge.manifests[publication.manifest_path(self.job.run, manifest)] = manifest
        self._score(manifest)
        if self._log is not None:
            self._log.published(step)
        upload_s = self.job.clock.now().since(began)
        self._packer.proved(manifest.sent_bytes, upload_s)
        return ev.Durable(str(folder), id_, manifest.bytes, upload_s, proof)

    def retain(self) -> ev.Event:
        """Remove what may go, unless we are outranked by now."""
        names = self._outranked()
        if names is not None:
            return ev.FenceSeen(names)
        try:
            removed, freed = retaining.retain(self._fenced, self.job.run, self.job.retention, self.knowledge, self.rank)
        except Outranked as fenced:
            return ev.FenceSeen(fenced.names)
        self.knowledge.durable.difference_update(removed)
        return ev.Retained(removed, freed)

    def look_at_fence(self) -> ev.Event:
        """List the run: who is the highest, and does somebody want us to stop."""
        names = self._fenced.look()
        if not names:
            raise StoreError("the run's folder is not there", "gone")
        return ev.FenceSeen(names, claims.stop_wanted(names, self.rank))

    def write_pieces(self, pieces: list[tuple[str, bytes]]) -> None:
        """Close pieces of the journal and of the output in the session's folder."""
        for name, body in pieces:
            try:
                self.job.store.create(f"{self.job.run.session(self.rank)}/{name}", body)
            except Taken:
                continue  # an earlier try did write it, and only its answer was lost

    def _own_newest(self) -> checkpoints.Brought | None:
        """Return this session's newest staged checkpoint if it is whole: only the trainer died, the store is not needed."""
        proved = max((id_ for id_ in self.knowledge.durable if id_.epoch == self.rank.epoch), default=None)
        for each in reversed(staged.staged_in(self.local.staging, self.rank)):
            if proved is not None and each.id < proved:
                return None
            found, folder = checkpoints.bring_local(each)
            if found.verdict is cp.Verdict.WHOLE:
                return checkpoints.Brought(cp.ResumeFrom(found, ()), folder)
        return None

    def _newest_anywhere(self) -> checkpoints.Brought:
        left = [each for each in staged.staged_on_this_machine(self.local.run) if self._has_rows(each)]
        epoch = self.rank.epoch if self._afresh else 0
        into = self.local.restored / "checkpoint"
        try:
            return checkpoints.newest_whole(self.job.store, self.job.run, left, into, epoch=epoch)
        except (OSError, StoreError) as error:
            if isinstance(error, StoreError) and error.kind != "local":
                raise
            words = f"the checkpoint cannot be brought to the local disk: {error}"
            raise UserError(words, f"make room in {self.local.root} and start again; nothing was lost") from error

    def _has_rows(self, each: staged.Staged) -> bool:
        of = Rank(each.id.epoch, each.id.writer)
        return steplog.covers(LocalPlace(self.job.local_root, self.job.run_id, of).step_log)

    def _prove(self, found: cp.Found) -> None:
        """Count what was read as DURABLE only if it is flushed too: it may have been read from memory."""
        assert found.manifest is not None
        with suppress(StoreError):
            publication.evidence(self.job.store, self.job.run, found.manifest)
            self.knowledge.durable.add(found.id)

    def _clear_failed(self, step: int) -> None:
        """Remove what an earlier, failed upload left, because on a full store it would keep every later one out."""
        if self._failed_step not in {None, step}:
            with suppress(StoreError):
                unfinished = self.job.run.step(self.rank, self._failed_step or 0)
                retaining.remove_unfinished(self._fenced, self.job.run, self.knowledge, unfinished)
        self._failed_step = step

    def _outranked(self) -> tuple[str, ...] | None:
        names = self._fenced.look()
        if self._fenced.fallen is None and str(self.rank) not in names:
            raise StoreError("the session's own folder is not there", "gone")
        return self._fenced.fallen

    def _begin_log(self, from_step: int) -> None:
        self._log = steplog.StepLog(self.local.step_log, from_step)

    def _adopt(self, id_: cp.CheckpointId) -> None:
        dead = LocalPlace(self.job.local_root, self.job.run_id, Rank(id_.epoch, id_.writer))
        folders = [each.folder for each in staged.staged_in(dead.staging, dead.rank) if each.id <= id_]
        if self._log is not None:
            self._log.adopt(dead.step_log, folders)

    def _score(self, manifest: cp.Manifest) -> None:
        loss = manifest.metrics.get("loss")
        if isinstance(loss, int | float):
            self.knowledge.scores[manifest.id] = float(loss)


def _seq(folder: Path) -> int:
    match = staged.FOLDER.fullmatch(folder.name)
    return int(match[2]) if match else 0


def _skipped(found: cp.Found) -> str:
    return f"the checkpoint of {found.id} was passed over: {found.why}"
