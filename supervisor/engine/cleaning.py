"""What this product has put on this machine beside its stores, how large it is, what still uses it, and removing it.

Nothing that a process uses is ever removed. Three signs say so, because each misses something: a lock that is held, a
process that names the folder or has a file of it mapped, and a checkpoint that was staged and not proved in a store.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from supervisor.core.claim import rank_of
from supervisor.core.values import dataclass, replace
from supervisor.engine import notes, staged
from supervisor.engine.identity import PROC
from supervisor.engine.place import STATUS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

Kind = Literal["environment", "cache", "run", "tool", "launch"]
# In a private folder; all else in it is the supervisor's own and stays unless everything goes.
_CACHES = {"uv-cache": "downloads of uv", "pip-cache": "downloads of pip", "ready": "answers of earlier starts",
           "interpreters": "notes on Pythons"}  # fmt: skip
STAMP = "complete"  # locked by each process that uses the folder
RESCUED = "holds step {step:,} of {run}, which no store is known to have"


@dataclass(frozen=True, slots=True)
class Places:
    """Where things may lie. ``homes``: private folders. ``runs``: local folders of sessions. The others by their words.

    ``serving``: the machine that a launch still has, as its notes in a folder tell, or "".
    """

    homes: tuple[Path, ...]
    runs: tuple[Path, ...]
    caches: Mapping[Path, str]
    launches: Mapping[Path, str]
    serving: Callable[[Path], str] = lambda _: ""


@dataclass(frozen=True, slots=True)
class Item:
    """A file or folder that may go; ``keeps`` says why it has to stay, or is "". ``beside``: files that go with it."""

    path: Path
    words: str
    kind: Kind
    bytes: int = 0
    keeps: str = ""
    beside: tuple[Path, ...] = ()


def found(places: Places, *, everything: bool) -> list[Item]:
    """Return what may go, with its size; with ``everything``, all that the product put on this machine."""
    items = [item for home in dict.fromkeys(places.homes) for item in _in_home(home, places, everything=everything)]
    items += [Item(path, words, "cache") for path, words in places.caches.items() if _is_there(path)]
    items += [item for root in dict.fromkeys(places.runs) for item in _local_runs(root, everything=everything)]
    if everything:
        items += [Item(path, words, "launch") for path, words in places.launches.items() if _is_there(path)]
    users = _users([item.path for item in items])
    counted: set[tuple[int, int]] = set()
    looked_at = [_looked_at(item, users, counted) for item in items]
    serving = {item.path: places.serving(item.path) for item in looked_at if item.kind == "launch"}
    return [
        replace(item, keeps=f"the machine {serving[item.path]} may live") if serving.get(item.path) else item
        for item in looked_at
    ]


def remove(item: Item) -> bool:
    """Remove an item; return whether it is gone. What began to use it since it was listed stays."""
    if item.keeps or _users([item.path]) or any(_is_held(lock) for lock in _locks_of(item)):
        return False
    with suppress(FileNotFoundError), _held(item):
        _remove(item)
    return not _is_there(item.path)


@contextmanager
def _held(item: Item) -> Iterator[None]:
    """Hold the lock of an environment while it is removed, so that a start that wants it waits and makes it again."""
    lock = next((each for each in item.beside if each.is_file()), None)
    if lock is None:
        yield
        return
    descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove(item: Item) -> None:
    if item.path.is_dir() and not item.path.is_symlink():
        (item.path / STAMP).unlink(missing_ok=True)  # first, so that a part is never taken for a whole one
        shutil.rmtree(item.path, ignore_errors=True)
    else:
        item.path.unlink(missing_ok=True)
    if not _is_there(item.path):
        for each in item.beside:
            each.unlink(missing_ok=True)


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove the folders that are empty now, with what was only for us above them."""
    for folder in folders:
        with suppress(OSError):
            for lock in folder.iterdir():
                if lock.suffix == ".lock" and not _is_held(lock):
                    lock.unlink()
            folder.rmdir()


def local_run(folder: Path) -> Item:
    """Return the local folder of one run, with why it stays."""
    return _looked_at(_run_item(folder), _users([folder]), set())


