"""All checkpoints of a run as people look after them: list, verify, export, plan what may go."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core import checkpoint as cp
from supervisor.core import retention, rollback, sharing
from supervisor.core.claim import Rank
from supervisor.core.values import dataclass
from supervisor.engine import checkpoints, receipts, retaining, staged, steplog
from supervisor.engine.claims import ranks
from supervisor.engine.files import putting_back
from supervisor.engine.telling import Told, on_its_way, told_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from supervisor.core.ports import Store
    from supervisor.engine.place import RunPlace

STEPS_FILE = "steps.jsonl"
FILES_FOLDER = "files"  # what a script that nobody changed had written, as it lay in its folder
WITHDRAWN = "withdrawn: it is from after a trouble"


@dataclass(frozen=True, slots=True)
class Row:
    """One checkpoint; what is not known of it is None.

    ``state``: STAGED, SUBMITTED or DURABLE; ``evidence`` names what proves the last, since ``proved_wall_s``; ``bytes`` of
    all its files, of which ``sent_bytes`` are not shared with older ones; ``made_wall_s``: when they were in the store;
    ``kept`` says why it stays ("" for one that the next retention removes).
    """

    id: cp.CheckpointId
    state: str
    evidence: str | None = None
    bytes: int | None = None
    sent_bytes: int | None = None
    made_wall_s: float | None = None
    proved_wall_s: float | None = None
    pinned: bool = False
    kept: str = ""
    why: str = ""


def rows(store: Store, run: RunPlace, local_run: Path, newest: int, watched: Collection[str] = ()) -> list[Row]:
    """Return all checkpoints, oldest first. ``local_run``: where this machine would keep staged ones of this run."""
    seen = checkpoints.look_over(store, run)
    found = [checkpoints.read_manifest(store, each) for each in seen.found]
    here = {each.id for each in staged.staged_on_this_machine(local_run)}
    told = told_of(store, run, here | {each.id for each in found})
    pins = retaining.pinned(store, run)
    gone = {each.id for each in found if rollback.withdrawn(each.id, seen.rollbacks)}
    kept = [
        retention.Kept(each.id, bool(told[each.id].evidence) and each.id not in gone, each.manifest is None)
        for each in found
    ]
    kept = retaining.judged(kept, _manifest_of(found), seen, watched)
    reasons = retention.plan(kept, retention.Policy(newest, pins)).keep | dict.fromkeys(gone, WITHDRAWN)
    listed = {}
    for each in found:
        known = told[each.id]
        listed[each.id] = Row(
            id=each.id,
            state="DURABLE" if known.evidence else "SUBMITTED",
            evidence=known.evidence or None,
            bytes=each.manifest.bytes if each.manifest else None,
            sent_bytes=each.manifest.sent_bytes if each.manifest else None,
            made_wall_s=known.proved_wall_s if known.made_wall_s is None else known.made_wall_s,
            proved_wall_s=known.proved_wall_s,
            pinned=each.id in pins,
            kept=reasons.get(each.id, ""),
            why=each.why,
        )
    # one that was proved and has no manifest any more was removed: its files here are only not swept yet
    unnamed = {id_: told[id_] for id_ in here - listed.keys() if not told[id_].evidence}
    way = on_its_way(store, run)
    if way is not None and way[0] not in listed:
        # a session that went on from another's staged checkpoint sends it as its own
        unnamed = {id_: each for id_, each in unnamed.items() if id_.step != way[0].step} | dict([way])
    listed |= {id_: _staged_row(id_, each) for id_, each in unnamed.items()}
    return [listed[id_] for id_ in sorted(listed)]


def _staged_row(id_: cp.CheckpointId, told: Told) -> Row:
    """Return what no manifest in the store names: it is on its machine's disk, and its files may be in the store already."""
    if told.made_wall_s is None:
        return Row(id_, "STAGED", made_wall_s=told.staged_wall_s, kept="on this machine's disk only")
    kept = "on its way; its manifest comes when its files are safe"
    return Row(id_, "SUBMITTED", made_wall_s=told.made_wall_s, kept=kept)


def ids(store: Store, run: RunPlace) -> set[cp.CheckpointId]:
    """Return which checkpoints are published."""
    return {each.id for each in checkpoints.find(store, run)}


def newest_of_step(store: Store, run: RunPlace, step: int) -> cp.Found | None:
    """Return the published checkpoint of a step, of the newest session that has one."""
    return max((each for each in checkpoints.find(store, run) if each.id.step == step), key=_order, default=None)


