"""The life of a checkpoint in the store: find, prove, bring, and where the run goes on. I1, I3 and I5-I7 are kept here."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core import checkpoint as cp
from supervisor.core import fields, log_pieces, nonfinite, rollback
from supervisor.core.carried import FILES_FILE
from supervisor.core.carried import parse as parse_files
from supervisor.core.claim import believed, in_order, rank_of
from supervisor.core.content import ContentError, NewerContent
from supervisor.core.digest import algorithm_of
from supervisor.core.ports import Measured, Missing, Store, StoreError
from supervisor.core.values import dataclass
from supervisor.engine import journal
from supervisor.engine import staged as local

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from supervisor.core.claim import Rank
    from supervisor.engine.place import RunPlace

LOCAL = "local:"
ALL_WITHDRAWN = "every checkpoint that is left is from after the trouble, and withdrawn"
ALL_WITHDRAWN_HINT = (
    "mend the cause, then start --resume never (or remove the last rollback-*.json to take one all the same)"
)


@dataclass(frozen=True, slots=True)
class Listed:
    """What the listings of a run show, by names alone: manifests, records, sessions that began at step 0 on purpose.

    ``telling``: the sessions with a journal, oldest first; ``bare``: folders of sessions that hold nothing of all this but that.
    """

    found: list[cp.Found] = field(default_factory=list)
    rollbacks: list[rollback.Rollback] = field(default_factory=list)
    nonfinite: list[nonfinite.Nonfinite] = field(default_factory=list)
    anew: set[int] = field(default_factory=set)
    telling: list[Rank] = field(default_factory=list)
    bare: set[str] = field(default_factory=set)

    @property
    def began(self) -> int:
        """The epoch of the last session that began at step 0 on purpose, 0 for none: what is older is another training."""
        return max(self.anew, default=0)

    def holding(self, epoch: int | None) -> tuple[rollback.Rollback, ...]:
        """Return the rollbacks that hold for who goes on from a checkpoint of this session, None: from step 0."""
        return rollback.applying(set(self.rollbacks), self.anew, epoch)  # a drive may show a record twice


@dataclass(frozen=True, slots=True)
class Brought:
    """Where the run goes on, the local folder of that checkpoint, and what of this machine had to be passed over.

    ``rolled``: the rollbacks that hold for who goes on there.
    """

    answer: cp.ResumeFrom | cp.StartAfresh | cp.AskUser
    folder: Path
    passed_over: tuple[cp.Found, ...] = ()
    rolled: tuple[rollback.Rollback, ...] = ()
    listed: Listed = field(default_factory=Listed)


def look_over(store: Store, run: RunPlace, bare: Collection[str] = ()) -> Listed:
    """List all there is of a run, but for the folders that are known to be ``bare``."""
    listed, sessions = Listed(bare={*bare}), store.list(run.name)
    known = believed(session.name for session in sessions)
    for session in sessions:
        rank = rank_of(session.name)
        if rank not in known or rank is None or session.name in listed.bare:
            continue
        if not _look_into(store, f"{run.name}/{session.name}", rank, listed):
            listed.bare.add(session.name)
    listed.telling[:] = in_order(set(listed.telling))
    return listed


def _look_into(store: Store, session: str, rank: Rank, listed: Listed) -> bool:
    """Add what one session's folder shows; say whether anything more than a journal is in it."""
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
            listed.anew.add(rank.epoch)
        else:
            if journal.PIECE.fullmatch(name):
                listed.telling.append(rank)
            continue
        shows = True
    return shows


def find(store: Store, run: RunPlace) -> list[cp.Found]:
    """Return every manifest that the listings show, also of what is withdrawn."""
    return look_over(store, run).found


def find_in(store: Store, run: RunPlace, rank: Rank, step: int) -> list[cp.Found]:
    """Return every manifest of one step of one session."""
    return list(_manifests(store, run.step(rank, step), rank, step))


def standing(store: Store, run: RunPlace) -> list[cp.Found]:
    """Return every manifest that the listings show of what nobody withdrew."""
    listed = look_over(store, run)
    return [each for each in listed.found if not rollback.withdrawn(each.id, listed.rollbacks)]


def pieces_before(store: Store, run: RunPlace, id_: cp.CheckpointId) -> Mapping[str, str]:
    """Return what the newest readable manifest before a checkpoint tells of the pieces of the step log."""
    before = (each for each in find(store, run) if each.id < id_)
    for found in sorted(before, key=lambda each: (each.id, each.path), reverse=True):
        if (manifest := read_manifest(store, found).manifest) is not None:
            return log_pieces.with_log(manifest.pieces, manifest.log)
    return {}


