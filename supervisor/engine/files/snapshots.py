"""Takes a snapshot of a script's files: a staged folder like any other, whole under its name or not there at all.

Files are copied, never linked, because the script may write into them in place; each is looked at again after its copy.
What has not changed is a link to the copy in the snapshot before.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import field
from typing import TYPE_CHECKING, Any

from supervisor.core import carried as form
from supervisor.core import naming
from supervisor.core.carried import FILE, FILES_FILE, FOLDER, LINK, Carried, Entry
from supervisor.core.content import CONTENT_FILE, sealed
from supervisor.core.digest import algorithm_of
from supervisor.core.values import dataclass
from supervisor.engine.files import copying
from supervisor.engine.files.drafting import Draft, Known

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from supervisor.engine.files.scanning import Seen

TEMPORARY = ".tmp-"


@dataclass(frozen=True, slots=True)
class Order:
    """What to take: ``scan`` of ``root``, which the user calls ``called``, as step ``step`` into ``staging``/``name``.

    ``left_out``: files that are not whole; of these the copy in the snapshot before stays. ``growing``: files of which the
    part is wanted that is there. ``ended``: the script has, so that all is whole. ``checkpoint``: the
    newest one of the script's own. ``about``: more fields of checkpoint.json. ``counted``: as in ``Carried``.
    """

    root: Path
    called: str
    scan: Mapping[str, Seen]
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
class Taken:
    """A snapshot that is staged; ``written_bytes`` of it are new."""

    carried: Carried
    known: Known
    bytes: int
    written_bytes: int


def take(order: Order, before: Known) -> Taken:
    """Stage a snapshot. ChangedMeanwhile: somebody wrote, try again later. OSError leaves nothing behind."""
    if before.folder is not None and not (before.folder / CONTENT_FILE).is_file():
        before = Known()
    temporary = order.staging / f"{TEMPORARY}{order.name.removeprefix('step-')}"
    order.staging.mkdir(parents=True, exist_ok=True)  # somebody may have emptied the local folder meanwhile
    temporary.mkdir()
    draft = Draft(temporary, before)
    try:
        entries = _entries(order, before, draft)
        carried = Carried(order.step, order.called, entries, order.checkpoint, order.counted)
        draft.write(FILES_FILE, form.body(carried))
        draft.write(CONTENT_FILE, _sealed(order, carried, draft))
        copying.flush_folder(temporary)
        temporary.rename(order.staging / order.name)
        copying.flush_folder(order.staging)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(order.staging / order.name, ignore_errors=True)  # its name may not be flushed: it is not staged
        raise
    kept = {entry.path: entry for entry in entries}
    seen = {path: each for path, each in order.scan.items() if path in kept and path not in order.left_out}
    seen |= {path: before.seen[path] for path in order.left_out if path in kept and path in before.seen}
    records = {name: record for name, record in draft.records.items() if name != CONTENT_FILE}
    known = Known(order.staging / order.name, kept, records, seen)
    return Taken(carried, known, sum(length for length, _ in records.values()), draft.written_bytes)


def known_of(folder: Path, carried: Carried, records: Mapping[str, tuple[int, str]], seen: Mapping[str, Seen]) -> Known:
    """Return a snapshot that was put back as the one before, the files looking as ``seen``."""
    entries = {entry.path: entry for entry in carried.entries}
    return Known(folder, entries, dict(records), dict(seen))


def changed(
    scan: Mapping[str, Seen], seen: Mapping[str, Seen], *, streams: bool = False, growing: Collection[str] = ()
) -> set[str]:
    """Return what has come, gone or changed since it was ``seen``; folders and streams do not count by themselves."""

    def counts(path: str, each: Seen) -> bool:
        if each.kind != FILE or streams:
            return each.kind in {FILE, LINK}
        return not naming.is_stream(path) and path not in growing

    come = {path for path, each in scan.items() if counts(path, each) and not same(seen.get(path), each)}
    return come | {path for path, each in seen.items() if path not in scan and counts(path, each)}


def same(one: Seen | None, other: Seen) -> bool:
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


def _entries(order: Order, before: Known, draft: Draft) -> tuple[Entry, ...]:
    made: list[Entry] = []
    kept: list[Entry] = []
    for path, seen in sorted(order.scan.items()):
        old = before.entries.get(path)
        old = old if old is not None and old.kind == seen.kind else None
        if seen.kind == FOLDER:
            made.append(Entry(path, FOLDER, seen.mode))
        elif seen.kind == LINK:
            made.append(Entry(path, LINK, target=seen.target))
        elif seen.kind != FILE:
            continue
        elif path not in order.left_out and not (old is not None and same(before.seen.get(path), seen)):
            entry = _copied(order, path, seen, old, draft)
            (kept if entry is old else made).append(entry)
        elif old is not None:
            kept.append(old)
    kept = draft.keep(kept)
    draft.close()
    return tuple(sorted([*made, *kept], key=lambda entry: entry.path))


def _copied(order: Order, path: str, seen: Seen, old: Entry | None, draft: Draft) -> Entry:
    full = f"{order.root}/{path}"
    restless = path in order.growing and not order.ended
    if not restless:
        return Entry(path, FILE, seen.mode, seen.mtime_ns, draft.add(full, seen, seen.size))
    length = _grown(full, path, seen, old)
    if length is None:
        assert old is not None
        return old
    return Entry(path, FILE, seen.mode, seen.mtime_ns, draft.add(full, seen, length, grows=True))


def _grown(full: str, path: str, seen: Seen, old: Entry | None) -> int | None:
    """Return how much of a file that grows to carry: what is there now, to the end of a line.

    None for one that does not begin with what it was before: it is being written anew, and of that no half is wanted.
    """
    source = copying.open_still(full, seen.inode)
    try:
        length = copying.whole_lines(source, seen.size) if naming.has_lines(path) else seen.size
        if old is None or old.piece is None:
            return length
        was = old.piece
        grew = length >= was.bytes and copying.prefix_digest(source, was.bytes, algorithm_of(was.digest)) == was.digest
        return length if grew else None
    finally:
        os.close(source)


def _sealed(order: Order, carried: Carried, draft: Draft) -> bytes:
    files = [{"name": name, "bytes": size, "digest": digest} for name, (size, digest) in draft.records.items()]
    made_by = {**order.about.get("made_by", {}), "files": f"{carried.files:,}"}
    return sealed({**order.about, "step": order.step, "made_by": made_by, "files": files})
