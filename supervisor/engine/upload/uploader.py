"""Uploads one checkpoint from the local disk to the store: files, confirmation, manifest, confirmation.

Theory of operation

Rules:

1. A checkpoint exists for readers as soon as its manifest exists. The manifest is therefore written last (I1).
2. The order of one upload is fixed:

   a. fence check,
   b. files of the state, except those that an older checkpoint of this session already holds,
   c. piece of the step log,
   d. confirmation of every file and of the piece,
   e. listing check (on a mounted drive only): every file is listed at its length,
   f. fence check,
   g. manifest, named by its own hash,
   h. confirmation of the manifest, and the listing check again,
   i. fence check; then ``CheckpointDurable``.

3. Only the store's confirmation makes a checkpoint durable (I4). Elapsed time never does.
4. A closed file is never modified (I9). A retry reuses a file of equal content and leaves any other file alone.
5. A superseded session writes nothing (I10). ``FencedStore`` refuses the write with ``FencedError``.
6. One checkpoint is in flight (I17). A new upload replaces it, and a late ``confirm`` for it fails.
7. All methods are called on one queue, "store". Only ``log`` is shared with the thread that reads the channel.

``upload`` performs a to c. On a disk it also performs d to i at once. On a drive it returns ``CheckpointWritten``,
and the session calls ``confirm`` every few seconds. Each ``confirm`` performs as much of d to i as the store allows.

Cases:

- The store fails during b or c: ``StoreError``. The session tries again later, and step b reuses the complete files.
- Another step is uploaded after a failure: the files of the failed step are deleted first, to free their space.
- The staged folder is damaged: ``CorruptStagedCheckpoint``. A retry cannot help, so the failure is permanent.
- The store confirms nothing yet: ``NotConfirmed``, reported as ``DurabilityPending``. The next ``confirm`` continues.
- The store can never confirm: the manifest is written all the same, because a later machine can verify by it.
- A drive fails during d or h: ``DurabilityPending`` too. A missing file or an incorrect one fails the upload instead.
- The process stood still between f and i: the fence check i finds a successor that may have deleted the files.
- The session ends with an upload in flight: ``write_manifest_unconfirmed`` writes g without d. Its readers verify it.
- A dead session wrote the checkpoint: ``confirm_inherited`` confirms it. Its manifest exists already.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import field
from typing import TYPE_CHECKING

from supervisor.core.checkpoint import log_pieces
from supervisor.core.checkpoint import manifest as cp
from supervisor.core.checkpoint.checkpoint_json import CONTENT_FILE, CheckpointInfoError
from supervisor.core.checkpoint.session_id import parse_session_id
from supervisor.core.digest import algorithm_of, digest_of, preferred
from supervisor.core.frozen import dataclass
from supervisor.core.policy import dedup
from supervisor.core.ports import AlreadyExists, FileDigest, NotConfirmed, NotFound, Store, StoreError
from supervisor.core.session import events as ev
from supervisor.engine.resume import staging as staged_checkpoints
from supervisor.engine.upload import prune as pruning
from supervisor.engine.upload import step_log as step_log_store
from supervisor.engine.upload.durability import DurabilityCheck, confirmations_needed
from supervisor.engine.upload.fenced_store import FencedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from supervisor.core.checkpoint.session_id import SessionId
    from supervisor.core.clock import Instant
    from supervisor.engine.context import SessionContext
    from supervisor.engine.paths import RunPaths
    from supervisor.engine.upload.fenced_store import FencedStore
    from supervisor.engine.upload.prune import DurabilityIndex
    from supervisor.engine.upload.step_log import StepLog


ROOM_BYTES = 16 * 1024 * 1024  # reserve for journals, manifests and the drive client


class CorruptStagedCheckpoint(Exception):  # noqa: N818, because it describes the folder
    """The staged folder is incomplete or damaged. Another upload of it cannot succeed."""


@dataclass(frozen=True, slots=True)
class UploadRequest:
    """One upload: the staged ``folder`` becomes the checkpoint ``id``.

    ``log`` holds the first step and the rows of its piece of the step log. ``newest`` is the newest durable checkpoint
    of this session: its files of at least ``shared_bytes_min`` are not written again. ``pieces`` names all earlier
    pieces.
    """

    folder: Path
    id: cp.CheckpointId
    parent: cp.CheckpointId | None
    log: tuple[int, bytes] | None
    newest: cp.Manifest | None = None
    shared_bytes_min: int = dedup.SHARED_BYTES_MIN
    pieces: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class InFlight:
    """A checkpoint whose files are written and that is not durable yet.

    ``inherited``: a dead session wrote it, including its manifest.
    """

    folder: Path
    began: Instant
    check: DurabilityCheck
    inherited: bool = False
    manifest_written: bool = False


class CheckpointUploader:
    """Uploads the checkpoints of one session, see the module docstring.

    ``log`` holds the rows that are staged and not uploaded. ``parent`` is the checkpoint that the next one continues.
    ``newest`` is this session's last durable checkpoint. ``pieces`` names the pieces of the step log so far.
    """

    def __init__(self, job: SessionContext, store: FencedStore, knowledge: DurabilityIndex) -> None:
        self.job, self.store, self.knowledge = job, store, knowledge
        self.log: StepLog | None = None
        self.parent: cp.CheckpointId | None = None
        self.newest: cp.Manifest | None = None
        self.pieces: Mapping[str, str] = {}
        self._in_flight: InFlight | None = None
        self._failed_step: int | None = None

    def upload(self, folder: Path, id_: cp.CheckpointId, emit: Callable[[ev.Event], None]) -> ev.Event:
        """Write the files of a staged checkpoint. On a disk, confirm it and write its manifest too.

        Returns the outcome. An earlier event of the same upload goes to ``emit``. Raises StoreError if the store
        failed.
        """
        began = self.job.clock.now()
        request = self._request(folder, id_)
        self._in_flight = self.knowledge.in_flight = None
        try:
            self._remove_failed_upload(id_)
            manifest = write_files(self.store, self.job.run, request)
        except FencedError as fenced:
            emit(ev.UploadFailed(str(folder), "another machine has the run"))
            return ev.FenceChecked(fenced.names)
        except CorruptStagedCheckpoint as error:
            return ev.UploadFailed(str(folder), str(error), permanent=True)
        self._in_flight = self._begin_confirming(folder, manifest, began)
        submitted = ev.CheckpointWritten(str(folder), id_, manifest.bytes)
        if self.job.store.traits.confirm_every_s:
            return submitted
        emit(submitted)
        return self.confirm(folder)

    def _request(self, folder: Path, id_: cp.CheckpointId) -> UploadRequest:
        """Describe the upload of a staged folder with what is durable so far."""
        piece = None if self.log is None else self.log.piece(id_.step)
        newest = None if self.newest is None or self.newest.id in self.knowledge.broken else self.newest
        piece = piece if piece and piece[1] else None
        return UploadRequest(folder, id_, self.parent, piece, newest, self.job.shared_bytes_min, self.pieces)

    def _remove_failed_upload(self, id_: cp.CheckpointId) -> None:
        """Delete the files of an earlier failed upload. On a full store they would block every later one."""
        if self._failed_step not in {None, id_.step}:
            with suppress(StoreError):
                unfinished = self.job.run.step(id_.session_id, self._failed_step or 0)
                pruning.remove_unfinished(self.store, self.job.run, self.knowledge, unfinished)
        self._failed_step = id_.step

    def _begin_confirming(
        self, folder: Path, manifest: cp.Manifest, began: Instant, *, inherited: bool = False
    ) -> InFlight:
        """Start the confirmation. Pruning keeps the files of this manifest from now on."""
        self.knowledge.in_flight = manifest
        times, apart_s = confirmations_needed(self.job.store), self.job.store.traits.confirm_every_s
        return InFlight(
            folder, began, DurabilityCheck(self.job.run, manifest, times, apart_s, self.job.clock), inherited
        )

    def confirm(self, folder: Path) -> ev.Event:
        """Continue the upload of this folder: confirmation, manifest, confirmation of the manifest.

        Raises StoreError if only another upload can help.
        """
        sent = self._in_flight
        if sent is None or sent.folder != folder:
            return ev.UploadFailed(str(folder), "it is not on its way any more")
        try:
            kinds = self._confirm_all(sent)
            self.store.check_fence()  # during a pause a successor may have deleted files
        except FencedError as fenced:
            return ev.FenceChecked(fenced.names)
        except NotConfirmed as error:
            return ev.DurabilityPending(str(folder), str(error), error.possible, error.moving)
        except StoreError as error:
            if (
                isinstance(error, NotFound | AlreadyExists)
                or error.kind == "lied"
                or not self.job.store.traits.confirm_every_s
            ):
                raise  # a file is missing or incorrect: only another upload can help
            return ev.DurabilityPending(str(folder), str(error))
        return self._mark_durable(sent, kinds)

    def _confirm_all(self, sent: InFlight) -> str:
        """Confirm the files, write the manifest, confirm the manifest. Returns the kinds of evidence."""
        try:
            sent.check.poll_files(self.job.store)
        except NotConfirmed as error:
            if not error.possible:
                self._write_manifest_once(sent)  # a later machine verifies the files by the manifest alone
            raise
        if not sent.manifest_written:
            sent.check.check_files_listed(self.job.store)
        self._write_manifest_once(sent)
        return sent.check.poll_manifest(self.job.store)

    def _write_manifest_once(self, sent: InFlight) -> None:
        """Write the manifest unless it is there. An inherited one lies in the folder of its own session."""
        if not (sent.manifest_written or sent.inherited):
            write_manifest(self.store, self.job.run, sent.check.manifest)
        sent.manifest_written = True

    def _mark_durable(self, sent: InFlight, kinds: str) -> ev.Event:
        """Every byte is confirmed. The next checkpoint continues this one, unless a dead session wrote it."""
        manifest, upload_s = sent.check.manifest, 0.0
        self._in_flight = self.knowledge.in_flight = None
        self.knowledge.durable.add(manifest.id)
        self.knowledge.learn(self.job.run.manifest(manifest), manifest)
        if not sent.inherited:  # an inherited one is only reported: the journal of its own session is closed
            self._failed_step = None
            self.parent, self.newest, self.pieces = manifest.id, manifest, manifest.pieces
            if self.log is not None:
                self.log.published(manifest.id.step)
            upload_s = self.job.clock.now().since(sent.began)
        return ev.CheckpointDurable(str(sent.folder), manifest.id, manifest.bytes, upload_s, kinds)

    def confirm_inherited(self, folder: Path, manifest: cp.Manifest) -> None:
        """Confirm from now on what a dead session uploaded. ``folder`` is the local copy."""
        self._in_flight = self._begin_confirming(folder, manifest, self.job.clock.now(), inherited=True)

    def write_manifest_unconfirmed(self) -> cp.CheckpointId | None:
        """Write the manifest of the checkpoint in flight, at the end of the session.

        Its files may still become durable after this session, and every reader verifies them. Returns the
        checkpoint, or None if no manifest was written.
        """
        sent = self._in_flight
        if sent is None:
            return None
        with suppress(StoreError, FencedError):
            self._write_manifest_once(sent)
        return sent.check.manifest.id if sent.manifest_written else None


def checkpoint_id(folder: Path, step: int, rank: SessionId) -> cp.CheckpointId:
    """Return the id of a staged folder in this session.

    A folder that a dead session staged gets number 0. Its own number may equal that of a folder of this session.
    """
    match = staged_checkpoints.FOLDER.fullmatch(folder.name)
    adopted = parse_session_id(folder.parent.parent.name) not in {None, rank}
    return cp.CheckpointId(rank.generation, step, rank.writer, int(match[2]) if match and not adopted else 0)


def write_files(store: FencedStore, run: RunPaths, request: UploadRequest) -> cp.Manifest:
    """Write the files of a staged checkpoint, then its piece of the step log. Returns the manifest to write later.

    Raises StoreError to try again, CorruptStagedCheckpoint for a damaged folder, FencedError for a superseded session.
    """
    try:
        content, sealed = staged_checkpoints.sealed(request.folder)
    except CheckpointInfoError as error:
        raise CorruptStagedCheckpoint(str(error)) from error
    if content.step != request.id.step:
        raise CorruptStagedCheckpoint(f"{CONTENT_FILE} is of step {content.step}, not {request.id.step}")
    store.check_fence()
    folder = run.step(request.id.session_id, request.id.step)
    expected = {**content.files, CONTENT_FILE: sealed}
    shared = _reusable_files(store, run, request, expected)
    sent_bytes = sum(expected[name][0] for name in expected if name not in shared)
    _check_room(store, sent_bytes)
    files = tuple(
        shared.get(name) or _write_file(store, run, folder, request.folder / name, expected[name]) for name in expected
    )
    log = None
    if request.log is not None:
        log = _write_log_piece(store, run, request)
    return cp.Manifest(
        id=request.id,
        files=files,
        total_steps=content.total_steps,
        metrics=content.metrics,
        parent=request.parent,
        log=log,
        made_by=content.made_by,
        pieces=log_pieces.with_log(request.pieces, log),
    )


def _reusable_files(
    store: Store, run: RunPaths, request: UploadRequest, expected: Mapping[str, tuple[int, str]]
) -> dict[str, cp.FileEntry]:
    """Return the files that older folders of this session hold already. Each is still listed at its length."""
    shared: dict[str, cp.FileEntry] = {}
    listed: dict[str, set[tuple[str, int | None]]] = {}
    for name in expected:
        entry = dedup.reusable_entry(request.newest, name, expected[name], request.shared_bytes_min)
        if entry is None:
            continue
        folder, _, file = f"{run.name}/{entry.path}".rpartition("/")
        if folder not in listed:
            listed[folder] = {(each.name, each.bytes) for each in store.list(folder)}
        if (file, entry.bytes) in listed[folder]:
            shared[name] = entry
    return shared


def _check_room(store: Store, sent_bytes: int) -> None:
    """Raise StoreError if a mounted drive has too little space. An aborted upload would use up the rest of it."""
    free = store.free_bytes() if store.traits.mounted else None
    if free is not None and free < sent_bytes + ROOM_BYTES:
        words = f"{sent_bytes / 1e6:,.0f} MB are to be sent, and {store.traits.place} has {free / 1e6:,.0f} MB free"
        raise StoreError(words, "full")


def _write_file(store: Store, run: RunPaths, folder: str, source: Path, expected: tuple[int, str]) -> cp.FileEntry:
    """Write one file under its own name.

    If a failed try left other content under that name, the next free name is used.
    """
    tries = 0
    while True:
        name = source.name if tries == 0 else f"{source.stem}~{tries}{source.suffix}"
        path = f"{folder}/{name}"
        try:
            measured = store.push(str(source), path, algorithm_of(expected[1]), link=True)
        except NotFound as error:
            raise CorruptStagedCheckpoint(f"{source.name} is missing from the staged folder") from error
        except AlreadyExists:
            tries += 1
            if (measured := _read_back(store, path, source, algorithm_of(expected[1]))) != FileDigest(*expected):
                continue
        if (measured.bytes, measured.digest) != expected:
            raise CorruptStagedCheckpoint(f"{source.name} changed on the local disk after it was staged")
        return cp.FileEntry(source.name, path.removeprefix(f"{run.name}/"), measured.bytes, measured.digest)


def _read_back(store: Store, path: str, source: Path, algorithm: str) -> FileDigest:
    """Measure the file that an earlier try left in the store."""
    beside = source.with_name(f".back-{source.name}")
    try:
        return store.pull(path, str(beside), algorithm, link=True)
    finally:
        beside.unlink(missing_ok=True)


def _write_log_piece(store: Store, run: RunPaths, request: UploadRequest) -> cp.FileEntry:
    """Write the piece of the step log, or reuse the one from an earlier try."""
    assert request.log is not None
    from_step, body = request.log
    rank = request.id.session_id
    session = run.session(rank)
    for name in step_log_store.names(store, session, from_step, request.id.step):
        if store.read(f"{session}/{name}") == body:
            break
    else:
        name = step_log_store.piece_name(step_log_store.next_number(store, session), from_step, request.id.step)
        store.create(f"{session}/{name}", body)
    return cp.FileEntry(name, f"{rank}/{name}", len(body), digest_of((body,), preferred()))


def write_manifest(store: FencedStore, run: RunPaths, manifest: cp.Manifest) -> None:
    """Check the fence and write the manifest. From now on readers see a checkpoint."""
    store.check_fence()
    create_idempotent(store, run.manifest(manifest), cp.manifest_body(manifest))


def create_idempotent(store: Store, path: str, body: bytes) -> None:
    """Create a small file of this session. A complete one of an earlier try is kept, an incomplete one replaced."""
    try:
        store.create(path, body)
    except AlreadyExists:
        if store.read(path) == body:
            return
        store.delete(path)  # incomplete: an earlier try of this session failed, and no reader accepts it
        store.create(path, body)
