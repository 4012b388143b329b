"""Fetches checkpoints: lists a run, verifies candidates, chooses where the run resumes. Keeps I1, I3, I5, I6, I7."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core.checkpoint import log_pieces
from supervisor.core.checkpoint import manifest as cp
from supervisor.core.checkpoint.checkpoint_json import CheckpointInfoError, NewerCheckpointInfo
from supervisor.core.checkpoint.file_manifest import FILES_FILE
from supervisor.core.checkpoint.file_manifest import parse as parse_files
from supervisor.core.checkpoint.session_id import in_order, parse_session_id, plausible
from supervisor.core.digest import algorithm_of
from supervisor.core.frozen import dataclass
from supervisor.core.policy import nonfinite, rollback
from supervisor.core.ports import FileDigest, NotFound, Store, StoreError
from supervisor.core.wire import fields
from supervisor.engine import journal
from supervisor.engine.resume import staging as local

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from supervisor.core.checkpoint.session_id import SessionId
    from supervisor.engine.paths import RunPaths

LOCAL = "local:"
ALL_WITHDRAWN = "every checkpoint that is left is from after the trouble, and withdrawn"
ALL_WITHDRAWN_HINT = (
    "mend the cause, then start --resume never (or remove the last rollback-*.json to take one all the same)"
)


@dataclass(frozen=True, slots=True)
class RunListing:
    """The content of a run by names alone: manifests, records, and sessions that started at step 0 on purpose.

    ``with_journal`` holds the sessions with a journal, oldest first. ``bare`` holds the folders of sessions with nothing but
    a journal.
    """

    found: list[cp.Candidate] = field(default_factory=list)
    rollbacks: list[rollback.Rollback] = field(default_factory=list)
    nonfinite: list[nonfinite.NonfiniteRecord] = field(default_factory=list)
    anew: set[int] = field(default_factory=set)
    with_journal: list[SessionId] = field(default_factory=list)
    bare: set[str] = field(default_factory=set)

    @property
    def fresh_generation(self) -> int:
        """Generation of the last session that started fresh, else 0. Older sessions are another training."""
        return max(self.anew, default=0)

    def active_rollbacks(self, epoch: int | None) -> tuple[rollback.Rollback, ...]:
        """Return the rollbacks that apply to a resume from a checkpoint of this session; None stands for step 0."""
        return rollback.active(set(self.rollbacks), self.anew, epoch)  # a drive may show a record twice


@dataclass(frozen=True, slots=True)
class FetchResult:
    """The resume choice, the local folder of the checkpoint, and the local candidates that were skipped.

    ``rolled`` holds the rollbacks that apply to this resume.
    """

    answer: cp.ResumeFrom | cp.StartFresh | cp.NeedsUser
    folder: Path
    skipped_local: tuple[cp.Candidate, ...] = ()
    rolled: tuple[rollback.Rollback, ...] = ()
    listed: RunListing = field(default_factory=RunListing)


def list_run(store: Store, run: RunPaths, bare: Collection[str] = ()) -> RunListing:
    """List a run, except the folders that are known to be ``bare``."""
    listed, sessions = RunListing(bare={*bare}), store.list(run.name)
    known = plausible(session.name for session in sessions)
    for session in sessions:
        rank = parse_session_id(session.name)
        if rank not in known or rank is None or session.name in listed.bare:
            continue
        if not _list_session(store, f"{run.name}/{session.name}", rank, listed):
            listed.bare.add(session.name)
    listed.with_journal[:] = in_order(set(listed.with_journal))
    return listed


def _list_session(store: Store, session: str, rank: SessionId, listed: RunListing) -> bool:
    """Add the content of one session's folder; return whether it holds more than a journal."""
    shows = False
    for entry in store.list(session):
        name, step = entry.name, cp.STEP_FOLDER.fullmatch(entry.name)
        if entry.folder and step:
            listed.found.extend(_manifests(store, f"{session}/{name}", rank, int(step[1])))
        elif went_back := rollback.parse(rank, name):
            listed.rollbacks.append(went_back)
        elif went_bad := nonfinite.parse(rank, name):
            listed.nonfinite.append(went_bad)
        elif rollback.ANEW.fullmatch(name):
            listed.anew.add(rank.generation)
        else:
            if journal.PIECE.fullmatch(name):
                listed.with_journal.append(rank)
            continue
        shows = True
    return shows


