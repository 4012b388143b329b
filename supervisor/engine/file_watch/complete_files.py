"""Records, on the local disk, of a script's complete files: after a crash the newest of them are used in place.

A line is written at the end of a save and names its files. A file is complete if it matches its last line, on the same
boot of the machine.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from supervisor.core.checkpoint.file_manifest import FILE
from supervisor.core.frozen import dataclass
from supervisor.core.unmodified import file_patterns, save_groups
from supervisor.core.unmodified.save_groups import SaveGroup
from supervisor.engine import atomic
from supervisor.engine.file_watch import file_formats
from supervisor.engine.file_watch import scan as folder_scan

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from supervisor.core.checkpoint.file_manifest import FileRow
    from supervisor.core.checkpoint.session_id import SessionId
    from supervisor.engine.file_watch.scan import FileMark

LINES_MAX, LINES_KEPT = 4000, 1000
FIELDS = 7


@dataclass(frozen=True, slots=True)
class NewerFiles:
    """A complete file newer than the snapshot, its marks, and its step."""

    path: str
    seen: FileMark
    step: int | None


class CompleteFiles:
    """``note`` is the file of the records; ``boot`` identifies this boot of the machine."""

    def __init__(self, note: Path, boot: str) -> None:
        self._note, self._boot = note, boot
        self._lines = 0
        self._recorded: dict[str, list[int]] = {}

    def add(self, rank: SessionId, root: Path, path: str, step: int | None) -> None:
        """Record the file at a path, relative to the root, as complete. ``rank`` is the session that saw the save."""
        seen = {each: found for each, found in folder_scan.scan(root, {path}).items() if found.kind == FILE}
        self._write([self._boot, rank.generation, rank.writer, str(root), path, step, seen])

    def add_quiescent(self, rank: SessionId, root: Path, files: Mapping[str, FileMark]) -> None:
        """Record files that were complete in one scan."""
        new = {
            path: seen
            for path, seen in files.items()
            if seen.kind == FILE and self._recorded.get(path) != _signature(seen)
        }
        if new:
            self._recorded.update({path: _signature(seen) for path, seen in new.items()})
            self._write([self._boot, rank.generation, rank.writer, str(root), "", None, new])

    def newer(self, root: Path, rank: SessionId, entries: Iterable[FileRow]) -> list[NewerFiles]:
        """Return the complete files under ``root`` that are newer than these entries of a snapshot by session ``rank``.

        The files of one save are used together or not at all.
        """
        snapshot = {entry.path: entry for entry in entries}
        saves: list[SaveGroup] = []
        files: list[dict[str, list[int]]] = []
        for boot, epoch, writer, of, path, step, marks in self._read():
            later = epoch > rank.generation or (epoch == rank.generation and writer == rank.writer)
            if boot == self._boot and of == str(root) and later:
                saves.append(SaveGroup(path, step))
                files.append(marks)
        noted = {path: marks for each in files for path, marks in each.items()}
        there = {
            path: seen for path, marks in noted.items() if (seen := _look(root, path)) and _signature(seen) == marks
        }
        known, at = save_groups.grouped(saves), 0
        found: dict[str, NewerFiles] = {}
        for place, moment in enumerate(known):
            mine, at = files[at : at + len(moment)], at + len(moment)
            paths = [path for each in mine for path in each]
            over = place + 1 < len(known) or save_groups.is_complete(moment, known[:place])
            if over and all(path in there for path in paths):
                found.update({path: NewerFiles(path, there[path], moment[0].step) for path in paths})
        later = self._next_unreported(root, known, {*noted, *snapshot}) if known else []
        return [*(each for path, each in found.items() if _differs(each.seen, snapshot.get(path))), *later]

    def _next_unreported(
        self, root: Path, known: Sequence[Sequence[SaveGroup]], old: Collection[str]
    ) -> list[NewerFiles]:
        """Return the next unreported save of numbered files if its structure shows that it is complete."""
        last = {file_patterns.shape_of(save.path): save.path for moment in known for save in moment}
        found: dict[int, dict[str, NewerFiles]] = {}
        for shape, path in last.items():
            step = file_patterns.step_of(path.rpartition("/")[2])
            for each in _similar_names(root, path) if step is not None else ():
                number = file_patterns.step_of(each.rpartition("/")[2])
                seen = _look(root, each) if number is not None and number > (step or 0) and each not in old else None
                if number is None or seen is None or seen.kind != FILE or not _is_later(seen, root, path):
                    continue
                if file_formats.is_complete(root / each):
                    found.setdefault(number, {})[shape] = NewerFiles(each, seen, None)
        whole = {
            number: files
            for number, files in found.items()
            if save_groups.is_complete([SaveGroup(each.path) for each in files.values()], known)
        }
        return list(whole[max(whole)].values()) if whole else []

    def _write(self, record: list[Any]) -> None:
        record[-1] = {path: _signature(seen) for path, seen in record[-1].items()}
        try:
            with self._note.open("a", encoding="ascii") as file:
                file.write(f"{json.dumps(record)}\n")
            self._lines += 1
            if self._lines > LINES_MAX:
                self._cut()
        except OSError:  # a full disk: only the snapshot is used
            return

    def _read(self) -> list[list[Any]]:
        try:
            lines = self._note.read_text(encoding="ascii").splitlines()
        except (OSError, ValueError):
            return []
        found = []
        for line in lines:
            try:
                record = json.loads(line)
            except ValueError:  # the last line of a supervisor that was killed while writing it
                continue
            if isinstance(record, list) and len(record) == FIELDS:
                found.append(record)
        return found

    def _cut(self) -> None:
        kept = self._read()[-LINES_KEPT:]
        atomic.replace(self._note, "".join(f"{json.dumps(each)}\n" for each in kept).encode("ascii"))
        self._lines = len(kept)


def _signature(seen: FileMark) -> list[int]:
    """Return the fields that show a change, without the inode's time, which a link changes too."""
    return [seen.size, seen.mtime_ns, seen.inode[1]]


def _similar_names(root: Path, path: str) -> list[str]:
    """Return the names beside a file that differ from its name only by a number."""
    folder, slash, _ = path.rpartition("/")
    try:
        names = os.listdir(root / folder)  # noqa: PTH208  # names alone
    except OSError:
        return []
    paths = (f"{folder}{slash}{name}" for name in sorted(names))
    return [each for each in paths if each != path and file_patterns.shape_of(each) == file_patterns.shape_of(path)]


def _is_later(seen: FileMark, root: Path, path: str) -> bool:
    """Return True if a file is newer than another one of this disk: files of an earlier training have high numbers too."""
    other = _look(root, path)
    return other is not None and seen.mtime_ns > other.mtime_ns


def _look(root: Path, path: str) -> FileMark | None:
    try:
        return folder_scan.look(os.fspath(root / path))
    except OSError:
        return None


def _differs(seen: FileMark, entry: FileRow | None) -> bool:
    return entry is None or entry.piece is None or (entry.piece.bytes, entry.mtime_ns) != (seen.size, seen.mtime_ns)
