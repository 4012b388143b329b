"""A store in memory with the laws of core.ports.Store, seen by each process through its own, unreliable view."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core.digest import digest_of
from supervisor.core.ports import Entry, Measured, Missing, StoreError, Taken, Traits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.simulation.observer import Observer
    from tests.simulation.virtual_supervisor import Supervisor
    from tests.simulation.world import World

WORDS = {
    "unreadable": "Input/output error",
    "full": "No space left on device",
    "gone": "Transport endpoint is not connected",
}


@dataclass
class File:
    """Bytes, who wrote them and when. ``true`` stays what was written, whatever damage does to ``body``."""

    body: bytes
    true: bytes
    writer: object
    at: float


class Shelf:
    """What really lies in the store. ``lag_s``: how long a new name may stay hidden from other machines."""

    def __init__(self, lag_s: float = 0.0) -> None:
        self.files: dict[str, File] = {}
        self.folders: dict[str, dict[str, bool]] = {"": {}}
        self.lag_s = lag_s
        self.broken = ""  # the kind of error that everybody gets now; "" none

    def put(self, path: str, body: bytes, writer: object, at: float) -> None:
        """Make a file; nothing that exists is ever changed."""
        if path in self.files:
            raise Taken(f"{path} exists already")
        self.files[path] = File(body, body, writer, at)
        inside, is_folder = path, False
        while inside:
            folder, _, name = inside.rpartition("/")
            known = self.folders.setdefault(folder, {})
            if name in known:
                break
            known[name] = is_folder
            inside, is_folder = folder, True

    def remove(self, path: str) -> None:
        """Remove a file or an empty folder; absent is fine."""
        if self.folders.get(path):
            raise StoreError(f"Directory not empty ({path})")
        self.folders.pop(path, None)
        self.files.pop(path, None)
        folder, _, name = path.rpartition("/")
        self.folders.get(folder, {}).pop(name, None)


class View:
    """The store as one process sees it: with errors, pauses and deaths before and after each operation."""

    def __init__(self, shelf: Shelf, world: World, observer: Observer) -> None:
        self.shelf, self.world, self.observer = shelf, world, observer
        self.process: Supervisor | None = None
        self.traits = Traits(settle_s=1.5 * shelf.lag_s, silence_s=150.0, where="virtual")

    def list(self, folder: str) -> Sequence[Entry]:
        """Return the names that this machine can see by now."""
        self._before(folder)
        at = self.world.now
        found = [
            Entry(name, is_folder, None if is_folder else len(self.shelf.files[_join(folder, name)].body))
            for name, is_folder in sorted(self.shelf.folders.get(folder, {}).items())
            if (is_folder and self._folder_shows(_join(folder, name)))
            or (not is_folder and self._shows(_join(folder, name)))
        ]
        self.world.hazard(self._who())
        self.observer.listed(self._who(), folder, [entry.name for entry in found], at)
        return tuple(found)

    def read(self, path: str) -> bytes:
        """Return a file's bytes."""
        self._before(path)
        if path not in self.shelf.files or not self._shows(path):
            raise Missing(f"{path} is not there")
        return self.shelf.files[path].body

    def create(self, path: str, body: bytes) -> None:
        """Write a small file once."""
        self.observer.writing(self._who(), path)
        self._before(path, writes=True)
        self.shelf.put(path, body, self._who().machine, self.world.now)
        self.observer.written(self._who(), path, body)
        self._after(path)

    def push(self, local: str, path: str, algorithm: str, *, link: bool = False) -> Measured:
        """Copy a local file in once."""
        self.observer.writing(self._who(), path)
        self._before(path, writes=True)
        try:
            body = Path(local).read_bytes()
        except FileNotFoundError as error:
            raise Missing(f"{local} is not there") from error
        measured = _measured(body, algorithm)
        self.shelf.put(path, body, self._who().machine, self.world.now)
        self.observer.written(self._who(), path, body)
        self._after(path)
        return measured

    def pull(self, path: str, local: str, algorithm: str, *, link: bool = False) -> Measured:
        """Copy a file to the local disk."""
        body = self.read(path)
        try:
            Path(local).write_bytes(body)
        except OSError as error:
            raise StoreError(str(error), "local") from error
        return _measured(body, algorithm)

    def delete(self, path: str) -> None:
        """Remove a file or an empty folder."""
        self.observer.deleting(self._who(), path)
        self._before(path)
        self.shelf.remove(path)
        self.observer.deleted(self._who(), path)
        self._after(path)

    def evidence(self, path: str) -> str:
        """Return what proves a file safe; here, that it is there."""
        self._before(path)
        if path not in self.shelf.files:
            raise Missing(f"{path} is not there")
        return "fsync"

    def sweep(self, _folder: str) -> int:
        """Nothing is ever half-written here."""
        return 0

    def _who(self) -> Supervisor:
        assert self.process is not None
        return self.process

    def _before(self, path: str, *, writes: bool = False) -> None:
        if ".." in path.split("/"):
            raise StoreError(f"{path} leads out of the store")
        self.world.hazard(self._who())
        broken = self.shelf.broken
        if broken and (broken != "full" or writes):
            raise StoreError(f"{WORDS[broken]} ({path})", broken)
        if self.world.chance.random() < self.world.hostility.error_at_op:
            raise StoreError(f"Input/output error ({path})")

    def _after(self, path: str) -> None:
        self.world.hazard(self._who())
        if self.world.chance.random() < self.world.hostility.lost_answer:
            raise StoreError(f"Input/output error, after it was done ({path})")

    def _shows(self, path: str) -> bool:
        file = self.shelf.files[path]
        return file.writer is self._who().machine or self.world.now >= file.at + self.shelf.lag_s

    def _folder_shows(self, folder: str) -> bool:
        if not self.shelf.lag_s:
            return True
        inside = self.shelf.folders.get(folder, {})
        return not inside or any(
            self._folder_shows(_join(folder, name)) if is_folder else self._shows(_join(folder, name))
            for name, is_folder in inside.items()
        )


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _measured(body: bytes, algorithm: str) -> Measured:
    return Measured(len(body), digest_of((body,), algorithm))