def find(store: Store, run: RunPaths) -> list[cp.Candidate]:
    """Return every manifest in the listings, including those of rolled-back checkpoints."""
    return list_run(store, run).found


def find_in(store: Store, run: RunPaths, rank: SessionId, step: int) -> list[cp.Candidate]:
    """Return every manifest of one step of one session."""
    return list(_manifests(store, run.step(rank, step), rank, step))


def active(store: Store, run: RunPaths) -> list[cp.Candidate]:
    """Return every manifest in the listings, except those of rolled-back checkpoints."""
    listed = list_run(store, run)
    return [each for each in listed.found if not rollback.is_rolled_back(each.id, listed.rollbacks)]


def pieces_before(store: Store, run: RunPaths, id_: cp.CheckpointId) -> Mapping[str, str]:
    """Return the names of the step log pieces from the newest readable manifest before a checkpoint."""
    before = (each for each in find(store, run) if each.id < id_)
    for found in sorted(before, key=lambda each: (each.id, each.path), reverse=True):
        if (manifest := read_manifest(store, found).manifest) is not None:
            return log_pieces.with_log(manifest.pieces, manifest.log)
    return {}


def manifests_of_log(store: Store, run: RunPaths) -> list[cp.Manifest]:
    """Return the manifests that name pieces of the step log, newest first.

    One manifest that names all earlier pieces is enough. Manifests of older versions name only their own piece.
    """
    named: list[cp.Manifest] = []
    for found in sorted(active(store, run), key=lambda each: (each.id, each.path), reverse=True):
        manifest = read_manifest(store, found).manifest
        if manifest is not None:
            named.append(manifest)
            if log_pieces.complete(manifest.pieces):
                break
    return named


def read_manifest(store: Store, found: cp.Candidate) -> cp.Candidate:
    """Read one manifest. The answer holds it, or a verdict with the reason."""
    try:
        body = store.read(found.path)
        manifest = cp.parse_manifest(found.path.rpartition("/")[2], body)
    except NotFound:
        return replace(found, verdict=cp.Validity.BROKEN, why="its manifest is gone")
    except StoreError as error:
        return replace(found, verdict=cp.Validity.UNREADABLE, why=str(error))
    except cp.ManifestError as error:
        damaged = error.verdict is cp.Validity.BROKEN
        return replace(found, verdict=error.verdict, why=f"its manifest is damaged: {error}" if damaged else str(error))
    if manifest.id != found.id:
        return replace(found, verdict=cp.Validity.BROKEN, why="its manifest is of another checkpoint")
    return replace(found, manifest=manifest)


def fetch(
    store: Store, run: RunPaths, found: cp.Candidate, into: Path, *, link: bool = False
) -> tuple[cp.Candidate, Path]:
    """Copy a checkpoint to the local folder ``into`` and verify every byte. The verdict is in the answer.

    With ``link`` nobody may modify the fetched files, because they may be the store's own (``Store.pull``).
    """
    if found.path.startswith(LOCAL):
        return _verify_local(found)
    found = read_manifest(store, found)
    if found.manifest is None:
        return found, into
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    try:
        said = (_fetch_file(store, run, found, entry, into, link=link) for entry in found.manifest.all_files())
        why = next(filter(None, said), "")
    except StoreError as error:
        if error.kind == "local":
            raise  # only the local disk is full: the checkpoint may be valid
        return replace(found, verdict=cp.Validity.UNREADABLE, why=str(error)), into
    if why:
        return replace(found, verdict=cp.Validity.BROKEN, why=why), into
    return _check_readable(found, into), into


def verify_staged(each: local.StagedCheckpoint) -> tuple[cp.Candidate, Path]:
    """Verify a staged checkpoint of this machine. The verdict is in the answer."""
    return _verify_local(cp.Candidate(each.id, f"{LOCAL}{each.folder}"))


