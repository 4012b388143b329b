"""Takes a snapshot of a script's files: a staged folder, complete under its name or absent.

Files are copied, never linked, because the script may write into them in place. Each one is checked again after its
copy. An unchanged file is a link to the copy in the previous snapshot.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import field
from typing import TYPE_CHECKING, Any

from supervisor.core.checkpoint import file_manifest as form
from supervisor.core.checkpoint.checkpoint_json import CONTENT_FILE, to_bytes
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
    """Request for a snapshot of ``root``, typed as ``called``, as step ``step`` into ``staging``/``name``.

    - ``left_out``: incomplete files; their copies in the previous snapshot stay
    - ``growing``: files whose present part is wanted
    - ``ended``: the script has ended, so all files are complete
    - ``checkpoint``: the script's own newest checkpoint
    - ``about``: more fields of checkpoint.json
    - ``counted``: as in ``FileManifest``
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
    """A staged snapshot; ``written_bytes`` of it are new."""

    carried: FileManifest
    known: Known
    bytes: int
    written_bytes: int


def take(request: SnapshotRequest, before: Known) -> TakenSnapshot:
    """Stage a snapshot. Raises ChangedMeanwhile (try again later), and OSError without leaving files behind."""
    if before.folder is not None and not (before.folder / CONTENT_FILE).is_file():
        before = Known()
    temporary = request.staging / f"{TEMPORARY}{request.name.removeprefix('step-')}"
    request.staging.mkdir(parents=True, exist_ok=True)  # another process may have emptied the local folder meanwhile
    temporary.mkdir()
    draft = SnapshotDraft(temporary, before)
    try:
        entries = _entries(request, before, draft)
        carried = FileManifest(request.step, request.called, entries, request.checkpoint, request.counted)
        draft.write(FILES_FILE, form.to_bytes(carried))
        draft.write(CONTENT_FILE, _sealed(request, carried, draft))
        atomic.flush_folder(temporary)
        temporary.rename(request.staging / request.name)
        atomic.flush_folder(request.staging)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(
            request.staging / request.name, ignore_errors=True
        )  # its name may not be flushed: it does not count as staged
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
    """Return a restored snapshot as the previous one; ``seen`` holds the marks of its files."""
    entries = {entry.path: entry for entry in carried.entries}
    return Known(folder, entries, dict(records), dict(seen))


def changed(
    scan: Mapping[str, FileMark], seen: Mapping[str, FileMark], *, streams: bool = False, growing: Collection[str] = ()
) -> set[str]:
    """Return the new, removed and changed paths since ``seen``; folders and streams alone do not count."""

    def counts(path: str, each: FileMark) -> bool:
        if each.kind != FILE or streams:
            return each.kind in {FILE, LINK}
        return not file_patterns.is_stream(path) and path not in growing

    come = {path for path, each in scan.items() if counts(path, each) and not same_content(seen.get(path), each)}
    return come | {path for path, each in seen.items() if path not in scan and counts(path, each)}


def same_content(one: FileMark | None, other: FileMark) -> bool:
    """Return True if two marks show the same content."""
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
    """Return how much of a growing file to carry: its present content, to the end of a line.

    None for a file that does not begin with its earlier content: it is being rewritten, and a partial copy is useless.
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
    return to_bytes({**request.about, "step": request.step, "made_by": made_by, "files": files})
