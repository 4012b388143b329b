"""The trainer's output over all sessions, from pieces in the store or from the longer local file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from supervisor.engine.run_catalog.claims import local_folder, ranks, read_claim
from supervisor.engine.trainer_process.log_capture import OUTPUT, PIECE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from supervisor.core.checkpoint.session_id import SessionId
    from supervisor.core.ports import Store
    from supervisor.engine.paths import RunPaths


@dataclass(frozen=True, slots=True, order=True)
class LogPart:
    """The output of one attempt."""

    rank: SessionId
    attempt: int


class TrainerLog:
    """Reads the output in order and returns each byte once."""

    def __init__(self, store: Store, run: RunPaths) -> None:
        self._store, self._run = store, run
        self._given: dict[LogPart, int] = {}
        self._folders: dict[SessionId, Path | None] = {}

    def new(self, *, session: int | None = None, attempt: int | None = None) -> Iterator[tuple[LogPart, bytes]]:
        """Yield the output since the last call, oldest first. Raises StoreError."""
        for rank in ranks(self._store, self._run):
            if session not in {None, rank.generation}:
                continue
            for part, names in self._parts(rank).items():
                if attempt in {None, part.attempt}:
                    text = self._text(part, names)
                    if text:
                        self._given[part] = self._given.get(part, 0) + len(text)
                        yield part, text

    def new_here(self, rank: SessionId) -> Iterator[tuple[LogPart, bytes]]:
        """Yield the output of one session from its local files alone, without the store."""
        folder = self._folder(rank)
        for number, file in _outputs(folder):
            part = LogPart(rank, number)
            text = _from(file, self._given.get(part, 0))
            if text:
                self._given[part] = self._given.get(part, 0) + len(text)
                yield part, text

    def _parts(self, rank: SessionId) -> dict[LogPart, list[str]]:
        """Return the attempts of a session with the names of their pieces, in order."""
        parts: dict[LogPart, list[str]] = {}
        matches = [PIECE.fullmatch(entry.name) for entry in self._store.list(self._run.session(rank))]
        for match in sorted((each for each in matches if each), key=lambda each: int(each[2])):
            parts.setdefault(LogPart(rank, int(match[1])), []).append(match[0])
        folder = self._folder(rank)
        for number, _ in _outputs(folder):
            parts.setdefault(LogPart(rank, number), [])
        return dict(sorted(parts.items()))

    def _text(self, part: LogPart, names: list[str]) -> bytes:
        begin = self._given.get(part, 0)
        folder = self._folder(part.rank)
        if folder is not None:
            text = _from(folder / f"output-{part.attempt:04d}.log", begin)
            if text is not None:
                return text
        pieces = (self._store.read(f"{self._run.session(part.rank)}/{name}") for name in names)
        return b"".join(pieces)[begin:]

    def _folder(self, rank: SessionId) -> Path | None:
        if rank not in self._folders:
            self._folders[rank] = local_folder(read_claim(self._store, self._run, rank))
        return self._folders[rank]


class LocalTrainerLog:
    """The output of one session of this machine from its local folder. Used while its store does not answer."""

    def __init__(self, rank: SessionId, folder: Path) -> None:
        self._rank, self._folder = rank, folder
        self._given: dict[LogPart, int] = {}

    def new(self, attempt: int | None = None) -> Iterator[tuple[LogPart, bytes]]:
        """Yield the output since the last call, oldest first."""
        for number, file in _outputs(self._folder):
            part = LogPart(self._rank, number)
            text = _from(file, self._given.get(part, 0)) if attempt in {None, part.attempt} else None
            if text:
                self._given[part] = self._given.get(part, 0) + len(text)
                yield part, text


def _outputs(folder: Path | None) -> list[tuple[int, Path]]:
    """Return the attempts in a session's local folder with their files, oldest first."""
    found = ((OUTPUT.fullmatch(file.name), file) for file in folder.glob("output-*.log")) if folder else ()
    return sorted((int(match[1]), file) for match, file in found if match and file.is_file())


def _from(file: Path, begin: int) -> bytes | None:
    """Return a file's bytes from ``begin``, or None if it is absent."""
    try:
        with file.open("rb") as opened:
            opened.seek(begin)
            return opened.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