def fetch_newest_valid(
    store: Store, run: RunPaths, staged: Iterable[local.StagedCheckpoint], into: Path, *, epoch: int = 0
) -> FetchResult:
    """Fetch the newest valid checkpoint of the store or of this machine, and fall back to older ones as needed.

    Checkpoints of sessions below ``epoch`` are ignored, and those from before the last start at step 0 on purpose.
    """
    listed = list_run(store, run)
    afresh, epoch = epoch > 0, max(epoch, listed.fresh_generation)
    published = [each for each in listed.found if each.id.generation >= epoch]
    here = {each.id: cp.Candidate(each.id, f"{LOCAL}{each.folder}") for each in staged if each.id.generation >= epoch}
    gone = {
        id_ for id_ in here.keys() | {each.id for each in published} if rollback.is_rolled_back(id_, listed.rollbacks)
    }
    here = {id_: each for id_, each in here.items() if id_ not in gone}
    # the store's copy of a checkpoint is tried first, because it need not be uploaded again
    only_here = [here.pop(id_) for id_ in here.keys() - {each.id for each in published}]
    everything = {(each.id, each.path): each for each in (*published, *only_here) if each.id not in gone}
    with_journal = [] if afresh else [rank for rank in listed.with_journal if rank.generation >= epoch]
    signs = bool(published) or _journals_show_work(store, run, with_journal)
    skipped_local: list[cp.Candidate] = []
    while True:
        answer = cp.resume_point(everything.values(), signs_of_work=signs)
        if not isinstance(answer, cp.Verify):
            where = into
            if (
                isinstance(answer, cp.NeedsUser)
                and _all_truncated(store, answer, everything.values())
                and not _journals_show_work(store, run, with_journal)
            ):
                return FetchResult(
                    cp.StartFresh(), into, (*skipped_local, *answer.skipped), listed.active_rollbacks(None)
                )
            if isinstance(answer, cp.ResumeFrom) and answer.found.path.startswith(LOCAL):
                where = Path(answer.found.path.removeprefix(LOCAL))
            if isinstance(answer, cp.NeedsUser) and gone and not everything:
                answer = cp.NeedsUser(ALL_WITHDRAWN, ALL_WITHDRAWN_HINT)
            rolled = listed.active_rollbacks(answer.found.id.generation if isinstance(answer, cp.ResumeFrom) else None)
            return FetchResult(answer, where, tuple(skipped_local), rolled, listed)
        checked, _ = fetch(store, run, answer.found, into, link=True)
        if checked.verdict is cp.Validity.BROKEN and checked.path.startswith(LOCAL):
            skipped_local.append(checked)
            del everything[checked.id, checked.path]  # it was never uploaded, so it may be skipped
            continue
        everything[checked.id, checked.path] = checked
        if checked.verdict in {cp.Validity.BROKEN, cp.Validity.PACKED} and checked.id in here:
            second = here.pop(checked.id)
            everything[second.id, second.path] = second


def describe_skipped(found: cp.Candidate) -> str:
    """Describe a skipped checkpoint."""
    return f"the checkpoint of {found.id} was passed over: {found.why}"


def _manifests(store: Store, folder: str, rank: SessionId, step: int) -> Iterator[cp.Candidate]:
    for file in store.list(folder):
        if name := cp.MANIFEST_NAME.fullmatch(file.name):
            yield cp.Candidate(
                cp.CheckpointId(rank.generation, step, rank.writer, int(name[1])), f"{folder}/{file.name}"
            )


def _fetch_file(
    store: Store, run: RunPaths, found: cp.Candidate, entry: cp.FileEntry, into: Path, *, link: bool
) -> str:
    """Copy one file; return "" or the defect. A drive may show one name twice, and each copy is tried."""
    why = f"{entry.name} is missing"
    target = fields.into(into, entry.name)
    for path in _locations(store, run, found, entry):
        try:
            got = store.pull(path, str(target), algorithm_of(entry.digest), link=link)
        except NotFound:
            continue
        if got == FileDigest(entry.bytes, entry.digest):
            return ""
        why = f"{entry.name} is damaged"
    return why


