"""Takes a snapshot of a script's files: a staged folder like any other, whole under its name or not there at all.

Files are copied, never linked, because the script may write into them in place; each is looked at again after its copy.
What has not changed is a link to the copy in the snapshot before.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import field
from typing import TYPE_CHECKING, Any

from supervisor.core.checkpoint import file_manifest as form
from supervisor.core.checkpoint.checkpoint_json import CONTENT_FILE, sealed
from supervisor.core.checkpoint.file_manifest import FILE, FILES_FILE, FOLDER, LINK, FileManifest, FileRow
from supervisor.core.digest import algorithm_of
from supervisor.core.frozen import dataclass
from supervisor.core.unmodified import file_patterns
from supervisor.engine import atomic
from supervisor.engine.file_watch import stable_copy
from supervisor.engine.unmodified.bundle import Known, SnapshotDraft

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from supervisor.engine.file_watch.scan import FileMark

TEMPORARY = ".tmp-"


@dataclass(frozen=True, slots=True)
class SnapshotRequest:
    """What to take: ``scan`` of ``root``, which the user calls ``called``, as step ``step`` into ``staging``/``name``.

    ``left_out``: files that are not whole; of these the copy in the snapshot before stays. ``growing``: files of which the
    part is wanted that is there. ``ended``: the script has, so that all is whole. ``checkpoint``: the
    newest one of the script's own. ``about``: more fields of checkpoint.json. ``counted``: as in ``FileManifest``.
    """

    root: Path
    called: str
    scan: Mapping[str, FileMark]
    staging: Path
    step: int = 0
    name: str = ""
    left_out: Collection[str] = ()
    growing: Collection[str] = ()
    ended: bool = False
    checkpoint: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)
    counted: bool = True


@dataclass(frozen=True, slots=True)
class TakenSnapshot:
    """A snapshot that is staged; ``written_bytes`` of it are new."""

    carried: FileManifest
    known: Known
    bytes: int
    written_bytes: int


def take(request: SnapshotRequest, before: Known) -> TakenSnapshot:
    """Stage a snapshot. ChangedMeanwhile: somebody wrote, try again later. OSError leaves nothing behind."""
    if before.folder is not None and not (before.folder / CONTENT_FILE).is_file():
        before = Known()
    temporary = request.staging / f"{TEMPORARY}{request.name.removeprefix('step-')}"
    request.staging.mkdir(parents=True, exist_ok=True)  # somebody may have emptied the local folder meanwhile
    temporary.mkdir()
    draft = SnapshotDraft(temporary, before)
    try:
        entries = _entries(request, before, draft)
        carried = FileManifest(request.step, request.called, entries, request.checkpoint, request.counted)
        draft.write(FILES_FILE, form.body(carried))
        draft.write(CONTENT_FILE, _sealed(request, carried, draft))
        atomic.flush_folder(temporary)
        temporary.rename(request.staging / request.name)
        atomic.flush_folder(request.staging)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(
            request.staging / request.name, ignore_errors=True
        )  # its name may not be flushed: it is not staged
        raise
    kept = {entry.path: entry for entry in entries}
    seen = {path: each for path, each in request.scan.items() if path in kept and path not in request.left_out}
    seen |= {path: before.seen[path] for path in request.left_out if path in kept and path in before.seen}
    records = {name: record for name, record in draft.records.items() if name != CONTENT_FILE}
    known = Known(request.staging / request.name, kept, records, seen)
    return TakenSnapshot(carried, known, sum(length for length, _ in records.values()), draft.written_bytes)


def restored_snapshot(
    folder: Path, carried: FileManifest, records: Mapping[str, tuple[int, str]], seen: Mapping[str, FileMark]
) -> Known:
    """Return a snapshot that was put back as the one before, the files looking as ``seen``."""
    entries = {entry.path: entry for entry in carried.entries}
    return Known(folder, entries, dict(records), dict(seen))


def changed(
    scan: Mapping[str, FileMark], seen: Mapping[str, FileMark], *, streams: bool = False, growing: Collection[str] = ()
) -> set[str]:
    """Return what has come, gone or changed since it was ``seen``; folders and streams do not count by themselves."""

    def counts(path: str, each: FileMark) -> bool:
        if each.kind != FILE or streams:
            return each.kind in {FILE, LINK}
        return not file_patterns.is_stream(path) and path not in growing

    come = {path for path, each in scan.items() if counts(path, each) and not same_content(seen.get(path), each)}
    return come | {path for path, each in seen.items() if path not in scan and counts(path, each)}


def same_content(one: FileMark | None, other: FileMark) -> bool:
    """Say whether two looks show one content."""
    if one is None or one.kind != other.kind or one.mode != other.mode:
        return False
    if one.kind == LINK:
        return one.target == other.target
    return (one.size, one.mtime_ns, one.ctime_ns, one.inode) == (
        other.size,
        other.mtime_ns,
        other.ctime_ns,
        other.inode,
    )


def _entries(request: SnapshotRequest, before: Known, draft: SnapshotDraft) -> tuple[FileRow, ...]:
    made: list[FileRow] = []
    kept: list[FileRow] = []
    for path, seen in sorted(request.scan.items()):
        old = before.entries.get(path)
        old = old if old is not None and old.kind == seen.kind else None
        if seen.kind == FOLDER:
            made.append(FileRow(path, FOLDER, seen.mode))
        elif seen.kind == LINK:
            made.append(FileRow(path, LINK, target=seen.target))
        elif seen.kind != FILE:
            continue
        elif path not in request.left_out and not (old is not None and same_content(before.seen.get(path), seen)):
            entry = _copied(request, path, seen, old, draft)
            (kept if entry is old else made).append(entry)
        elif old is not None:
            kept.append(old)
    kept = draft.keep(kept)
    draft.close()
    return tuple(sorted([*made, *kept], key=lambda entry: entry.path))


def _copied(request: SnapshotRequest, path: str, seen: FileMark, old: FileRow | None, draft: SnapshotDraft) -> FileRow:
    full = f"{request.root}/{path}"
    restless = path in request.growing and not request.ended
    if not restless:
        return FileRow(path, FILE, seen.mode, seen.mtime_ns, draft.add(full, seen, seen.size))
    length = _grown(full, path, seen, old)
    if length is None:
        assert old is not None
        return old
    return FileRow(path, FILE, seen.mode, seen.mtime_ns, draft.add(full, seen, length, grows=True))


def _grown(full: str, path: str, seen: FileMark, old: FileRow | None) -> int | None:
    """Return how much of a file that grows to carry: what is there now, to the end of a line.

    None for one that does not begin with what it was before: it is being written anew, and of that no half is wanted.
    """
    source = stable_copy.open_unchanged(full, seen.inode)
    try:
        length = stable_copy.whole_lines(source, seen.size) if file_patterns.has_lines(path) else seen.size
        if old is None or old.piece is None:
            return length
        was = old.piece
        grew = (
            length >= was.bytes and stable_copy.prefix_digest(source, was.bytes, algorithm_of(was.digest)) == was.digest
        )
        return length if grew else None
    finally:
        os.close(source)


def _sealed(request: SnapshotRequest, carried: FileManifest, draft: SnapshotDraft) -> bytes:
    files = [{"name": name, "bytes": size, "digest": digest} for name, (size, digest) in draft.records.items()]
    made_by = {**request.about.get("made_by", {}), "files": f"{carried.files:,}"}
    return sealed({**request.about, "step": request.step, "made_by": made_by, "files": files})