def naming_the_log(store: Store, run: RunPlace) -> list[cp.Manifest]:
    """Return the manifests that tell of the pieces of the step log, newest first.

    One that carries all before it is enough. Older versions wrote none that does: then each tells of its own piece.
    """
    named: list[cp.Manifest] = []
    for found in sorted(standing(store, run), key=lambda each: (each.id, each.path), reverse=True):
        manifest = read_manifest(store, found).manifest
        if manifest is not None:
            named.append(manifest)
            if log_pieces.complete(manifest.pieces):
                break
    return named


def read_manifest(store: Store, found: cp.Found) -> cp.Found:
    """Read one manifest; the answer bears it, or a verdict that says why not."""
    try:
        body = store.read(found.path)
        manifest = cp.parse_manifest(found.path.rpartition("/")[2], body)
    except Missing:
        return replace(found, verdict=cp.Verdict.BROKEN, why="its manifest is gone")
    except StoreError as error:
        return replace(found, verdict=cp.Verdict.UNREADABLE, why=str(error))
    except cp.ManifestError as error:
        damaged = error.verdict is cp.Verdict.BROKEN
        return replace(found, verdict=error.verdict, why=f"its manifest is damaged: {error}" if damaged else str(error))
    if manifest.id != found.id:
        return replace(found, verdict=cp.Verdict.BROKEN, why="its manifest is of another checkpoint")
    return replace(found, manifest=manifest)


def bring(store: Store, run: RunPlace, found: cp.Found, into: Path, *, link: bool = False) -> tuple[cp.Found, Path]:
    """Copy a checkpoint to the local folder ``into``, proving every byte on the way; the verdict says how it went.

    With ``link`` nobody may write into the files that it brings: they may be the store's own (``Store.pull``).
    """
    if found.path.startswith(LOCAL):
        return _prove_local(found)
    found = read_manifest(store, found)
    if found.manifest is None:
        return found, into
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    try:
        said = (_bring_file(store, run, found, entry, into, link=link) for entry in found.manifest.all_files())
        why = next(filter(None, said), "")
    except StoreError as error:
        if error.kind == "local":
            raise  # it is this machine that has no room; the checkpoint may be as good as ever
        return replace(found, verdict=cp.Verdict.UNREADABLE, why=str(error)), into
    if why:
        return replace(found, verdict=cp.Verdict.BROKEN, why=why), into
    return _readable(found, into), into


def bring_local(each: local.Staged) -> tuple[cp.Found, Path]:
    """Prove a staged checkpoint of this machine; the verdict says how it went."""
    return _prove_local(cp.Found(each.id, f"{LOCAL}{each.folder}"))


def newest_whole(store: Store, run: RunPlace, staged: Iterable[local.Staged], into: Path, *, epoch: int = 0) -> Brought:
    """Bring the newest whole checkpoint of the store or of this machine to the local disk, walking back as needed.

    Checkpoints of sessions below ``epoch`` are left out of account, and those from before the run last began at step 0 on purpose.
    """
    listed = look_over(store, run)
    afresh, epoch = epoch > 0, max(epoch, listed.began)
    published = [each for each in listed.found if each.id.epoch >= epoch]
    here = {each.id: cp.Found(each.id, f"{LOCAL}{each.folder}") for each in staged if each.id.epoch >= epoch}
    gone = {id_ for id_ in here.keys() | {each.id for each in published} if rollback.withdrawn(id_, listed.rollbacks)}
    here = {id_: each for id_, each in here.items() if id_ not in gone}
    # of one checkpoint the store's copy is asked first, because what is there need not be uploaded again
    only_here = [here.pop(id_) for id_ in here.keys() - {each.id for each in published}]
    everything = {(each.id, each.path): each for each in (*published, *only_here) if each.id not in gone}
    telling = [] if afresh else [rank for rank in listed.telling if rank.epoch >= epoch]
    signs = bool(published) or _work_is_told_of(store, run, telling)
    passed_over: list[cp.Found] = []
    while True:
        answer = cp.resume_point(everything.values(), signs_of_work=signs)
        if not isinstance(answer, cp.Examine):
            where = into
            if (
                isinstance(answer, cp.AskUser)
                and _all_cut_short(store, answer, everything.values())
                and not _work_is_told_of(store, run, telling)
            ):
                return Brought(cp.StartAfresh(), into, (*passed_over, *answer.skipped), listed.holding(None))
            if isinstance(answer, cp.ResumeFrom) and answer.found.path.startswith(LOCAL):
                where = Path(answer.found.path.removeprefix(LOCAL))
            if isinstance(answer, cp.AskUser) and gone and not everything:
                answer = cp.AskUser(ALL_WITHDRAWN, ALL_WITHDRAWN_HINT)
            rolled = listed.holding(answer.found.id.epoch if isinstance(answer, cp.ResumeFrom) else None)
            return Brought(answer, where, tuple(passed_over), rolled, listed)
        judged, _ = bring(store, run, answer.found, into, link=True)
        if judged.verdict is cp.Verdict.BROKEN and judged.path.startswith(LOCAL):
            passed_over.append(judged)
            del everything[judged.id, judged.path]  # never published, so no promise is broken by passing it over
            continue
        everything[judged.id, judged.path] = judged
        if judged.verdict in {cp.Verdict.BROKEN, cp.Verdict.PACKED} and judged.id in here:
            second = here.pop(judged.id)
            everything[second.id, second.path] = second


