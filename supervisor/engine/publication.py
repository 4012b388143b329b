"""Putting a checkpoint into the store. The order of writing is the protocol; I2, I4, I9 and I10 rest on it.

The state's files, their piece of the step log, the fence, the manifest, the evidence. So a manifest that can be read
names only files that were there before it; what has no manifest was never published.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core import checkpoint as cp
from supervisor.core.claim import Rank
from supervisor.core.content import CONTENT_FILE, ContentError
from supervisor.core.ports import Measured, Missing, Store, Taken
from supervisor.core.values import dataclass
from supervisor.engine import staged as local
from supervisor.engine import steplog
from supervisor.engine.fenced import Outranked

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from supervisor.engine.place import RunPlace


class Hopeless(Exception):  # noqa: N818, because it is a verdict on the folder
    """The staged folder itself is not whole: trying to publish it again cannot help."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to publish: a staged folder as checkpoint ``id``; ``log`` is (from step, rows) of its piece of the step log."""

    folder: Path
    id: cp.CheckpointId
    parent: cp.CheckpointId | None
    log: tuple[int, bytes] | None


def publish(
    store: Store, run: RunPlace, rank: Rank, order: Order, fence: Callable[[], tuple[str, ...] | None]
) -> cp.Manifest:
    """Put a staged checkpoint into the store; return its manifest once that lies there.

    Raises StoreError to retry, Hopeless where the staged folder is at fault, Outranked where the fence fell.
    ``fence`` lists anew and returns the names only if they outrank us.
    """
    try:
        content, sealed = local.sealed(order.folder)
    except ContentError as error:
        raise Hopeless(str(error)) from error
    if content.step != order.id.step:
        raise Hopeless(f"{CONTENT_FILE} is of step {content.step}, not {order.id.step}")
    _look(fence)
    folder = run.step(rank, order.id.step)
    promised = {**content.files, CONTENT_FILE: sealed}
    files = tuple(_push(store, run, folder, order.folder / name, promised[name]) for name in promised)
    log = None
    if order.log is not None:
        log = _create_log(store, run, rank, order)
    _look(fence)
    manifest = cp.Manifest(
        id=order.id,
        files=files,
        total_steps=content.total_steps,
        metrics=content.metrics,
        parent=order.parent,
        log=log,
        made_by=content.made_by,
    )
    body = cp.manifest_body(manifest)
    try:
        store.create(f"{folder}/{cp.manifest_name(order.id.seq, body)}", body)
    except Taken:
        if store.read(f"{folder}/{cp.manifest_name(order.id.seq, body)}") != body:
            raise
    return manifest


def evidence(store: Store, run: RunPlace, manifest: cp.Manifest) -> str:
    """Return what proves every file of a published checkpoint safe. Raises StoreError while something is not."""
    kinds = {store.evidence(f"{run.name}/{entry.path}") for entry in manifest.all_files()}
    name = cp.manifest_name(manifest.id.seq, cp.manifest_body(manifest))
    rank = Rank(manifest.id.epoch, manifest.id.writer)
    kinds.add(store.evidence(f"{run.step(rank, manifest.id.step)}/{name}"))
    return "+".join(sorted(kinds))


def _push(store: Store, run: RunPlace, folder: str, source: Path, promised: tuple[int, str]) -> cp.FileEntry:
    """Copy one file in, under its own name or, if a failed try of other content holds that, under the next free one."""
    tries = 0
    while True:
        name = source.name if tries == 0 else f"{source.stem}~{tries}{source.suffix}"
        path = f"{folder}/{name}"
        try:
            measured = store.push(str(source), path)
        except Missing as error:
            raise Hopeless(f"{source.name} is missing from the staged folder") from error
        except Taken:
            tries += 1
            if (measured_before := _same_as(store, path, source)) is None:
                continue
            measured = measured_before
        if (measured.bytes, measured.digest) != promised:
            raise Hopeless(f"{source.name} changed on the local disk after it was staged")
        return cp.FileEntry(source.name, path.removeprefix(f"{run.name}/"), measured.bytes, measured.digest)


def _same_as(store: Store, path: str, source: Path) -> Measured | None:
    beside = source.with_name(f".back-{source.name}")
    try:
        there = store.pull(path, str(beside))
    finally:
        beside.unlink(missing_ok=True)
    length, digest = local.measure(source)
    return there if there == Measured(length, digest) else None


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
    return cp.FileEntry(name, f"{rank}/{name}", len(body), local.digest(body))


def _look(fence: Callable[[], tuple[str, ...] | None]) -> None:
    names = fence()
    if names is not None:
        raise Outranked(names)
