"""When each checkpoint was put into the store, and when and by what it was proved: as receipts and journals tell."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from supervisor.core import events as ev
from supervisor.core import messages
from supervisor.core.checkpoint import CheckpointId
from supervisor.core.values import dataclass
from supervisor.engine import finished, journal, receipts
from supervisor.engine.claims import local_folder, ranks, read_claim, read_end
from supervisor.engine.staged import FOLDER

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from supervisor.core.claim import Rank
    from supervisor.core.ports import Store
    from supervisor.engine.place import RunPlace

FLUSHED, ENDED = "flush", "end"
ENDS_MAX = 8  # records of ends that are read: only of the newest sessions they can say more than the journals
KINDS = ("Durable", "Flushed", "Submitted", "Staged", "PublishFailed", "CheckpointReady")  # most of a journal are beats


@dataclass(frozen=True, slots=True)
class Told:
    """What is told of one checkpoint, times by the clock of the machine that tells. No ``evidence``: it is not DURABLE.

    ``staged_wall_s``: since when it lies whole on its machine's disk; ``made_wall_s``: since when its files are in the store.
    """

    staged_wall_s: float | None = None
    made_wall_s: float | None = None
    proved_wall_s: float | None = None
    evidence: str = ""


def told_of(store: Store, run: RunPlace, wanted: Collection[CheckpointId]) -> dict[CheckpointId, Told]:
    """Return what is told of each.

    Read from the newest piece of a journal back, and no farther than it takes: on a drive each piece is a download.
    """
    told = dict.fromkeys(wanted, Told())
    theirs: dict[Rank, set[CheckpointId]] = {}
    for id_ in told:
        theirs.setdefault(id_.rank, set()).add(id_)
    known = ranks(store, run)
    for rank in reversed(known):
        if rank in theirs:
            _read_own(store, run, rank, theirs[rank], told)
    unproved = sorted((id_ for id_ in told if not told[id_].evidence), reverse=True)
    for rank in known:
        while unproved and told[unproved[-1]].evidence:
            unproved.pop()  # the oldest one is last
        if unproved and unproved[-1].epoch < rank.epoch:
            _read_resumed(store, run, rank, told)
    left = {id_.rank for id_, each in told.items() if not each.evidence}
    for rank in sorted({*left, *known[-1:]}, reverse=True)[:ENDS_MAX] if left else ():
        _read_end(store, run, rank, told)
    for id_, receipt in receipts.read(store, run).items():
        if id_ in told:
            told[id_] = replace(told[id_], evidence=receipt.evidence, proved_wall_s=receipt.at_wall_s)
    return told


def was_proved(store: Store, run: RunPlace, id_: CheckpointId) -> bool:
    """Say whether a receipt or the journal of its own session proves a checkpoint: read at each start, so no farther."""
    if id_ in receipts.receipts(store, run):
        return True
    told = {id_: Told()}
    _read_own(store, run, id_.rank, {id_}, told)
    return bool(told[id_].evidence)


def on_its_way(store: Store, run: RunPlace) -> tuple[CheckpointId, Told] | None:
    """Return the checkpoint whose files the newest session has put into the store and not proved: it has no manifest yet."""
    rank = max(ranks(store, run), default=None)
    if rank is None:
        return None
    known = journal.newest_status(store, run, rank)
    here = _local_lines(store, run, rank)
    if not here and (known is None or known.submitted is None or known.submitted == known.durable):
        return None
    for record in _newest_first(store, run, rank):
        match record.value:
            case ev.Submitted(id=id_):
                return id_, Told(made_wall_s=record.at.wall_s)
            case ev.Durable() | ev.PublishFailed():
                return None
    return None


def _read_own(store: Store, run: RunPlace, rank: Rank, mine: set[CheckpointId], told: dict[CheckpointId, Told]) -> None:
    """See what a session says of its own checkpoints."""
    for record in _newest_first(store, run, rank):
        at_s = record.at.wall_s
        match record.value:
            case ev.Durable(id=id_, evidence=evidence) if id_ in mine and not told[id_].evidence:
                told[id_] = replace(told[id_], evidence=evidence, proved_wall_s=at_s)
            case ev.Flushed(id=id_, error="") if id_ is not None and id_ in mine and not told[id_].evidence:
                told[id_] = replace(told[id_], evidence=FLUSHED, proved_wall_s=at_s)
            case ev.Submitted(id=id_) if id_ in mine and told[id_].made_wall_s is None:
                told[id_] = replace(told[id_], made_wall_s=at_s)
            case ev.TrainerSaid(message=messages.Staged(folder=folder)):
                id_ = _staged(rank, folder)
                if id_ in mine:
                    told[id_] = replace(told[id_], staged_wall_s=at_s)
        if all(told[id_].staged_wall_s is not None or told[id_].made_wall_s is not None for id_ in mine):
            return  # nothing is sent before it is staged, and nothing proved before it is there


def _staged(rank: Rank, folder: str) -> CheckpointId | None:
    named = FOLDER.fullmatch(folder.rpartition("/")[2])
    return CheckpointId(rank.epoch, int(named[1]), rank.writer, int(named[2])) if named else None


def _read_resumed(store: Store, run: RunPlace, rank: Rank, told: dict[CheckpointId, Told]) -> None:
    """See which checkpoint a session went on from, near its beginning, and whether it was proved by then or later."""
    begun: CheckpointId | None = None
    for record in _oldest_first(store, run, rank):
        match record.value:
            case ev.CheckpointReady(id=id_, durable=durable):
                if id_ is None or id_ not in told or told[id_].evidence or id_.epoch >= rank.epoch:
                    return
                if durable:
                    here = _same_machine(store, run, id_.rank, rank)
                    evidence = store.traits.evidence if here else receipts.VERIFIED
                    told[id_] = replace(told[id_], evidence=evidence, proved_wall_s=record.at.wall_s)
                    return
                begun = id_
            case ev.Durable(id=id_, evidence=evidence) if id_ == begun:
                told[id_] = replace(told[id_], evidence=evidence, proved_wall_s=record.at.wall_s)
                return


def _read_end(store: Store, run: RunPlace, rank: Rank, told: dict[CheckpointId, Told]) -> None:
    """See which checkpoint the record of a session's end names as safe: it may say more than the journal before it."""
    end = read_end(store, run, rank)
    id_ = finished.named(end)
    if id_ in told and not told[id_].evidence:
        at_s = end.get("at")
        known_s = float(at_s) if isinstance(at_s, int | float) else None
        told[id_] = replace(told[id_], evidence=store.traits.evidence or ENDED, proved_wall_s=known_s)


def _same_machine(store: Store, run: RunPlace, one: Rank, other: Rank) -> bool:
    boots = [read_claim(store, run, rank).get("machine", {}).get("boot") for rank in (one, other)]
    return bool(boots[0]) and boots[0] == boots[1]


def _newest_first(store: Store, run: RunPlace, rank: Rank) -> Iterator[journal.Record]:
    for line in reversed(_local_lines(store, run, rank)):
        yield from journal.records_of(line, KINDS)
    for name in reversed(journal.piece_names(store, run, rank)):
        yield from reversed(journal.records_of(store.read(f"{run.session(rank)}/{name}"), KINDS))


def _oldest_first(store: Store, run: RunPlace, rank: Rank) -> Iterator[journal.Record]:
    for name in journal.piece_names(store, run, rank):
        yield from journal.records_of(store.read(f"{run.session(rank)}/{name}"), KINDS)
    for line in _local_lines(store, run, rank):
        yield from journal.records_of(line, KINDS)


def _local_lines(store: Store, run: RunPlace, rank: Rank) -> list[bytes]:
    folder: Path | None = local_folder(read_claim(store, run, rank))
    try:
        return [] if folder is None else (folder / "journal.jsonl").read_bytes().splitlines()
    except OSError:
        return []
