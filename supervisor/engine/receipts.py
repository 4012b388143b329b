"""Receipts: small files beside the sessions that say which checkpoints were proved safe outside the session that wrote them.

Two proofs make one: a checkpoint was read back whole on another machine, so it has left the one that wrote it; or the
drive's client was asked about every file of it, as often as a session would have.
"""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any

from supervisor.core import fields, shapes
from supervisor.core.checkpoint import CHECKPOINT, CheckpointId
from supervisor.core.ports import Missing, StoreError, Unconfirmed
from supervisor.core.values import dataclass
from supervisor.engine import identity
from supervisor.engine.claims import read_claim
from supervisor.engine.proof import TIMES_LATER, Proof, times_needed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from supervisor.core.checkpoint import Manifest
    from supervisor.core.claim import Rank
    from supervisor.core.instant import Instant
    from supervisor.core.ports import Clock, Store
    from supervisor.engine.place import RunPlace

VERIFIED = "verified"
NAME = re.compile(rf"verified-{CHECKPOINT}-[0-9a-f]{{1,32}}{fields.TWIN}\.json")


SAME_MACHINE = "read on the machine that wrote it, so it proves nothing about the upload"


@dataclass(frozen=True, slots=True)
class Proved:
    """What a whole checkpoint rests on: its ``evidence``, or none; ``why`` there is none, or no receipt of it."""

    evidence: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Pace:
    """The clock, and how to wait some seconds."""

    clock: Clock
    pause: Callable[[float], object]


@dataclass(frozen=True, slots=True)
class Receipt:
    """``evidence``: what the proof was; ``at_wall_s``: when, by the clock of the machine that proved it, for words only."""

    evidence: str = VERIFIED
    at_wall_s: float | None = None


@dataclass(frozen=True, slots=True)
class _Written:
    """A receipt as it lies in the store."""

    evidence: shapes.Text = VERIFIED
    at: shapes.Finite | None = None


def receipts(store: Store, run: RunPlace) -> set[CheckpointId]:
    """Return the checkpoints that have one: all of them are DURABLE. The names say it, so a listing is enough."""
    return {id_ for id_, _ in _paths(store, run)}


def read(store: Store, run: RunPlace) -> dict[CheckpointId, Receipt]:
    """Return them with what they say. One that is damaged or late to arrive still proves what its name says."""
    found = {}
    for id_, path in _paths(store, run):
        try:
            told = shapes.read(_Written, store.read(path))
            found[id_] = Receipt(told.evidence, told.at)
        except (Missing, ValueError):
            found[id_] = Receipt()
    return found


def prove(store: Store, run: RunPlace, manifest: Manifest, known: str, pace: Pace) -> Proved:
    """Say what proves a checkpoint that was just read whole, and leave a receipt of what is new.

    ``known``: the evidence that is told of it already, or "". Raises StoreError where the store cannot be asked.
    """
    if elsewhere(store, run, manifest.id.rank):
        return Proved(VERIFIED) if known == VERIFIED else _written(store, run, manifest, VERIFIED, pace)
    if known:
        return Proved(known)
    try:
        evidence = ask(store, run, manifest, pace.pause)
    except Unconfirmed as error:
        return Proved(why=f"not safe: {error}" if error.possible else SAME_MACHINE)
    return _written(store, run, manifest, evidence, pace)


def write(store: Store, run: RunPlace, manifest: Manifest, evidence: str, now: Instant) -> None:
    """Say for good that this checkpoint was proved. Raises StoreError."""
    id_ = manifest.id
    name = f"verified-{id_.epoch}-{id_.step}-{id_.writer}-{id_.seq}-{os.urandom(4).hex()}.json"
    said = {"schema": 1, "by": identity.mine(), "bytes": manifest.bytes, "evidence": evidence, "at": now.wall_s}
    store.create(f"{run.name}/{name}", json.dumps(said).encode())


def forget(store: Store, run: RunPlace, gone: Collection[CheckpointId]) -> None:
    """Remove the receipts of checkpoints that were removed."""
    for id_, path in _paths(store, run) if gone else ():
        if id_ in gone:
            store.delete(path)


def elsewhere(store: Store, run: RunPlace, writer: Rank) -> bool:
    """Say whether this is certainly another machine than the one of that session.

    One that may be the same one would read what its drive client still has in its cache and never sent.
    """
    machine: Mapping[str, Any] = read_claim(store, run, writer).get("machine") or {}
    return bool(machine.get("boot")) and not identity.maybe_here(machine, identity.mine())


def ask(store: Store, run: RunPlace, manifest: Manifest, pause: Callable[[float], object]) -> str:
    """Return what the store's client says that proves a published checkpoint, asked as often as a session would.

    Raises Unconfirmed if it does not say so now.
    """
    every_s = store.traits.confirm_every_s
    proof = Proof(run, manifest, times_needed(store))
    for _ in range(TIMES_LATER if every_s else 0):
        try:
            return proof.ask(store, lambda: None)
        except Unconfirmed as error:
            if not error.possible:
                raise
            pause(every_s)
    return proof.ask(store, lambda: None)


def _written(store: Store, run: RunPlace, manifest: Manifest, evidence: str, pace: Pace) -> Proved:
    try:
        write(store, run, manifest, evidence, pace.clock.now())
    except StoreError as error:
        return Proved(evidence, f"no receipt of it could be written: {error}")
    return Proved(evidence)


def _paths(store: Store, run: RunPlace) -> list[tuple[CheckpointId, str]]:
    matches = (NAME.fullmatch(entry.name) for entry in store.list(run.name))
    return [(CheckpointId(int(m[1]), int(m[2]), m[3], int(m[4])), f"{run.name}/{m[0]}") for m in matches if m]
