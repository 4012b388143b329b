"""Verification records: small files that name checkpoints which were confirmed outside of the session that wrote them.

A record has one of two reasons. Another machine read the whole checkpoint, so it has left the machine that wrote it.
Or the drive's client confirmed every file of it, as often as a session requires.
"""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any

from supervisor.core.checkpoint.manifest import CHECKPOINT, CheckpointId
from supervisor.core.frozen import dataclass
from supervisor.core.ports import NotConfirmed, NotFound, StoreError
from supervisor.core.wire import fields, shapes
from supervisor.engine.run_catalog.claims import read_claim
from supervisor.engine.trainer_process import process_identity
from supervisor.engine.upload.durability import CONFIRMATIONS_ON_A_DRIVE, DurabilityCheck, confirmations_needed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from supervisor.core.checkpoint.manifest import Manifest
    from supervisor.core.checkpoint.session_id import SessionId
    from supervisor.core.clock import Instant
    from supervisor.core.ports import Clock, Store
    from supervisor.engine.paths import RunPaths

VERIFIED = "verified"
NAME = re.compile(rf"verified-{CHECKPOINT}-[0-9a-f]{{1,32}}{fields.TWIN}\.json")


SAME_MACHINE = "read on the machine that wrote it, so it proves nothing about the upload"


@dataclass(frozen=True, slots=True)
class VerifiedCheckpoint:
    """The ``evidence`` for a valid checkpoint, or "". ``why``: why evidence or record is missing."""

    evidence: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class VerificationPace:
    """The clock, and a function that waits."""

    clock: Clock
    pause: Callable[[float], object]


@dataclass(frozen=True, slots=True)
class VerificationRecord:
    """The ``evidence``, and its time ``at_wall_s`` by the clock of the confirming machine, for display only."""

    evidence: str = VERIFIED
    at_wall_s: float | None = None


@dataclass(frozen=True, slots=True)
class _Written:
    """The stored form of a record."""

    evidence: shapes.Text = VERIFIED
    at: shapes.Finite | None = None


def recorded(store: Store, run: RunPaths) -> set[CheckpointId]:
    """Return the checkpoints with a record. All of them are durable. The name is enough, so a listing is enough."""
    return {id_ for id_, _ in _paths(store, run)}


def read(store: Store, run: RunPaths) -> dict[CheckpointId, VerificationRecord]:
    """Return the records. A damaged or late one still confirms the checkpoint in its name."""
    found = {}
    for id_, path in _paths(store, run):
        try:
            told = shapes.read(_Written, store.read(path))
            found[id_] = VerificationRecord(told.evidence, told.at)
        except (NotFound, ValueError):
            found[id_] = VerificationRecord()
    return found


def confirm(store: Store, run: RunPaths, manifest: Manifest, known: str, pace: VerificationPace) -> VerifiedCheckpoint:
    """Return the evidence for a checkpoint that was just read completely, and record new evidence.

    ``known`` is the evidence that is recorded already, or "". Raises StoreError if the store cannot be asked.
    """
    if on_another_machine(store, run, manifest.id.session_id):
        return VerifiedCheckpoint(VERIFIED) if known == VERIFIED else _written(store, run, manifest, VERIFIED, pace)
    if known:
        return VerifiedCheckpoint(known)
    try:
        evidence = confirm_by_client(store, run, manifest, pace.pause)
    except NotConfirmed as error:
        return VerifiedCheckpoint(why=f"not safe: {error}" if error.possible else SAME_MACHINE)
    return _written(store, run, manifest, evidence, pace)


def write(store: Store, run: RunPaths, manifest: Manifest, evidence: str, now: Instant) -> None:
    """Record that this checkpoint is confirmed. Raises StoreError."""
    id_ = manifest.id
    name = f"verified-{id_.generation}-{id_.step}-{id_.writer}-{id_.seq}-{os.urandom(4).hex()}.json"
    said = {"schema": 1, "by": process_identity.mine(), "bytes": manifest.bytes, "evidence": evidence, "at": now.wall_s}
    store.create(f"{run.name}/{name}", json.dumps(said).encode())


def delete(store: Store, run: RunPaths, gone: Collection[CheckpointId]) -> None:
    """Delete the records of deleted checkpoints."""
    for id_, path in _paths(store, run) if gone else ():
        if id_ in gone:
            store.delete(path)


def on_another_machine(store: Store, run: RunPaths, writer: SessionId) -> bool:
    """Return whether this is certainly another machine than that session's.

    The same machine could read its drive client's cache, which may never be uploaded.
    """
    machine: Mapping[str, Any] = read_claim(store, run, writer).get("machine") or {}
    return bool(machine.get("boot")) and not process_identity.maybe_here(machine, process_identity.mine())


def confirm_by_client(store: Store, run: RunPaths, manifest: Manifest, pause: Callable[[float], object]) -> str:
    """Return the evidence of the store's client for an uploaded checkpoint, polled as often as a session requires.

    Raises NotConfirmed if the client does not confirm it now.
    """
    every_s = store.traits.confirm_every_s
    proof = DurabilityCheck(run, manifest, confirmations_needed(store))
    for _ in range(CONFIRMATIONS_ON_A_DRIVE if every_s else 0):
        try:
            return proof.poll(store)
        except NotConfirmed as error:
            if not error.possible:
                raise
            pause(every_s)
    return proof.poll(store)


def _written(
    store: Store, run: RunPaths, manifest: Manifest, evidence: str, pace: VerificationPace
) -> VerifiedCheckpoint:
    try:
        write(store, run, manifest, evidence, pace.clock.now())
    except StoreError as error:
        return VerifiedCheckpoint(evidence, f"no receipt of it could be written: {error}")
    return VerifiedCheckpoint(evidence)


def _paths(store: Store, run: RunPaths) -> list[tuple[CheckpointId, str]]:
    matches = (NAME.fullmatch(entry.name) for entry in store.list(run.name))
    return [(CheckpointId(int(m[1]), int(m[2]), m[3], int(m[4])), f"{run.name}/{m[0]}") for m in matches if m]
