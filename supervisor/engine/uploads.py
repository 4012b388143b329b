"""The one checkpoint on its way to the store: submitted, asked about, sealed, proved. At most one at a time (I17)."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from supervisor.core import checkpoint as cp
from supervisor.core import events as ev
from supervisor.core.claim import rank_of
from supervisor.core.ports import Missing, StoreError, Taken, Unconfirmed
from supervisor.core.values import dataclass
from supervisor.engine import publication, retaining, staged
from supervisor.engine.fenced import Outranked
from supervisor.engine.proof import Proof, times_needed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from supervisor.core.claim import Rank
    from supervisor.core.instant import Instant
    from supervisor.engine.fenced import FencedStore
    from supervisor.engine.job import Job
    from supervisor.engine.retaining import Knowledge
    from supervisor.engine.steplog import StepLog


@dataclass(frozen=True, slots=True)
class OnItsWay:
    """What is submitted and not yet proved. ``inherited``: a dead session wrote it, manifest and all."""

    folder: Path
    began: Instant
    proof: Proof
    inherited: bool = False


class Uploads:
    """Called on the lane of the store.

    ``parent``: what this session's next one goes on from; ``newest``: its last proved; ``pieces``: those of the log so far.
    """

    def __init__(self, job: Job, knowledge: Knowledge) -> None:
        self.job, self.knowledge = job, knowledge
        self.parent: cp.CheckpointId | None = None
        self.newest: cp.Manifest | None = None
        self.pieces: Mapping[str, str] = {}
        self._on_its_way: OnItsWay | None = None
        self._failed_step: int | None = None
        self._store: FencedStore | None = None

    def begin(self, store: FencedStore, fence: Callable[[], tuple[str, ...] | None]) -> None:
        """Write through ``store`` from now on, and look at ``fence`` before anything that counts."""
        self._store, self._fence = store, fence

    def publish(
        self, folder: Path, id_: cp.CheckpointId, log: StepLog | None, tell: Callable[[ev.Event], None]
    ) -> ev.Event:
        """Put a staged checkpoint into the store; where the evidence comes with the call, prove it too."""
        began = self.job.clock.now()
        piece = None if log is None else log.piece(id_.step)
        newest = None if self.newest is None or self.newest.id in self.knowledge.broken else self.newest
        piece = piece if piece and piece[1] else None
        least = self.job.shared_bytes_min
        order = publication.Order(folder, id_, self.parent, piece, newest, least, self.pieces)
        self._on_its_way = self.knowledge.on_its_way = None
        try:
            manifest = self._submit(order)
        except Outranked as fenced:
            tell(ev.PublishFailed(str(folder), "another machine has the run"))
            return ev.FenceSeen(fenced.names)
        except publication.Hopeless as error:
            return ev.PublishFailed(str(folder), str(error), hopeless=True)
        self.knowledge.on_its_way = manifest
        every_s = self.job.store.traits.confirm_every_s
        proof = Proof(self.job.run, manifest, times_needed(self.job.store), every_s, self.job.clock)
        self._on_its_way = OnItsWay(folder, began, proof)
        submitted = ev.Submitted(str(folder), id_, manifest.bytes)
        if every_s:
            return submitted
        tell(submitted)
        return self.confirm(folder, log)

    def take_up(self, folder: Path, manifest: cp.Manifest) -> None:
        """Ask from now on for the evidence on what a dead session wrote; ``folder`` is its copy on the local disk."""
        every_s = self.job.store.traits.confirm_every_s
        proof = Proof(self.job.run, manifest, times_needed(self.job.store), every_s, self.job.clock)
        self.knowledge.on_its_way = manifest
        self._on_its_way = OnItsWay(folder, self.job.clock.now(), proof, inherited=True)

    def confirm(self, folder: Path, log: StepLog | None) -> ev.Event:
        """Ask for the evidence on what was submitted of this folder."""
        sent = self._on_its_way
        if sent is None or sent.folder != folder:
            return ev.PublishFailed(str(folder), "it is not on its way any more")
        try:
            kinds = sent.proof.ask(self.job.store, lambda: self._seal(sent))
            publication.look(self._fence)  # who stood still before the manifest may have named what was swept since
        except Outranked as fenced:
            return ev.FenceSeen(fenced.names)
        except Unconfirmed as error:
            return ev.Unconfirmed(str(folder), str(error), error.possible, error.moving)
        except StoreError as error:
            if isinstance(error, Missing | Taken) or error.kind == "lied" or not self.job.store.traits.confirm_every_s:
                raise  # it is not there as it should be: only sending it again can help
            return ev.Unconfirmed(str(folder), str(error))
        manifest = sent.proof.manifest
        if sent.inherited:
            return self._proved_for_another(sent, kinds)
        self._on_its_way = self._failed_step = self.knowledge.on_its_way = None
        self.parent, self.newest, self.pieces = manifest.id, manifest, manifest.pieces
        self.knowledge.durable.add(manifest.id)
        self.knowledge.learn(publication.manifest_path(self.job.run, manifest), manifest)
        if log is not None:
            log.published(manifest.id.step)
        upload_s = self.job.clock.now().since(sent.began)
        return ev.Durable(str(folder), manifest.id, manifest.bytes, upload_s, kinds)

    def _proved_for_another(self, sent: OnItsWay, kinds: str) -> ev.Event:
        """What a dead session wrote is proved: this session's journal and end say so, because that one's are closed."""
        manifest = sent.proof.manifest
        self._on_its_way = self.knowledge.on_its_way = None
        self.knowledge.durable.add(manifest.id)
        self.knowledge.learn(publication.manifest_path(self.job.run, manifest), manifest)
        return ev.Durable(str(sent.folder), manifest.id, manifest.bytes, 0.0, kinds)

    def seal(self) -> cp.CheckpointId | None:
        """Write the manifest of what is submitted, proved or not: its files may still arrive after this session's end.

        Who reads it verifies them all. Returns the checkpoint, or None if nothing is on its way.
        """
        sent = self._on_its_way
        if sent is None:
            return None
        with suppress(StoreError, Outranked):
            sent.proof.seal(lambda: self._seal(sent))
        return sent.proof.manifest.id if sent.proof.sealed else None

    def _submit(self, order: publication.Order) -> cp.Manifest:
        assert self._store is not None
        step = order.id.step
        if self._failed_step not in {None, step}:
            with suppress(StoreError):
                # what an earlier, failed upload left would keep every later one out of a full store
                unfinished = self.job.run.step(order.id.rank, self._failed_step or 0)
                retaining.remove_unfinished(self._store, self.job.run, self.knowledge, unfinished)
        self._failed_step = step
        return publication.submit(self._store, self.job.run, order.id.rank, order, self._fence)

    def _seal(self, sent: OnItsWay) -> None:
        if sent.inherited:
            return  # its manifest lies in another's folder already
        assert self._store is not None
        publication.seal(self._store, self.job.run, sent.proof.manifest, self._fence)


def checkpoint_id(folder: Path, step: int, rank: Rank) -> cp.CheckpointId:
    """Return the id that a staged folder gets in this session.

    One that a dead session staged gets the number 0, because its own may be that of a folder this session's trainer stages.
    """
    match = staged.FOLDER.fullmatch(folder.name)
    adopted = rank_of(folder.parent.parent.name) not in {None, rank}
    return cp.CheckpointId(rank.epoch, step, rank.writer, int(match[2]) if match and not adopted else 0)