def _in_home(home: Path, places: Places, *, everything: bool) -> Iterator[Item]:
    for environment in _folders(home / "envs"):
        lock = environment.with_name(f"{environment.name}.lock")
        yield Item(environment, f"packages of a job: {_packages(environment)}", "environment", beside=(lock,))
    for entry in _entries(home):
        if entry.name in _CACHES:
            yield Item(entry, _CACHES[entry.name], "cache")
        elif everything and entry.name != "envs" and entry not in places.runs and entry.suffix != ".lock":
            yield Item(entry, "the supervisor's own packages and tools", "tool")


def _local_runs(root: Path, *, everything: bool) -> Iterator[Item]:
    for folder in _entries(root):
        if not folder.is_dir():
            continue
        item = _run_item(folder)
        if everything and item.keeps and not _held_locks(folder):
            item = replace(item, keeps="", words=f"{item.words}; it {item.keeps}")
        yield item


def _run_item(folder: Path) -> Item:
    steps = [each.id.step for each in staged.staged_on_this_machine(folder)]
    told = [notes.live_status(each / STATUS) or {} for each in _folders(folder) if rank_of(each.name)]
    name = next((str(each["run"]) for each in reversed(told) if each.get("run")), "")
    words = f"what the run {name} left on this machine" if name else "left by runs on this machine"
    keeps = RESCUED.format(step=max(steps), run=name or folder.name) if steps else ""
    return Item(folder, words, "run", keeps=keeps)


def _looked_at(item: Item, users: Mapping[Path, int], counted: set[tuple[int, int]]) -> Item:
    keeps = item.keeps
    if item.path in users:
        keeps = f"process {users[item.path]} uses it"
    elif any(_is_held(lock) for lock in _locks_of(item)):
        keeps = "a process holds its lock"
    return replace(item, bytes=_bytes(item.path, counted), keeps=keeps)


def _locks_of(item: Item) -> Iterator[Path]:
    """Yield the locks by which a process says that it uses an item: beside it, and for small trees inside it."""
    yield from (*item.beside, item.path / STAMP)
    if item.kind in {"cache", "tool"}:
        yield from item.path.parent.glob("*.lock")
        yield from (item.path.parent / "envs").glob("*.lock")
    if item.kind in {"run", "launch"}:
        yield from _held_locks(item.path)


def _held_locks(folder: Path) -> list[Path]:
    found = [Path(above, name) for above, _, names in os.walk(folder) for name in names if _is_lock(name)]
    return [lock for lock in found if _is_held(lock)]


def _is_lock(name: str) -> bool:
    return name == "lock" or name.endswith(".lock")


def _is_held(lock: Path) -> bool:
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # there is none
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _users(paths: Sequence[Path]) -> dict[Path, int]:
    """Return the process that uses each of these, where one does: it names the path, or has a file below it mapped."""
    wanted = {path: os.fsencode(path) for path in paths}
    used: dict[Path, int] = {}
    for process in PROC.glob("[0-9]*"):
        if int(process.name) in {os.getpid(), os.getppid()} or not wanted:
            continue
        said = b"\0".join(_read(process / name) for name in ("cmdline", "environ", "maps"))
        for path, name in wanted.items():
            if path not in used and (name + b"/" in said or name + b"\0" in said):
                used[path] = int(process.name)
    return used


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:  # another user's process, or one that has ended
        return b""


def _bytes(path: Path, counted: set[tuple[int, int]]) -> int:
    """Return the room on the disk; a file with several names counts once, over all items."""
    total = 0
    for folder, folders, names in os.walk(path):
        for name in (*names, *folders):
            total += _blocks(os.path.join(folder, name), counted)  # noqa: PTH118, because a tree may have 200,000 files
    return total + _blocks(str(path), counted)


def _blocks(path: str, counted: set[tuple[int, int]]) -> int:
    try:
        status = os.lstat(path)
    except OSError:  # it has just gone
        return 0
    key = (status.st_dev, status.st_ino)
    if key in counted:
        return 0
    counted.add(key)
    return status.st_blocks * 512


def _packages(environment: Path) -> str:
    try:
        lines = (environment / "lock.txt").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition("==")[0] for line in lines if "==" in line and not line.startswith((" ", "#"))]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") or "begun and not finished"  # noqa: PLR2004  as many as fit a line


def _folders(above: Path) -> list[Path]:
    return [each for each in _entries(above) if each.is_dir()]


def _entries(above: Path) -> list[Path]:
    try:
        return sorted(above.iterdir())
    except OSError:  # there is no such folder
        return []


def _is_there(path: Path) -> bool:
    return os.path.lexists(path)
