"""Times of each checkpoint, from verification records and journals: staged, uploaded, confirmed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from supervisor.core.checkpoint.manifest import CheckpointId
from supervisor.core.frozen import dataclass
from supervisor.core.session import events as ev
from supervisor.core.wire import messages
from supervisor.engine import journal
from supervisor.engine.resume.staging import FOLDER
from supervisor.engine.run_catalog import finished_run, verification_records
from supervisor.engine.run_catalog.claims import local_folder, ranks, read_claim, read_end

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from supervisor.core.checkpoint.session_id import SessionId
    from supervisor.core.ports import Store
    from supervisor.engine.paths import RunPaths

FLUSHED, ENDED = "flush", "end"
ENDS_MAX = 8  # number of end records that are read: only those of the newest sessions add to the journals
KINDS = (
    "Durable",
    "Flushed",
    "Submitted",
    "Staged",
    "PublishFailed",
    "CheckpointReady",
)  # most lines of a journal are heartbeats


@dataclass(frozen=True, slots=True)
class CheckpointHistory:
    """Times of one checkpoint by the clock of the machine that recorded them. Without ``evidence`` it is not durable.

    ``staged_wall_s``: complete on its machine's disk. ``made_wall_s``: files in the store.
    """

    staged_wall_s: float | None = None
    made_wall_s: float | None = None
    proved_wall_s: float | None = None
    evidence: str = ""


def read_journals(
    store: Store, run: RunPaths, wanted: Collection[CheckpointId]
) -> dict[CheckpointId, CheckpointHistory]:
    """Return the history of each checkpoint.

    Journals are read from the newest piece back, and no further than needed. On a drive each piece is a download.
    """
    told = dict.fromkeys(wanted, CheckpointHistory())
    theirs: dict[SessionId, set[CheckpointId]] = {}
    for id_ in told:
        theirs.setdefault(id_.session_id, set()).add(id_)
    known = ranks(store, run)
    for rank in reversed(known):
        if rank in theirs:
            _read_own(store, run, rank, theirs[rank], told)
    unproved = sorted((id_ for id_ in told if not told[id_].evidence), reverse=True)
    for rank in known:
        while unproved and told[unproved[-1]].evidence:
            unproved.pop()  # the oldest one is last
        if unproved and unproved[-1].generation < rank.generation:
            _read_resumed(store, run, rank, told)
    left = {id_.session_id for id_, each in told.items() if not each.evidence}
    for rank in sorted({*left, *known[-1:]}, reverse=True)[:ENDS_MAX] if left else ():
        _read_end(store, run, rank, told)
    for id_, receipt in verification_records.read(store, run).items():
        if id_ in told:
            told[id_] = replace(told[id_], evidence=receipt.evidence, proved_wall_s=receipt.at_wall_s)
    return told


def was_confirmed(store: Store, run: RunPaths, id_: CheckpointId) -> bool:
    """Return whether a verification record or its own session's journal confirms a checkpoint."""
    if id_ in verification_records.recorded(store, run):
        return True
    told = {id_: CheckpointHistory()}
    _read_own(store, run, id_.session_id, {id_}, told)
    return bool(told[id_].evidence)


def in_flight(store: Store, run: RunPaths) -> tuple[CheckpointId, CheckpointHistory] | None:
    """Return the checkpoint that the newest session uploaded without a confirmation. It has no manifest yet."""
    rank = max(ranks(store, run), default=None)
    if rank is None:
        return None
    known = journal.newest_status(store, run, rank)
    here = _local_lines(store, run, rank)
    if not here and (known is None or known.submitted is None or known.submitted == known.durable):
        return None
    for record in _newest_first(store, run, rank):
        match record.value:
            case ev.CheckpointWritten(id=id_):
                return id_, CheckpointHistory(made_wall_s=record.at.wall_s)
            case ev.CheckpointDurable() | ev.UploadFailed():
                return None
    return None


