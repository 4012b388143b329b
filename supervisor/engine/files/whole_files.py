"""Notes on this machine's disk which files of a script were whole: after a death the newest of them are used as they lie there.

A line is written when a save is over; it holds the files of that save. A file is whole if it looks as its last line says, on the same boot of the machine.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from supervisor.core import moments, naming
from supervisor.core.carried import FILE
from supervisor.core.moments import Save
from supervisor.core.values import dataclass
from supervisor.engine.files import scanning, structure

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from supervisor.core.carried import Entry
    from supervisor.core.claim import Rank
    from supervisor.engine.files.scanning import Seen

LINES_MAX, LINES_KEPT = 4000, 1000
FIELDS = 7


@dataclass(frozen=True, slots=True)
class Newer:
    """A file that is whole and newer than the snapshot, how it looks, and the steps that were done."""

    path: str
    seen: Seen
    step: int | None


class WholeFiles:
    """``note`` is the file of the notes, ``boot`` tells this boot of the machine from every other."""

    def __init__(self, note: Path, boot: str) -> None:
        self._note, self._boot = note, boot
        self._lines = 0
        self._noted: dict[str, list[int]] = {}

    def add(self, rank: Rank, root: Path, path: str, step: int | None) -> None:
        """Note what lies at a path, relative to the root, as whole; ``rank`` is the session that saw it saved."""
        seen = {each: found for each, found in scanning.scan(root, {path}).items() if found.kind == FILE}
        self._write([self._boot, rank.epoch, rank.writer, str(root), path, step, seen])

    def all_still(self, rank: Rank, root: Path, files: Mapping[str, Seen]) -> None:
        """Note files that were whole at one look."""
        new = {
            path: seen for path, seen in files.items() if seen.kind == FILE and self._noted.get(path) != _marks(seen)
        }
        if new:
            self._noted.update({path: _marks(seen) for path, seen in new.items()})
            self._write([self._boot, rank.epoch, rank.writer, str(root), "", None, new])

    def newer(self, root: Path, rank: Rank, entries: Iterable[Entry]) -> list[Newer]:
        """Return the files under ``root`` that are whole and newer than a snapshot of these entries by session ``rank``.

        Files of one save are used together or not at all.
        """
        snapshot = {entry.path: entry for entry in entries}
        saves: list[Save] = []
        files: list[dict[str, list[int]]] = []
        for boot, epoch, writer, of, path, step, marks in self._read():
            later = epoch > rank.epoch or (epoch == rank.epoch and writer == rank.writer)
            if boot == self._boot and of == str(root) and later:
                saves.append(Save(path, step))
                files.append(marks)
        noted = {path: marks for each in files for path, marks in each.items()}
        there = {path: seen for path, marks in noted.items() if (seen := _look(root, path)) and _marks(seen) == marks}
        known, at = moments.grouped(saves), 0
        found: dict[str, Newer] = {}
        for place, moment in enumerate(known):
            mine, at = files[at : at + len(moment)], at + len(moment)
            paths = [path for each in mine for path in each]
            over = place + 1 < len(known) or moments.is_complete(moment, known[:place])
            if over and all(path in there for path in paths):
                found.update({path: Newer(path, there[path], moment[0].step) for path in paths})
        later = self._not_noted(root, known, {*noted, *snapshot}) if known else []
        return [*(each for path, each in found.items() if _differs(each.seen, snapshot.get(path))), *later]

    def _not_noted(self, root: Path, known: Sequence[Sequence[Save]], old: Collection[str]) -> list[Newer]:
        """Return the next save of numbered files, of which nobody was told any more, if its structure shows it whole."""
        last = {naming.shape_of(save.path): save.path for moment in known for save in moment}
        found: dict[int, dict[str, Newer]] = {}
        for shape, path in last.items():
            step = naming.step_of(path.rpartition("/")[2])
            for each in _alike(root, path) if step is not None else ():
                number = naming.step_of(each.rpartition("/")[2])
                seen = _look(root, each) if number is not None and number > (step or 0) and each not in old else None
                if number is None or seen is None or seen.kind != FILE or not _is_later(seen, root, path):
                    continue
                if structure.is_whole(root / each):
                    found.setdefault(number, {})[shape] = Newer(each, seen, None)
        whole = {
            number: files
            for number, files in found.items()
            if moments.is_complete([Save(each.path) for each in files.values()], known)
        }
        return list(whole[max(whole)].values()) if whole else []

    def _write(self, told: list[Any]) -> None:
        told[-1] = {path: _marks(seen) for path, seen in told[-1].items()}
        try:
            with self._note.open("a", encoding="ascii") as file:
                file.write(f"{json.dumps(told)}\n")
            self._lines += 1
            if self._lines > LINES_MAX:
                self._cut()
        except OSError:  # a full disk: then the snapshot alone is used
            return

    def _read(self) -> list[list[Any]]:
        try:
            lines = self._note.read_text(encoding="ascii").splitlines()
        except (OSError, ValueError):
            return []
        found = []
        for line in lines:
            try:
                told = json.loads(line)
            except ValueError:  # the last one, of a supervisor that was killed while it wrote it
                continue
            if isinstance(told, list) and len(told) == FIELDS:
                found.append(told)
        return found

    def _cut(self) -> None:
        kept = self._read()[-LINES_KEPT:]
        beside = self._note.with_suffix(".tmp")
        beside.write_text("".join(f"{json.dumps(each)}\n" for each in kept), encoding="ascii")
        beside.replace(self._note)
        self._lines = len(kept)


def _marks(seen: Seen) -> list[int]:
    """Return by what a change shows; not the time of the inode, which a link changes too."""
    return [seen.size, seen.mtime_ns, seen.inode[1]]


def _alike(root: Path, path: str) -> list[str]:
    """Return what lies beside a file and is named alike but for its number."""
    folder, slash, _ = path.rpartition("/")
    try:
        names = os.listdir(root / folder)  # noqa: PTH208  # names alone
    except OSError:
        return []
    paths = (f"{folder}{slash}{name}" for name in sorted(names))
    return [each for each in paths if each != path and naming.shape_of(each) == naming.shape_of(path)]


def _is_later(seen: Seen, root: Path, path: str) -> bool:
    """Say whether a file was written after another one of this disk: what an earlier training left has high numbers too."""
    other = _look(root, path)
    return other is not None and seen.mtime_ns > other.mtime_ns


def _look(root: Path, path: str) -> Seen | None:
    try:
        return scanning.look(os.fspath(root / path))
    except OSError:
        return None


def _differs(seen: Seen, entry: Entry | None) -> bool:
    return entry is None or entry.piece is None or (entry.piece.bytes, entry.mtime_ns) != (seen.size, seen.mtime_ns)
