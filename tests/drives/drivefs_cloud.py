"""What the fake Drive is made of, without FUSE: the cloud, which holds whole files, and one machine's cache before it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import threading
import time
from fnmatch import fnmatch
from itertools import count
from pathlib import Path
from typing import Any

SWITCHES: dict[str, Any] = {
    "hang": [],  # kinds of operations that block: "read", "list:*/e0000*", "all"
    "read_errors": {},  # pattern of paths: how many times a file opened to be read gives EIO, -1 for ever
    "write_error": "",  # "ENOSPC", "EDQUOT": writes and new files fail aloud
    "uploads": True,  # off: nothing is ever uploaded, and nobody says so
    "rate": None,  # bytes a second that leave this machine; None: no limit
    "latency_s": 0.02,  # of each upload
    "empty_first": False,  # a new file is in the cloud as an empty one before its content is
    "stale_s": 0.0,  # how late what others did shows here
    "twin_chance": 0.0,  # how likely an upload arrives twice
    "quota_bytes": None,  # of the whole cloud, the trash counted; beyond it uploads stop without a word
    "md5": False,  # whether user.drive.md5 is offered
}


class Cloud:
    """Files arrive whole or not at all; what is deleted lies in a trash that counts against the quota."""

    def __init__(self, folder: Path) -> None:
        self.tree, self.trash, self.incoming = folder / "tree", folder / "trash", folder / "incoming"
        self.events = folder / "events.jsonl"
        for each in (self.tree, self.trash, self.incoming):
            each.mkdir(parents=True, exist_ok=True)
        self._numbers = random.SystemRandom()

    def path(self, name: str) -> Path:
        return self.tree / name.lstrip("/")

    def put(self, name: str, source: Path, *, over: bool) -> str:
        """Take a file, whole; return the name it has. A name that somebody else took meanwhile gets a twin beside it."""
        self.make(name.rpartition("/")[0])
        arriving, target = self.incoming / self._token(), self.path(name)
        shutil.copyfile(source, arriving)
        if over:
            arriving.rename(target)
        else:
            target = _named(arriving, target)
            arriving.unlink()
        found = f"/{target.relative_to(self.tree)}"
        self.note(found, "came")
        return found

    def make(self, name: str) -> None:
        """Make a folder and those above it."""
        if name.strip("/") and not self.path(name).is_dir():
            self.make(name.rpartition("/")[0])
            self.path(name).mkdir(exist_ok=True)
            self.note(name, "came")

    def discard(self, name: str) -> None:
        """Move what is there to the trash."""
        if os.path.lexists(self.path(name)):
            self.path(name).rename(self.trash / self._token())
            self.note(name, "went")

    def used_bytes(self) -> int:
        return sum(size(path) for part in (self.tree, self.trash) for path in inside(part))

    def note(self, name: str, what: str) -> None:
        """Write down when something came or went, so that every machine knows how stale it has to be."""
        line = json.dumps({"name": name, "what": what, "at_s": time.perf_counter()})
        with self.events.open("a") as file:
            file.write(line + "\n")

    def _token(self) -> str:
        return f"{self._numbers.getrandbits(64):016x}"


class Machine:
    """One machine's view: the cloud as it is known here, under what was written here and is not uploaded yet."""

    def __init__(self, cloud: Cloud, cache: Path, seed: int) -> None:
        self.cloud, self.tree, self.tombs = cloud, cache / "tree", cache / "deleted"
        for each in (self.tree, self.tombs):
            each.mkdir(parents=True, exist_ok=True)
        self.switches = dict(SWITCHES)
        self.lock = threading.RLock()
        self.writers: dict[str, int] = {}
        self.changes: dict[str, int] = {}
        self.own: set[str] = set()  # what this machine uploaded shows here at once
        self.over = {name for name in self._dirty() if os.path.lexists(cloud.path(name))}
        self.chance = random.Random(seed)
        self._came: dict[str, float] = {}
        self._read_until = 0

    def find(self, name: str) -> Path | None:
        """Return where the content of a name lies as this machine sees it, or None."""
        cached = self.tree / name.lstrip("/")
        if os.path.lexists(cached):
            return cached
        if self._tomb(name).exists() or not os.path.lexists(self.cloud.path(name)) or self._unseen(name):
            return None
        return self.cloud.path(name)

    def names(self, folder: str) -> list[str]:
        """Return what a folder holds as this machine sees it."""
        places = (self.tree / folder.lstrip("/"), self.cloud.path(folder))
        names = {each.name for place in places if place.is_dir() for each in place.iterdir()}
        return sorted(name for name in names if self.find(f"{folder.rstrip('/')}/{name}"))

    def mutable(self, name: str, *, empty: bool = False) -> Path:
        """Return the cached file of a name for writing; from now on it differs from the cloud's."""
        cached, there = self.tree / name.lstrip("/"), self.find(name)
        cached.parent.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(cached):
            if there is not None:
                self.over.add(name)
            if there is None or empty:
                cached.touch()
            else:
                shutil.copyfile(there, cached)
        self.touch(name)
        return cached

    def touch(self, name: str) -> None:
        """Say that a name's content changed: an upload that is under way is of an older one."""
        self.changes[name] = self.changes.get(name, 0) + 1

    def remove(self, name: str) -> None:
        """Remove a name here at once; the cloud is told later, like everything."""
        cached = self.tree / name.lstrip("/")
        if cached.is_dir():
            shutil.rmtree(cached)
        else:
            cached.unlink(missing_ok=True)
        self.touch(name)
        self.over.discard(name)
        if os.path.lexists(self.cloud.path(name)):
            self._tomb(name).write_text(name)

    def mkdir(self, name: str) -> None:
        (self.tree / name.lstrip("/")).mkdir(parents=True)
        self.touch(name)

    def uncommitted(self, name: str) -> bool:
        """Return whether there is something here that the cloud does not have."""
        cached = self.tree / name.lstrip("/")
        return not self.cloud.path(name).is_dir() if cached.is_dir() else os.path.lexists(cached)

    def id(self, name: str) -> str:
        """Return the cloud's id of a name; an overwritten file keeps its own."""
        there = os.path.lexists(self.cloud.path(name)) and (name in self.over or not self.uncommitted(name))
        digest = hashlib.sha256(name.encode()).hexdigest()[:32]
        return f"1{digest}" if there else f"local-{digest}"

    def pending(self) -> list[str]:
        """Return the names that are not yet in the cloud as they are here, or still there and not here."""
        gone = [tomb.read_text() for tomb in self.tombs.iterdir()]
        return sorted({*self._dirty(), *gone})

    def upload_one(self) -> bool:
        """Upload or delete one of what waits, any of it; False if nothing could be done."""
        with self.lock:
            waiting = [name for name in self.pending() if not self.writers.get(name)]  # what is written to does not go
            waiting = waiting if self.switches["uploads"] else []
            if not waiting:
                return False
            name = self.chance.choice(waiting)
            source, change = self.tree / name.lstrip("/"), self.changes.get(name)
            length = size(source)
            rate = self.switches["rate"]
        time.sleep(self.switches["latency_s"] + (length / rate if rate else 0.0))  # because uploading takes time
        with self.lock:
            if change != self.changes.get(name) or self.writers.get(name) or not self.switches["uploads"]:
                return True
            return self._commit(name, source)

    def _commit(self, name: str, source: Path) -> bool:
        if self._tomb(name).exists():
            self.cloud.discard(name)
            self._tomb(name).unlink()
        if source.is_dir():
            self.cloud.make(name)
        elif os.path.lexists(source):
            quota, before = self.switches["quota_bytes"], size(self.cloud.path(name)) if name in self.over else 0
            if quota is not None and self.cloud.used_bytes() - before + size(source) > quota:
                return False
            if self.switches["empty_first"] and name not in self.over:
                self.own.add(self.cloud.put(name, Path(os.devnull), over=False))
                self.over.add(name)
                return True
            self.own.add(self.cloud.put(name, source, over=name in self.over))
            if self.chance.random() < self.switches["twin_chance"]:
                self.own.add(self.cloud.put(name, source, over=False))
            source.unlink()
            self.over.discard(name)
        self.own.add(name)
        return True

    def _dirty(self) -> list[str]:
        found = [(f"/{path.relative_to(self.tree)}", path) for path in inside(self.tree)]
        return [name for name, path in found if not path.is_dir() or not self.cloud.path(name).is_dir()]

    def _tomb(self, name: str) -> Path:
        return self.tombs / hashlib.sha256(name.encode()).hexdigest()

    def _unseen(self, name: str) -> bool:
        stale_s = self.switches["stale_s"]
        if not stale_s or name in self.own:
            return False
        with self.cloud.events.open() as file:
            file.seek(self._read_until)
            for line in iter(file.readline, ""):
                if not line.endswith("\n"):
                    break
                event = json.loads(line)
                self._came[event["name"]] = event["at_s"]
                self._read_until = file.tell()
        above = name.rpartition("/")[0]
        late = time.perf_counter() - self._came.get(name, -1e9) < stale_s
        return late or (bool(above) and self._unseen(above))


def inside(folder: Path) -> list[Path]:
    """Return all that lies in a folder; what goes away while we look is there or not, which Path.rglob() would fail on."""
    found = os.walk(folder)
    return [Path(above, name) for above, folders, files in found for name in (*folders, *files)]


def size(path: Path) -> int:
    """Return a file's length; a folder, and what went away while we looked, has none."""
    try:
        return 0 if path.is_dir() else path.stat().st_size
    except FileNotFoundError:
        return 0


def matches(pattern: str, path: str) -> bool:
    """Return whether a path is meant; a pattern without a slash means names in any folder."""
    return fnmatch(path if "/" in pattern else path.rpartition("/")[2], pattern)


def _named(arriving: Path, wanted: Path) -> Path:
    """Take the first free one of ``x``, ``x (1)``, ``x (2)``: another machine may upload the same name just now."""
    for number in count():
        target = wanted.with_name(f"{wanted.stem} ({number}){wanted.suffix}") if number else wanted
        with contextlib.suppress(FileExistsError):
            os.link(arriving, target)
            return target
    raise AssertionError