def judged(store: Store, run: RunPlace, into: Path) -> Iterator[cp.Found]:
    """Yield every published checkpoint with its verdict, newest first, each read and hashed anew on the local disk."""
    for found in sorted(checkpoints.find(store, run), key=_order, reverse=True):
        with tempfile.TemporaryDirectory(dir=_made(into), prefix="verify-") as folder:
            yield checkpoints.bring(store, run, found, Path(folder) / "checkpoint", link=True)[0]


def step_log(store: Store, run: RunPlace) -> steplog.Joined:
    """Return the joined step log with what is missing of it, each piece held to what the manifests tell of it."""
    return steplog.read(store, run, checkpoints.naming_the_log(store, run))


def export(
    store: Store, run: RunPlace, wanted: cp.Found, to: Path, missing: Callable[[steplog.Gap], object] = lambda _: None
) -> cp.Found:
    """Bring a checkpoint to the folder ``to``, with the step log up to it; whole under this name, or not at all.

    Of a damaged step log the rows that can be read come along, and ``missing`` is told of the others.

    What a script that nobody changed had written lies in its folder ``files``. The verdict says how it went. OSError is the local disk's; a ``to`` that holds anything is one (ENOTEMPTY).
    """
    beside = to.with_name(f".{to.name}.part")
    try:
        found, _ = checkpoints.bring(store, run, wanted, beside)
        if found.verdict is cp.Verdict.WHOLE:
            if found.manifest and found.manifest.log:
                (beside / found.manifest.log.name).unlink(missing_ok=True)  # the joined log has its rows
            log = step_log(store, run)
            for gap in log.gaps:
                if gap.from_step < wanted.id.step:
                    missing(gap)
            steps = (row for row in log.rows if row["step"] < wanted.id.step)
            lines = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in steps)
            (beside / STEPS_FILE).write_text(lines, encoding="utf-8")
            if carried := putting_back.carried_in(beside):
                putting_back.put_back(beside, replace(carried[0], root=FILES_FOLDER), beside / FILES_FOLDER, beside)
            beside.rename(to)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return found


def proved(store: Store, run: RunPlace, known: Sequence[cp.Found]) -> set[cp.CheckpointId]:
    """Return which of these, just verified, are safe. On a drive that they are whole is not enough: it may be its cache."""
    whole = {each.id for each in known if each.verdict is cp.Verdict.WHOLE}
    if not store.traits.mounted:
        return whole
    return {id_ for id_, told in told_of(store, run, whole).items() if told.evidence}


def would_go(
    store: Store, run: RunPlace, known: Sequence[cp.Found], newest: int, watched: Collection[str] = ()
) -> tuple[Collection[cp.CheckpointId], int]:
    """Return what retention removes when this much has been verified, and how many bytes that frees."""
    pins = retaining.pinned(store, run)
    safe = proved(store, run, known)
    broken = {each.id for each in known if each.verdict is cp.Verdict.BROKEN}
    seen = checkpoints.look_over(store, run)
    safe = {id_ for id_ in safe if not rollback.withdrawn(id_, seen.rollbacks)}
    stored = [retention.Kept(each.id, durable=each.id in safe, broken=each.id in broken) for each in known]
    stored = retaining.judged(stored, _manifest_of(known), seen, watched)
    remove = retention.plan(stored, retention.Policy(newest, pins)).remove
    going = [each.manifest for each in known if each.manifest and each.id in remove]
    staying = [each.manifest for each in known if each.manifest and each.id not in remove]
    return remove, sharing.only_theirs(going, staying)


def prune(
    store: Store, run: RunPlace, known: Sequence[cp.Found], newest: int, watched: Collection[str] = ()
) -> tuple[int, int]:
    """Remove by policy what verification showed to be behind enough proved ones; return (how many, freed bytes).

    Only while no session lives: it stands in for the session that would come next.
    """
    last = ranks(store, run)[-1]
    knowledge = retaining.Knowledge(
        durable=proved(store, run, known),
        broken={each.id for each in known if each.verdict is cp.Verdict.BROKEN},
        manifests={each.path: each.manifest for each in known if each.manifest},
    )
    policy = retention.Policy(newest, watched=watched)
    removed, freed = retaining.retain(store, run, policy, knowledge, Rank(last.epoch + 1, ""))
    receipts.forget(store, run, removed)
    return len(removed), freed


def _manifest_of(found: Sequence[cp.Found]) -> Callable[[cp.CheckpointId], cp.Manifest | None]:
    return {each.id: each.manifest for each in found}.get


def _order(found: cp.Found) -> tuple[cp.CheckpointId, str]:
    return found.id, found.path


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
