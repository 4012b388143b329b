"""All checkpoints of a run as people look after them: list, verify, export, plan what may go."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core import checkpoint as cp
from supervisor.core import events as ev
from supervisor.core import retention, sharing
from supervisor.core.claim import Rank
from supervisor.core.values import dataclass
from supervisor.engine import checkpoints, journal, retaining, staged, steplog
from supervisor.engine.claims import local_folder, ranks, read_claim

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from supervisor.core.ports import Store
    from supervisor.engine.place import RunPlace

VERIFIED = "verified by a later machine"
STEPS_FILE = "steps.jsonl"


@dataclass(frozen=True, slots=True)
class Row:
    """One checkpoint; what is not known of it is None.

    ``state``: STAGED, SUBMITTED or DURABLE; ``evidence`` proves the last; ``bytes`` of all its files, of which
    ``sent_bytes`` are not shared with older ones; ``kept`` says why it stays ("" for one that the next retention removes).
    """

    id: cp.CheckpointId
    state: str
    evidence: str | None = None
    bytes: int | None = None
    sent_bytes: int | None = None
    made_wall_s: float | None = None
    pinned: bool = False
    kept: str = ""
    why: str = ""


def rows(store: Store, run: RunPlace, local_run: Path, newest: int) -> list[Row]:
    """Return all checkpoints, oldest first. ``local_run``: where this machine would keep staged ones of this run."""
    found = [checkpoints.read_manifest(store, each) for each in checkpoints.find(store, run)]
    proofs = _proofs(store, run, {each.id for each in found})
    pins = retaining.pinned(store, run)
    kept = [retention.Kept(each.id, durable=each.id in proofs, broken=each.manifest is None) for each in found]
    reasons = retention.plan(kept, retention.Policy(newest, pins)).keep
    listed = {}
    for each in found:
        at_s, evidence = proofs.get(each.id, (None, None))
        listed[each.id] = Row(
            id=each.id,
            state="SUBMITTED" if evidence is None else "DURABLE",
            evidence=evidence,
            bytes=each.manifest.bytes if each.manifest else None,
            sent_bytes=each.manifest.sent_bytes if each.manifest else None,
            made_wall_s=at_s,
            pinned=each.id in pins,
            kept=reasons.get(each.id, ""),
            why=each.why,
        )
    for here in staged.staged_on_this_machine(local_run):
        listed.setdefault(here.id, Row(here.id, "STAGED", kept="on this machine's disk only"))
    return [listed[id_] for id_ in sorted(listed)]


def newest_of_step(store: Store, run: RunPlace, step: int) -> cp.Found | None:
    """Return the published checkpoint of a step, of the newest session that has one."""
    return max((each for each in checkpoints.find(store, run) if each.id.step == step), key=_order, default=None)


def judged(store: Store, run: RunPlace, into: Path) -> Iterator[cp.Found]:
    """Yield every published checkpoint with its verdict, newest first, each read and hashed anew on the local disk."""
    for found in sorted(checkpoints.find(store, run), key=_order, reverse=True):
        with tempfile.TemporaryDirectory(dir=_made(into), prefix="verify-") as folder:
            yield checkpoints.bring(store, run, found, Path(folder) / "checkpoint", link=True)[0]


def export(store: Store, run: RunPlace, wanted: cp.Found, to: Path) -> cp.Found:
    """Bring a checkpoint to the folder ``to``, with the step log up to it; whole under this name, or not at all.

    The verdict says how it went. OSError is the local disk's; a ``to`` that holds anything is one (ENOTEMPTY).
    """
    beside = to.with_name(f".{to.name}.part")
    try:
        found, _ = checkpoints.bring(store, run, wanted, beside)
        if found.verdict is cp.Verdict.WHOLE:
            if found.manifest and found.manifest.log:
                (beside / found.manifest.log.name).unlink(missing_ok=True)  # the joined log has its rows
            steps = (row for row in steplog.joined(store, run) if row["step"] < wanted.id.step)
            lines = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in steps)
            (beside / STEPS_FILE).write_text(lines, encoding="utf-8")
            beside.rename(to)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return found


def would_go(
    store: Store, run: RunPlace, known: Sequence[cp.Found], newest: int
) -> tuple[Collection[cp.CheckpointId], int]:
    """Return what retention removes when this much has been verified, and how many bytes that frees."""
    pins = retaining.pinned(store, run)
    whole = {each.id for each in known if each.verdict is cp.Verdict.WHOLE}
    broken = {each.id for each in known if each.verdict is cp.Verdict.BROKEN}
    stored = [retention.Kept(each.id, durable=each.id in whole, broken=each.id in broken) for each in known]
    remove = retention.plan(stored, retention.Policy(newest, pins)).remove
    going = [each.manifest for each in known if each.manifest and each.id in remove]
    staying = [each.manifest for each in known if each.manifest and each.id not in remove]
    return remove, sharing.only_theirs(going, staying)


def prune(store: Store, run: RunPlace, known: Sequence[cp.Found], newest: int) -> tuple[int, int]:
    """Remove by policy what verification showed to be behind enough whole ones; return (how many, freed bytes).

    Only while no session lives: it stands in for the session that would come next.
    """
    last = ranks(store, run)[-1]
    knowledge = retaining.Knowledge(
        durable={each.id for each in known if each.verdict is cp.Verdict.WHOLE},
        broken={each.id for each in known if each.verdict is cp.Verdict.BROKEN},
        manifests={each.path: each.manifest for each in known if each.manifest},
    )
    removed, freed = retaining.retain(store, run, retention.Policy(newest), knowledge, Rank(last.epoch + 1, ""))
    return len(removed), freed


def _proofs(store: Store, run: RunPlace, wanted: set[cp.CheckpointId]) -> dict[cp.CheckpointId, tuple[float, str]]:
    """Return when and by what each was proved, as the journals tell: by its own session, or by one that resumed it."""
    proofs: dict[cp.CheckpointId, tuple[float, str]] = {}
    for rank in reversed(ranks(store, run)):
        mine = {id_ for id_ in wanted if Rank(id_.epoch, id_.writer) == rank}
        for record in _newest_first(store, run, rank):
            match record.value:
                case ev.Durable(id=id_, evidence=evidence):
                    proofs[id_] = (record.at.wall_s, evidence)
                case ev.CheckpointReady(id=id_, durable=True) if id_ is not None:
                    proofs.setdefault(id_, (record.at.wall_s, VERIFIED))
            if wanted <= proofs.keys():
                return proofs
            if mine and mine <= proofs.keys() and all(proofs[id_][1] != VERIFIED for id_ in mine):
                break  # older pieces of this session are about checkpoints that are gone
    return proofs


def _newest_first(store: Store, run: RunPlace, rank: Rank) -> Iterator[journal.Record]:
    local = local_folder(read_claim(store, run, rank))
    for line in reversed(_lines(local / "journal.jsonl") if local else []):
        yield from journal.parse_piece(line)[1]
    for name in reversed(journal.piece_names(store, run, rank)):
        yield from reversed(journal.parse_piece(store.read(f"{run.session(rank)}/{name}"))[1])


def _lines(file: Path) -> list[bytes]:
    try:
        return file.read_bytes().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return []


def _order(found: cp.Found) -> tuple[cp.CheckpointId, str]:
    return found.id, found.path


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
