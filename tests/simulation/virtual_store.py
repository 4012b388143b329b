"""A store in memory with the laws of core.ports.Store, seen by each process through its own, unreliable view."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core.digest import digest_of
from supervisor.core.errors import UserError
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


@dataclass(slots=True)
class File:
    """Bytes, who wrote them and when."""

    body: bytes
    writer: object
    at: float


@dataclass(slots=True)
class Folder:
    """Names, each with whether it is a folder. ``changed_at``: when something was last put in or below; 0 if never."""

    names: dict[str, bool] = field(default_factory=dict)
    changed_at: float = -1e9
    listed: tuple[Entry, ...] | None = None


class Shelf:
    """What really lies in the store. ``lag_s``: how long a new name may stay hidden from other machines."""

    mounted = False

    def __init__(self, lag_s: float = 0.0) -> None:
        self.files: dict[str, File] = {}
        self.folders: dict[str, Folder] = {"": Folder()}
        self.lag_s = lag_s
        self.settle_s = 1.5 * lag_s
        self.broken = ""  # the kind of error that everybody gets now; "" none

    def put(self, path: str, body: bytes, writer: object, at: float) -> None:
        """Make a file; nothing that exists is ever changed."""
        if path in self.files:
            raise Taken(f"{path} exists already")
        self.files[path] = File(body, writer, at)
        inside, is_folder = path, False
        while inside:
            above, _, name = inside.rpartition("/")
            known = self.folders.setdefault(above, Folder())
            known.names[name] = is_folder
            known.changed_at, known.listed = at, None
            inside, is_folder = above, True

    def remove(self, path: str) -> None:
        """Remove a file or an empty folder; absent is fine."""
        if path in self.folders:
            if self.folders[path].names:
                raise StoreError(f"Directory not empty ({path})")
            del self.folders[path]
        self.files.pop(path, None)
        above, _, name = path.rpartition("/")
        if above in self.folders:
            self.folders[above].names.pop(name, None)
            self.folders[above].listed = None

    def listing(self, folder: str, machine: object, now: float) -> tuple[Entry, ...]:
        """Return what a machine sees in a folder by now."""
        known = self.folders.get(folder)
        if known is None:
            return ()
        if known.listed is None:
            known.listed = tuple(
                Entry(name, is_folder, None if is_folder else len(self.files[_join(folder, name)].body))
                for name, is_folder in sorted(known.names.items())
            )
        if now >= known.changed_at + self.lag_s:
            return known.listed
        return tuple(each for each in known.listed if self._shows(_join(folder, each.name), machine, now))

    def seen(self, path: str, machine: object, now: float) -> bytes | None:
        """Return what a machine reads in a file by now, None if it is not there for it."""
        file = self.files.get(path)
        return None if file is None or not self._shows(path, machine, now) else file.body

    def copies(self, path: str) -> list[bytes]:
        """Return the content of a file as everybody reads it in the end; empty if there is none."""
        return [self.files[path].body] if path in self.files else []

    def since(self, path: str) -> float:
        """Return from when on a file can be seen, but for the lag."""
        return self.files[path].at if path in self.files else inf

    def drop(self, path: str, body: bytes, at: float) -> None:
        """Put a file in from elsewhere."""
        self.put(path, body, None, at)

    def calm(self) -> None:
        """From now on everything works."""
        self.broken = ""

    def damage(self, path: str, body: bytes) -> None:
        """Let a file rot."""
        self.files[path].body = body
        self.folders[path.rpartition("/")[0]].listed = None

    def _shows(self, path: str, machine: object, now: float) -> bool:
        file = self.files.get(path)
        if file is not None:
            return file.writer is machine or now >= file.at + self.lag_s
        inside = self.folders[path].names
        return not inside or any(self._shows(_join(path, name), machine, now) for name in inside)


class View:
    """The store as one process sees it: with errors, pauses and deaths before and after each operation."""

    def __init__(self, shelf: Shelf, world: World, observer: Observer) -> None:
        self.shelf, self.world, self.observer = shelf, world, observer
        self.process: Supervisor | None = None
        self.traits = Traits(settle_s=shelf.settle_s, silence_s=150.0, where="virtual")

    def list(self, folder: str) -> Sequence[Entry]:
        """Return the names that this machine can see by now."""
        self._before(folder)
        at = self.world.now
        found = self.shelf.listing(folder, self._who().machine, at)
        self.world.hazard(self._who())
        self.observer.listed(self._who(), folder, found, at)
        return found

    def read(self, path: str) -> bytes:
        """Return a file's bytes."""
        self._before(path)
        body = self.shelf.seen(path, self._who().machine, self.world.now)
        if body is None:
            raise Missing(f"{path} is not there")
        return body

    def create(self, path: str, body: bytes) -> None:
        """Write a small file once."""
        self._write(path, body)

    def push(self, local: str, path: str, algorithm: str, *, link: bool = False) -> Measured:
        """Copy a local file in once."""
        try:
            body = Path(local).read_bytes()
        except FileNotFoundError as error:
            raise Missing(f"{local} is not there") from error
        measured = _measured(body, algorithm)
        self._write(path, body)
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
        self._remove(path)
        self.observer.deleted(self._who(), path)
        self._after(path)

    def evidence(self, path: str) -> str:
        """Return what proves a file safe; here, that it is there."""
        self._before(path)
        if not self.shelf.copies(path):
            raise Missing(f"{path} is not there")
        return "fsync"

    def sweep(self, _folder: str) -> int:
        """Nothing is ever half-written here."""
        return 0

    def free_bytes(self) -> int | None:
        """Nobody knows."""
        return None

    def flush(self, _within_s: float) -> None:
        """Nothing is held back here."""
        raise UserError("there is nothing to flush", "")

    def _write(self, path: str, body: bytes) -> None:
        self.observer.writing(self._who(), path)
        self._before(path, writes=True)
        self._put(path, body)
        self.observer.written(self._who(), path, body)
        self._after(path)

    def _put(self, path: str, body: bytes) -> None:
        self.shelf.put(path, body, self._who().machine, self.world.now)

    def _remove(self, path: str) -> None:
        self.shelf.remove(path)

    def _who(self) -> Supervisor:
        assert self.process is not None
        return self.process

    def _before(self, path: str, *, writes: bool = False) -> None:
        if ".." in path.split("/"):
            raise StoreError(f"{path} leads out of the store")
        self.world.hazard(self._who())
        broken = self.shelf.broken
        if broken and (broken != "full" or writes):
            self._told(broken)
            raise StoreError(f"{WORDS[broken]} ({path})", broken)
        if self.world.chance.random() < self.world.hostility.error_at_op:
            raise StoreError(f"Input/output error ({path})")

    def _told(self, kind: str) -> None:
        if kind == "full":
            self.observer.short.add(self._who())

    def _after(self, path: str) -> None:
        self.world.hazard(self._who())
        if self.world.chance.random() < self.world.hostility.lost_answer:
            raise StoreError(f"Input/output error, after it was done ({path})")


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _measured(body: bytes, algorithm: str) -> Measured:
    return Measured(len(body), digest_of((body,), algorithm))
