"""Putting a checkpoint into the store. The order of writing is the protocol; I2, I4, I9 and I10 rest on it.

``submit``: the state's files and their piece of the step log. ``proof.Proof``: evidence on each of them, then ``seal``:
the fence and the manifest, then evidence on that. So a manifest names only files that were there, and had left the machine,
before it; what has no manifest was never published.
"""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING

from supervisor.core import checkpoint as cp
from supervisor.core import log_pieces, sharing
from supervisor.core.content import CONTENT_FILE, ContentError
from supervisor.core.digest import algorithm_of, digest_of, preferred
from supervisor.core.ports import Measured, Missing, Store, StoreError, Taken
from supervisor.core.values import dataclass
from supervisor.engine import staged as local
from supervisor.engine import steplog
from supervisor.engine.fenced import Outranked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from supervisor.core.claim import Rank
    from supervisor.engine.place import RunPlace


ROOM_BYTES = 16 * 1024 * 1024  # for journals, manifests and what the client itself needs


class Hopeless(Exception):  # noqa: N818, because it is a verdict on the folder
    """The staged folder itself is not whole: trying to publish it again cannot help."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to publish: a staged folder as checkpoint ``id``; ``log`` is (from step, rows) of its piece of the step log.

    ``newest`` is the newest checkpoint that this session has proved DURABLE: a file of at least ``shared_bytes_min`` that
    it has too is not sent again. ``pieces``: what is told of the step log before it.
    """

    folder: Path
    id: cp.CheckpointId
    parent: cp.CheckpointId | None
    log: tuple[int, bytes] | None
    newest: cp.Manifest | None = None
    shared_bytes_min: int = sharing.SHARED_BYTES_MIN
    pieces: Mapping[str, str] = field(default_factory=dict)


def submit(
    store: Store, run: RunPlace, rank: Rank, order: Order, fence: Callable[[], tuple[str, ...] | None]
) -> cp.Manifest:
    """Put a staged checkpoint's files into the store; return the manifest that ``seal`` will write.

    Raises StoreError to retry, Hopeless where the staged folder is at fault, Outranked where the fence fell.
    ``fence`` lists anew and returns the names only if they outrank us.
    """
    try:
        content, sealed = local.sealed(order.folder)
    except ContentError as error:
        raise Hopeless(str(error)) from error
    if content.step != order.id.step:
        raise Hopeless(f"{CONTENT_FILE} is of step {content.step}, not {order.id.step}")
    look(fence)
    folder = run.step(rank, order.id.step)
    promised = {**content.files, CONTENT_FILE: sealed}
    shared = _shared(store, run, order, promised)
    sent_bytes = sum(promised[name][0] for name in promised if name not in shared)
    _see_room(store, sent_bytes)
    files = tuple(
        shared.get(name) or _push(store, run, folder, order.folder / name, promised[name]) for name in promised
    )
    log = None
    if order.log is not None:
        log = _create_log(store, run, rank, order)
    return cp.Manifest(
        id=order.id,
        files=files,
        total_steps=content.total_steps,
        metrics=content.metrics,
        parent=order.parent,
        log=log,
        made_by=content.made_by,
        pieces=log_pieces.with_log(order.pieces, log),
    )


def seal(store: Store, run: RunPlace, manifest: cp.Manifest, fence: Callable[[], tuple[str, ...] | None]) -> None:
    """Write the manifest, unless outranked: from then on it is a checkpoint."""
    look(fence)
    create_once(store, manifest_path(run, manifest), cp.manifest_body(manifest))


def create_once(store: Store, path: str, body: bytes) -> None:
    """Create a small file of our own; one that an earlier try of the same left is taken if it is whole, else removed."""
    try:
        store.create(path, body)
    except Taken:
        if store.read(path) == body:
            return
        store.delete(path)  # torn: its writer, we, died or failed in it, and no reader takes it for whole
        store.create(path, body)


def manifest_path(run: RunPlace, manifest: cp.Manifest) -> str:
    """Return where a manifest lies in the store."""
    name = cp.manifest_name(manifest.id.seq, cp.manifest_body(manifest))
    return f"{run.step(manifest.id.rank, manifest.id.step)}/{name}"


def _see_room(store: Store, sent_bytes: int) -> None:
    """Raise StoreError where a mounted drive has no room: begun and broken off, an upload would take the last of it."""
    free = store.free_bytes() if store.traits.mounted else None
    if free is not None and free < sent_bytes + ROOM_BYTES:
        words = f"{sent_bytes / 1e6:,.0f} MB are to be sent, and {store.traits.place} has {free / 1e6:,.0f} MB free"
        raise StoreError(words, "full")


def _shared(
    store: Store, run: RunPlace, order: Order, promised: Mapping[str, tuple[int, str]]
) -> dict[str, cp.FileEntry]:
    """Return the files that lie in older folders of this session and need not be sent: each still listed at its length."""
    shared: dict[str, cp.FileEntry] = {}
    listed: dict[str, set[tuple[str, int | None]]] = {}
    for name in promised:
        entry = sharing.already_there(order.newest, name, promised[name], order.shared_bytes_min)
        if entry is None:
            continue
        folder, _, file = f"{run.name}/{entry.path}".rpartition("/")
        if folder not in listed:
            listed[folder] = {(each.name, each.bytes) for each in store.list(folder)}
        if (file, entry.bytes) in listed[folder]:
            shared[name] = entry
    return shared


def _push(store: Store, run: RunPlace, folder: str, source: Path, promised: tuple[int, str]) -> cp.FileEntry:
    """Put one file in, under its own name or, if a failed try of other content holds that, under the next free one."""
    tries = 0
    while True:
        name = source.name if tries == 0 else f"{source.stem}~{tries}{source.suffix}"
        path = f"{folder}/{name}"
        try:
            measured = store.push(str(source), path, algorithm_of(promised[1]), link=True)
        except Missing as error:
            raise Hopeless(f"{source.name} is missing from the staged folder") from error
        except Taken:
            tries += 1
            if (measured := _measured_there(store, path, source, algorithm_of(promised[1]))) != Measured(*promised):
                continue
        if (measured.bytes, measured.digest) != promised:
            raise Hopeless(f"{source.name} changed on the local disk after it was staged")
        return cp.FileEntry(source.name, path.removeprefix(f"{run.name}/"), measured.bytes, measured.digest)


def _measured_there(store: Store, path: str, source: Path, algorithm: str) -> Measured:
    beside = source.with_name(f".back-{source.name}")
    try:
        return store.pull(path, str(beside), algorithm, link=True)
    finally:
        beside.unlink(missing_ok=True)


def _create_log(store: Store, run: RunPlace, rank: Rank, order: Order) -> cp.FileEntry:
    """Write the piece of the step log, or find it there from an earlier try."""
    assert order.log is not None
    from_step, body = order.log
    session = run.session(rank)
    for name in steplog.names(store, session, from_step, order.id.step):
        if store.read(f"{session}/{name}") == body:
            break
    else:
        name = steplog.piece_name(steplog.next_number(store, session), from_step, order.id.step)
        store.create(f"{session}/{name}", body)
    return cp.FileEntry(name, f"{rank}/{name}", len(body), digest_of((body,), preferred()))


def look(fence: Callable[[], tuple[str, ...] | None]) -> None:
    """Raise Outranked if another session has taken the run over."""
    names = fence()
    if names is not None:
        raise Outranked(names)