def skipped(found: cp.Found) -> str:
    """Say that one was not whole."""
    return f"the checkpoint of {found.id} was passed over: {found.why}"


def _manifests(store: Store, folder: str, rank: Rank, step: int) -> Iterator[cp.Found]:
    for file in store.list(folder):
        if name := cp.MANIFEST_NAME.fullmatch(file.name):
            yield cp.Found(cp.CheckpointId(rank.epoch, step, rank.writer, int(name[1])), f"{folder}/{file.name}")


def _bring_file(store: Store, run: RunPlace, found: cp.Found, entry: cp.FileEntry, into: Path, *, link: bool) -> str:
    """Copy one file in; return "" or what is wrong with it. A store that shows one name twice is asked for each."""
    why = f"{entry.name} is missing"
    target = fields.into(into, entry.name)
    for path in _places(store, run, found, entry):
        try:
            got = store.pull(path, str(target), algorithm_of(entry.digest), link=link)
        except Missing:
            continue
        if got == Measured(entry.bytes, entry.digest):
            return ""
        why = f"{entry.name} is damaged"
    return why


def _places(store: Store, run: RunPlace, found: cp.Found, entry: cp.FileEntry) -> Iterator[str]:
    """Yield where a file may lie: where its manifest says, then under the names that a drive gives to twins."""
    yield f"{run.name}/{entry.path}"
    folder, _, name = f"{run.name}/{entry.path}".rpartition("/")
    stem, dot, suffix = name.rpartition(".")
    twin = re.compile(rf"{re.escape(stem)}( \(\d+\))?{re.escape(dot + suffix)}")
    for place in dict.fromkeys((folder, *_twins_of_folder(store, run, entry), found.path.rpartition("/")[0])):
        for other in store.list(place):
            if twin.fullmatch(other.name) and f"{place}/{other.name}" != f"{run.name}/{entry.path}":
                yield f"{place}/{other.name}"


def _twins_of_folder(store: Store, run: RunPlace, entry: cp.FileEntry) -> Iterator[str]:
    """Yield the folders that a drive shows for the one a path names, which need not be that of its manifest."""
    session, *inner = entry.path.split("/")[:-1]
    for place in store.list(run.name):
        if rank_of(place.name) != rank_of(session):
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


def _readable(found: cp.Found, folder: Path) -> cp.Found:
    """Every byte is what was published; say whether this program can read it, the script's own files included."""
    try:
        if FILES_FILE in local.content(folder).files:
            parse_files((folder / FILES_FILE).read_bytes())
    except NewerContent as error:
        return replace(found, verdict=cp.Verdict.NEWER, why=str(error))
    except (ContentError, FileNotFoundError) as error:
        return replace(found, verdict=cp.Verdict.BROKEN, why=str(error))
    return replace(found, verdict=cp.Verdict.WHOLE)


def _all_cut_short(store: Store, answer: cp.AskUser, everything: Collection[cp.Found]) -> bool:
    """Say whether all there is are manifests that a crash inside ``create`` cut short, as it can where that is no one step.

    Of each the beginning is there or nothing; so it was never published, nor called safe.
    """
    if store.traits.evidence == "fsync" or not answer.skipped or len(answer.skipped) != len(everything):
        return False
    return all(each.manifest is None and _cut_short(store.read(each.path)) for each in answer.skipped)


def _cut_short(body: bytes) -> bool:
    try:
        json.loads(body)
    except json.JSONDecodeError as error:
        return body[:1] in {b"", b"{"} and not error.msg.startswith("Extra data")
    except UnicodeDecodeError as error:
        return error.end == len(body)
    return False


def _work_is_told_of(store: Store, run: RunPlace, telling: Sequence[Rank]) -> bool:
    """Say whether a journal of these sessions names a checkpoint that was safe once."""
    told = (journal.newest_status(store, run, rank) for rank in reversed(telling))
    return any(status is not None and status.durable is not None for status in told)


def _prove_local(found: cp.Found) -> tuple[cp.Found, Path]:
    folder = Path(found.path.removeprefix(LOCAL))
    try:
        local.prove(folder, found.id.step)
    except NewerContent as error:
        return replace(found, verdict=cp.Verdict.NEWER, why=str(error)), folder
    except (ContentError, OSError) as error:
        return replace(found, verdict=cp.Verdict.BROKEN, why=str(error)), folder
    return replace(found, verdict=cp.Verdict.WHOLE), folder