def _locations(store: Store, run: RunPaths, found: cp.Candidate, entry: cp.FileEntry) -> Iterator[str]:
    """Yield the possible paths of a file: the one in the manifest, then the names that a drive gives to duplicates."""
    yield f"{run.name}/{entry.path}"
    folder, _, name = f"{run.name}/{entry.path}".rpartition("/")
    stem, dot, suffix = name.rpartition(".")
    twin = re.compile(rf"{re.escape(stem)}( \(\d+\))?{re.escape(dot + suffix)}")
    for place in dict.fromkeys((folder, *_folder_twins(store, run, entry), found.path.rpartition("/")[0])):
        for other in store.list(place):
            if twin.fullmatch(other.name) and f"{place}/{other.name}" != f"{run.name}/{entry.path}":
                yield f"{place}/{other.name}"


def _folder_twins(store: Store, run: RunPaths, entry: cp.FileEntry) -> Iterator[str]:
    """Yield all folders that a drive shows for the folder in a path. They need not hold the manifest."""
    session, *inner = entry.path.split("/")[:-1]
    for place in store.list(run.name):
        if parse_session_id(place.name) != parse_session_id(session):
            continue
        inside = f"{run.name}/{place.name}"
        if not inner:
            yield inside
            continue
        wanted = cp.STEP_FOLDER.fullmatch(inner[0])
        for other in store.list(inside):
            step = cp.STEP_FOLDER.fullmatch(other.name)
            if step and wanted and step[1] == wanted[1]:
                yield f"{inside}/{other.name}"


def _check_readable(found: cp.Candidate, folder: Path) -> cp.Candidate:
    """Return the verdict on a fetched folder with correct bytes: this version may not be able to read it."""
    try:
        if FILES_FILE in local.content(folder).files:
            parse_files((folder / FILES_FILE).read_bytes())
    except NewerCheckpointInfo as error:
        return replace(found, verdict=cp.Validity.NEWER, why=str(error))
    except (CheckpointInfoError, FileNotFoundError) as error:
        return replace(found, verdict=cp.Validity.BROKEN, why=str(error))
    return replace(found, verdict=cp.Validity.WHOLE)


def _all_truncated(store: Store, answer: cp.NeedsUser, everything: Collection[cp.Candidate]) -> bool:
    """Return whether the run holds only manifests that a crash inside ``create`` truncated.

    Such a manifest never existed as a whole, so its checkpoint was never called safe. Stores with atomic creation have
    none.
    """
    if store.traits.evidence == "fsync" or not answer.skipped or len(answer.skipped) != len(everything):
        return False
    return all(each.manifest is None and _is_truncated(store.read(each.path)) for each in answer.skipped)


def _is_truncated(body: bytes) -> bool:
    """Return whether a manifest is empty or ends too early."""
    try:
        json.loads(body)
    except json.JSONDecodeError as error:
        return body[:1] in {b"", b"{"} and not error.msg.startswith("Extra data")
    except UnicodeDecodeError as error:
        return error.end == len(body)
    return False


def _journals_show_work(store: Store, run: RunPaths, with_journal: Sequence[SessionId]) -> bool:
    """Return whether a journal of these sessions names a durable checkpoint."""
    told = (journal.newest_status(store, run, rank) for rank in reversed(with_journal))
    return any(status is not None and status.durable is not None for status in told)


def _verify_local(found: cp.Candidate) -> tuple[cp.Candidate, Path]:
    """Verify the staged folder of a candidate."""
    folder = Path(found.path.removeprefix(LOCAL))
    try:
        local.verify(folder, found.id.step)
    except NewerCheckpointInfo as error:
        return replace(found, verdict=cp.Validity.NEWER, why=str(error)), folder
    except (CheckpointInfoError, OSError) as error:
        return replace(found, verdict=cp.Validity.BROKEN, why=str(error)), folder
    return replace(found, verdict=cp.Validity.WHOLE), folder