def _read_own(
    store: Store, run: RunPaths, rank: SessionId, mine: set[CheckpointId], told: dict[CheckpointId, CheckpointHistory]
) -> None:
    """Add what a session's journal states about its own checkpoints."""
    for record in _newest_first(store, run, rank):
        at_s = record.at.wall_s
        match record.value:
            case ev.CheckpointDurable(id=id_, evidence=evidence) if id_ in mine and not told[id_].evidence:
                told[id_] = replace(told[id_], evidence=evidence, proved_wall_s=at_s)
            case ev.DriveFlushed(id=id_, error="") if id_ is not None and id_ in mine and not told[id_].evidence:
                told[id_] = replace(told[id_], evidence=FLUSHED, proved_wall_s=at_s)
            case ev.CheckpointWritten(id=id_) if id_ in mine and told[id_].made_wall_s is None:
                told[id_] = replace(told[id_], made_wall_s=at_s)
            case ev.TrainerMessage(message=messages.CheckpointStaged(folder=folder)):
                id_ = _staged(rank, folder)
                if id_ in mine:
                    told[id_] = replace(told[id_], staged_wall_s=at_s)
        if all(told[id_].staged_wall_s is not None or told[id_].made_wall_s is not None for id_ in mine):
            return  # an upload follows its staging, and a confirmation its upload


def _staged(rank: SessionId, folder: str) -> CheckpointId | None:
    named = FOLDER.fullmatch(folder.rpartition("/")[2])
    return CheckpointId(rank.generation, int(named[1]), rank.writer, int(named[2])) if named else None


def _read_resumed(store: Store, run: RunPaths, rank: SessionId, told: dict[CheckpointId, CheckpointHistory]) -> None:
    """Add which checkpoint a session resumed from, and whether it was confirmed then or later."""
    begun: CheckpointId | None = None
    for record in _oldest_first(store, run, rank):
        match record.value:
            case ev.CheckpointReady(id=id_, durable=durable):
                if id_ is None or id_ not in told or told[id_].evidence or id_.generation >= rank.generation:
                    return
                if durable:
                    here = _same_machine(store, run, id_.session_id, rank)
                    evidence = store.traits.evidence if here else verification_records.VERIFIED
                    told[id_] = replace(told[id_], evidence=evidence, proved_wall_s=record.at.wall_s)
                    return
                begun = id_
            case ev.CheckpointDurable(id=id_, evidence=evidence) if id_ == begun:
                told[id_] = replace(told[id_], evidence=evidence, proved_wall_s=record.at.wall_s)
                return


def _read_end(store: Store, run: RunPaths, rank: SessionId, told: dict[CheckpointId, CheckpointHistory]) -> None:
    """Add the durable checkpoint from the record of a session's end. It may be newer than the journal."""
    end = read_end(store, run, rank)
    id_ = finished_run.named(end)
    if id_ in told and not told[id_].evidence:
        at_s = end.get("at")
        known_s = float(at_s) if isinstance(at_s, int | float) else None
        told[id_] = replace(told[id_], evidence=store.traits.evidence or ENDED, proved_wall_s=known_s)


def _same_machine(store: Store, run: RunPaths, one: SessionId, other: SessionId) -> bool:
    boots = [read_claim(store, run, rank).get("machine", {}).get("boot") for rank in (one, other)]
    return bool(boots[0]) and boots[0] == boots[1]


def _newest_first(store: Store, run: RunPaths, rank: SessionId) -> Iterator[journal.JournalRecord]:
    for line in reversed(_local_lines(store, run, rank)):
        yield from journal.records_of(line, KINDS)
    for name in reversed(journal.piece_names(store, run, rank)):
        yield from reversed(journal.records_of(store.read(f"{run.session(rank)}/{name}"), KINDS))


def _oldest_first(store: Store, run: RunPaths, rank: SessionId) -> Iterator[journal.JournalRecord]:
    for name in journal.piece_names(store, run, rank):
        yield from journal.records_of(store.read(f"{run.session(rank)}/{name}"), KINDS)
    for line in _local_lines(store, run, rank):
        yield from journal.records_of(line, KINDS)


def _local_lines(store: Store, run: RunPaths, rank: SessionId) -> list[bytes]:
    folder: Path | None = local_folder(read_claim(store, run, rank))
    try:
        return [] if folder is None else (folder / "journal.jsonl").read_bytes().splitlines()
    except OSError:
        return []
