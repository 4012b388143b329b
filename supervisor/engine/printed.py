"""What the trainer printed, over all sessions: from the pieces in the store, or from the local file, which has more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from supervisor.engine.claims import local_folder, ranks, read_claim
from supervisor.engine.output import OUTPUT, PIECE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from supervisor.core.claim import Rank
    from supervisor.core.ports import Store
    from supervisor.engine.place import RunPlace


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """One life of the trainer."""

    rank: Rank
    attempt: int


class Printed:
    """Reads the output in order, each byte once: what was given out before is not given out again."""

    def __init__(self, store: Store, run: RunPlace) -> None:
        self._store, self._run = store, run
        self._given: dict[Part, int] = {}
        self._folders: dict[Rank, Path | None] = {}

    def new(self, *, session: int | None = None, attempt: int | None = None) -> Iterator[tuple[Part, bytes]]:
        """Yield what was printed since the last call, oldest first. Raises StoreError."""
        for rank in ranks(self._store, self._run):
            if session not in {None, rank.epoch}:
                continue
            for part, names in self._parts(rank).items():
                if attempt in {None, part.attempt}:
                    text = self._text(part, names)
                    if text:
                        self._given[part] = self._given.get(part, 0) + len(text)
                        yield part, text

    def new_here(self, rank: Rank) -> Iterator[tuple[Part, bytes]]:
        """Yield the same for one session from its local files alone, which costs no look at the store."""
        folder = self._folder(rank)
        for number, file in _outputs(folder):
            part = Part(rank, number)
            text = _from(file, self._given.get(part, 0))
            if text:
                self._given[part] = self._given.get(part, 0) + len(text)
                yield part, text

    def _parts(self, rank: Rank) -> dict[Part, list[str]]:
        """Return the attempts of a session with the names of their pieces, in order."""
        parts: dict[Part, list[str]] = {}
        matches = [PIECE.fullmatch(entry.name) for entry in self._store.list(self._run.session(rank))]
        for match in sorted((each for each in matches if each), key=lambda each: int(each[2])):
            parts.setdefault(Part(rank, int(match[1])), []).append(match[0])
        folder = self._folder(rank)
        for number, _ in _outputs(folder):
            parts.setdefault(Part(rank, number), [])
        return dict(sorted(parts.items()))

    def _text(self, part: Part, names: list[str]) -> bytes:
        begin = self._given.get(part, 0)
        folder = self._folder(part.rank)
        if folder is not None:
            text = _from(folder / f"output-{part.attempt:04d}.log", begin)
            if text is not None:
                return text
        pieces = (self._store.read(f"{self._run.session(part.rank)}/{name}") for name in names)
        return b"".join(pieces)[begin:]

    def _folder(self, rank: Rank) -> Path | None:
        if rank not in self._folders:
            self._folders[rank] = local_folder(read_claim(self._store, self._run, rank))
        return self._folders[rank]


class PrintedHere:
    """The same for one session of this machine, from its local folder alone: for when its store does not answer."""

    def __init__(self, rank: Rank, folder: Path) -> None:
        self._rank, self._folder = rank, folder
        self._given: dict[Part, int] = {}

    def new(self, attempt: int | None = None) -> Iterator[tuple[Part, bytes]]:
        """Yield what was printed since the last call, oldest first."""
        for number, file in _outputs(self._folder):
            part = Part(self._rank, number)
            text = _from(file, self._given.get(part, 0)) if attempt in {None, part.attempt} else None
            if text:
                self._given[part] = self._given.get(part, 0) + len(text)
                yield part, text


def _outputs(folder: Path | None) -> list[tuple[int, Path]]:
    """Return the number of each attempt that a session's local folder tells of, with its file, oldest first."""
    found = ((OUTPUT.fullmatch(file.name), file) for file in folder.glob("output-*.log")) if folder else ()
    return sorted((int(match[1]), file) for match, file in found if match and file.is_file())


def _from(file: Path, begin: int) -> bytes | None:
    """Return a file's bytes from ``begin``, or None if it is not there (any more)."""
    try:
        with file.open("rb") as opened:
            opened.seek(begin)
            return opened.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
