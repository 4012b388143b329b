"""Checkpoint administration for the command line: list, verify, export, prune."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core.checkpoint import manifest as cp
from supervisor.core.checkpoint.session_id import SessionId
from supervisor.core.frozen import dataclass
from supervisor.core.policy import dedup, retention, rollback
from supervisor.engine.resume import fetch as checkpoint_fetch
from supervisor.engine.resume import staging as staged_checkpoints
from supervisor.engine.run_catalog import verification_records
from supervisor.engine.run_catalog.checkpoint_history import CheckpointHistory, in_flight, read_journals
from supervisor.engine.run_catalog.claims import ranks
from supervisor.engine.unmodified import restore as file_restore
from supervisor.engine.upload import prune as pruning
from supervisor.engine.upload import step_log as step_log_store

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from supervisor.core.ports import Store
    from supervisor.engine.paths import RunPaths

STEPS_FILE = "steps.jsonl"
FILES_FOLDER = "files"  # files of an unmodified script, as they were in its folder
WITHDRAWN = "withdrawn: it is from after a trouble"


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    """One checkpoint. Unknown fields are None.

    ``state`` is STAGED, SUBMITTED or DURABLE. ``evidence`` names the confirmation, ``proved_wall_s`` its time.
    ``bytes`` counts all files, ``sent_bytes`` only those that older checkpoints do not share. ``made_wall_s`` is the
    time of the upload. ``kept`` is the reason to keep it, "" if the next pruning deletes it.
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


def rows(
    store: Store, run: RunPaths, local_run: Path, newest: int, watched: Collection[str] = ()
) -> list[CheckpointRow]:
    """Return all checkpoints, oldest first. ``local_run`` is the run's folder on this machine."""
    seen = checkpoint_fetch.list_run(store, run)
    found = [checkpoint_fetch.read_manifest(store, each) for each in seen.found]
    here = {each.id for each in staged_checkpoints.staged_on_this_machine(local_run)}
    told = read_journals(store, run, here | {each.id for each in found})
    pins = pruning.pinned(store, run)
    gone = {each.id for each in found if rollback.is_rolled_back(each.id, seen.rollbacks)}
    kept = [
        retention.RetentionItem(each.id, bool(told[each.id].evidence) and each.id not in gone, each.manifest is None)
        for each in found
    ]
    kept = pruning.with_quality(kept, _manifest_of(found), seen, watched)
    reasons = retention.plan(kept, retention.RetentionPolicy(newest, pins)).keep | dict.fromkeys(gone, WITHDRAWN)
    listed = {}
    for each in found:
        known = told[each.id]
        listed[each.id] = CheckpointRow(
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
    # a durable one without a manifest was pruned: its local files are not deleted yet
    unnamed = {id_: told[id_] for id_ in here - listed.keys() if not told[id_].evidence}
    way = in_flight(store, run)
    if way is not None and way[0] not in listed:
        # a session that resumed from another's staged checkpoint uploads it as its own
        unnamed = {id_: each for id_, each in unnamed.items() if id_.step != way[0].step} | dict([way])
    listed |= {id_: _staged_row(id_, each) for id_, each in unnamed.items()}
    return [listed[id_] for id_ in sorted(listed)]


def _staged_row(id_: cp.CheckpointId, told: CheckpointHistory) -> CheckpointRow:
    """Return the row of a checkpoint without a manifest. It is on its machine's disk, and maybe partly in the store."""
    if told.made_wall_s is None:
        return CheckpointRow(id_, "STAGED", made_wall_s=told.staged_wall_s, kept="on this machine's disk only")
    kept = "on its way; its manifest comes when its files are safe"
    return CheckpointRow(id_, "SUBMITTED", made_wall_s=told.made_wall_s, kept=kept)


def ids(store: Store, run: RunPaths) -> set[cp.CheckpointId]:
    """Return the ids of the uploaded checkpoints."""
    return {each.id for each in checkpoint_fetch.find(store, run)}


def newest_of_step(store: Store, run: RunPaths, step: int) -> cp.Candidate | None:
    """Return the uploaded checkpoint of a step, from the newest session that has one."""
    return max((each for each in checkpoint_fetch.find(store, run) if each.id.step == step), key=_order, default=None)


def verify_all(store: Store, run: RunPaths, into: Path) -> Iterator[cp.Candidate]:
    """Yield every uploaded checkpoint with its verdict, newest first. Each is fetched and hashed."""
    for found in sorted(checkpoint_fetch.find(store, run), key=_order, reverse=True):
        with tempfile.TemporaryDirectory(dir=_made(into), prefix="verify-") as folder:
            yield checkpoint_fetch.fetch(store, run, found, Path(folder) / "checkpoint", link=True)[0]


def step_log(store: Store, run: RunPaths) -> step_log_store.Joined:
    """Return the joined step log and its gaps. Each piece is verified against the manifests."""
    return step_log_store.read(store, run, checkpoint_fetch.manifests_of_log(store, run))


def export(
    store: Store,
    run: RunPaths,
    wanted: cp.Candidate,
    to: Path,
    missing: Callable[[step_log_store.Gap], object] = lambda _: None,
) -> cp.Candidate:
    """Export a checkpoint and the step log up to it to the folder ``to``, completely or not at all.

    Readable rows of a corrupt step log are exported, and ``missing`` receives the gaps. Files of an unmodified script
    go to the subfolder ``files``. The answer holds the verdict. Raises OSError for the local disk, also if ``to`` is
    not empty (ENOTEMPTY).
    """
    beside = to.with_name(f".{to.name}.part")
    try:
        found, _ = checkpoint_fetch.fetch(store, run, wanted, beside)
        if found.verdict is cp.Validity.WHOLE:
            if found.manifest and found.manifest.log:
                (beside / found.manifest.log.name).unlink(missing_ok=True)  # the joined log has these rows
            log = step_log(store, run)
            for gap in log.gaps:
                if gap.from_step < wanted.id.step:
                    missing(gap)
            steps = (row for row in log.rows if row["step"] < wanted.id.step)
            lines = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in steps)
            (beside / STEPS_FILE).write_text(lines, encoding="utf-8")
            if carried := file_restore.file_manifest_in(beside):
                file_restore.restore_files(
                    beside, replace(carried[0], root=FILES_FOLDER), beside / FILES_FOLDER, beside
                )
            beside.rename(to)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return found


def durable_of(store: Store, run: RunPaths, known: Sequence[cp.Candidate]) -> set[cp.CheckpointId]:
    """Return which of these verified checkpoints are durable. On a drive the bytes may come from the cache alone."""
    whole = {each.id for each in known if each.verdict is cp.Validity.WHOLE}
    if not store.traits.mounted:
        return whole
    return {id_ for id_, told in read_journals(store, run, whole).items() if told.evidence}


def prunable(
    store: Store, run: RunPaths, known: Sequence[cp.Candidate], newest: int, watched: Collection[str] = ()
) -> tuple[Collection[cp.CheckpointId], int]:
    """Return the checkpoints that pruning would delete after this verification, and the bytes that would be freed."""
    pins = pruning.pinned(store, run)
    safe = durable_of(store, run, known)
    broken = {each.id for each in known if each.verdict is cp.Validity.BROKEN}
    seen = checkpoint_fetch.list_run(store, run)
    safe = {id_ for id_ in safe if not rollback.is_rolled_back(id_, seen.rollbacks)}
    stored = [retention.RetentionItem(each.id, durable=each.id in safe, broken=each.id in broken) for each in known]
    stored = pruning.with_quality(stored, _manifest_of(known), seen, watched)
    remove = retention.plan(stored, retention.RetentionPolicy(newest, pins)).remove
    going = [each.manifest for each in known if each.manifest and each.id in remove]
    staying = [each.manifest for each in known if each.manifest and each.id not in remove]
    return remove, dedup.exclusive_bytes(going, staying)


def prune(
    store: Store, run: RunPaths, known: Sequence[cp.Candidate], newest: int, watched: Collection[str] = ()
) -> tuple[int, int]:
    """Delete by policy after a verification; return (number, freed bytes).

    Only without a live session: it acts as the session that would come next.
    """
    last = ranks(store, run)[-1]
    knowledge = pruning.DurabilityIndex(
        durable=durable_of(store, run, known),
        broken={each.id for each in known if each.verdict is cp.Validity.BROKEN},
        manifests={each.path: each.manifest for each in known if each.manifest},
    )
    policy = retention.RetentionPolicy(newest, watched=watched)
    removed, freed = pruning.prune(store, run, policy, knowledge, SessionId(last.generation + 1, ""))
    verification_records.delete(store, run, removed)
    return len(removed), freed


def _manifest_of(found: Sequence[cp.Candidate]) -> Callable[[cp.CheckpointId], cp.Manifest | None]:
    return {each.id: each.manifest for each in found}.get


def _order(found: cp.Candidate) -> tuple[cp.CheckpointId, str]:
    return found.id, found.path


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
