"""A mounted drive in memory, as hostile as design/store.md says (D1-D12): the cloud, and each machine's mount of it.

What is written lies in the machine's cache and is uploaded later, whole and in any order, perhaps after its own deletion;
what was not uploaded dies with the machine or with its cache. Others see names late, and content empty or half before
it is whole. Names come twice. The client may call a file uploaded in the moment before it begins with it.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass
from functools import lru_cache
from math import inf
from typing import TYPE_CHECKING

from supervisor.core.ports import Entry, Missing, StoreError, Taken, Unconfirmed

if TYPE_CHECKING:
    from random import Random

    from tests.simulation.world import Machine, World

SETTLE_S = 60.0
CONFIRM_EVERY_S = 5.0
FLICKER_S = 3.0  # shorter than a session waits before it asks again, or nothing on such a drive could be believed
RETRY_S = 60.0


@dataclass(eq=False, slots=True)
class Item:
    """A file in the cloud. Until ``whole_at`` others read ``part`` of it, from ``cut_at`` on nothing."""

    body: bytes
    part: bytes
    at: float
    whole_at: float = inf
    cut_at: float = inf
    gone_at: float = inf
    unreadable_until: float = 0.0
    entry: Entry | None = None

    def shown(self, name: str, as_of: float) -> Entry:
        """Return how a listing shows it."""
        size = len(self.content(as_of))
        if self.entry is None or self.entry.bytes != size:
            self.entry = Entry(name, False, size)
        return self.entry

    def content(self, as_of: float) -> bytes:
        """Return what a reader gets whose view is so old."""
        if as_of >= self.cut_at:
            return b""
        return self.body if as_of >= self.whole_at else self.part


@dataclass(eq=False, slots=True)
class Branch:
    """A folder in the cloud."""

    at: float
    gone_at: float = inf
    entry: Entry | None = None

    def shown(self, name: str, _as_of: float) -> Entry:
        """Return how a listing shows it."""
        if self.entry is None:
            self.entry = Entry(name, folder=True)
        return self.entry


@dataclass(eq=False, slots=True)
class Mine:
    """A file that was written on this machine.

    ``item`` is what became of it in the cloud; ``lie_at`` is when the client is wrong about it for a moment.
    """

    body: bytes
    entry: Entry
    lie_at: float = inf
    item: Item | None = None
    dropped: bool = False


@dataclass(slots=True)
class Weather:
    """What a mount, or the whole drive, suffers from now, and until when."""

    kind: str = ""
    until: float = 0.0

    def now(self, at: float) -> str:
        return self.kind if at < self.until else ""


@dataclass
class Habits:
    """How this drive is; drawn once for each."""

    lag_s: float
    upload_s: float
    torn: float = 0.1
    twin: float = 0.004
    twin_folder: float = 0.01
    lie: float = 0.2
    resurrect: float = 0.1
    evidence: bool = True

    @classmethod
    def drawn(cls, chance: Random, twin: float) -> Habits:
        lag_s = chance.choice([0.0, 2.0, 10.0, 10.0, 45.0])
        return cls(lag_s, chance.choice([1.0, 5.0, 20.0, 60.0]), twin=chance.choice([0.0, twin]))


class Drive:
    """The cloud: what there really is. Implements what the observer asks of a Shelf."""

    mounted = True
    settle_s = SETTLE_S

    def __init__(self, world: World, habits: Habits) -> None:
        self.world, self.habits, self.lag_s = world, habits, habits.lag_s
        self.tree: dict[str, dict[str, Item | Branch]] = {"": {}}
        self.order: dict[str, list[str]] = {"": []}
        self.broken = ""  # the kind of error that everybody gets now; "" none
        self.stuck_until = 0.0  # nothing is uploaded any more, and nobody is told: over quota
        self.counts: dict[str, int] = {}
        self._mounts: dict[Machine, Mount] = {}
        self._twins: dict[str, str] = {}

    def mount(self, machine: Machine) -> Mount:
        """Return a machine's mount."""
        if machine not in self._mounts:
            self._mounts[machine] = Mount(self, machine)
        return self._mounts[machine]

    def mounts(self) -> list[Mount]:
        """Return the mounts of machines that are there."""
        return [each for machine, each in self._mounts.items() if not machine.gone]

    def calm(self) -> None:
        """From now on everything works that is not lost."""
        self.broken, self.stuck_until = "", 0.0
        for mount in self._mounts.values():
            mount.trouble = Weather()
        for known in self.tree.values():
            for each in known.values():
                if isinstance(each, Item):
                    each.unreadable_until = 0.0

    def drop(self, path: str, body: bytes, at: float) -> None:
        """Put a file in from elsewhere: somebody uses the web page."""
        self.enter(path, Item(body, body, at, at))

    def enter(self, path: str, item: Item) -> None:
        """A file appears, in folders that appear before it, as a twin if there is one of its name."""
        above, _, name = path.rpartition("/")
        name = next(each for each in names_of(name) if self._is_free(above, each))
        parts = above.split("/")
        for depth in range(1, len(parts) + 1):
            folder = "/".join(parts[:depth])
            over, _, own = folder.rpartition("/")
            known = self.tree[over].get(own)
            if isinstance(known, Branch):
                known.gone_at = inf  # removed meanwhile, it is there again
                continue
            self.tree[folder], self.order[folder] = {}, []
            self._add(over, own, Branch(item.at))
        self._add(above, name, item)

    def place(self, path: str) -> str:
        """Return under which path a file of this name lands: a drive may have made its folder twice."""
        chance, habits = self.world.chance, self.habits
        parts = path.split("/")
        for depth in range(2, len(parts)):
            folder = "/".join(parts[:depth])
            if folder not in self.tree and folder not in self._twins:
                twin = chance.random() < habits.twin_folder and habits.twin
                self._twins[folder] = f"{folder} (1)" if twin else ""
                self.count("twin folders", twin)
            if self._twins.get(folder) and chance.random() < 0.5:
                parts[:depth] = self._twins[folder].split("/")
        return "/".join(parts)

    def since(self, path: str) -> float:
        """Return from when on a file can be seen on other machines; infinity if it cannot yet."""
        return min((item.at for item in self._items(path)), default=inf)

    def copies(self, path: str) -> list[bytes]:
        """Return the whole content under a name and under those of its twins, as everybody reads it in the end."""
        return [item.body for item in self._items(path) if item.whole_at < inf and item.cut_at == inf]

    def damage(self, path: str, body: bytes) -> None:
        """Let a file rot, with its twins."""
        for item in self._items(path):
            item.body = body

    def unreadable(self, path: str, until: float) -> None:
        """Whoever reads this file gets EIO, for a while or for ever."""
        for item in self._items(path):
            item.unreadable_until = until

    def count(self, name: str, happens: object = True) -> None:
        """Count what this drive did to its users."""
        if happens:
            self.counts[name] = self.counts.get(name, 0) + 1

    def _items(self, path: str) -> list[Item]:
        folders = [""]
        *above, name = path.split("/")
        for part in above:
            folders = [
                f"{folder}/{each}" if folder else each
                for folder in folders
                for each in (part, f"{part} (1)")
                if each in self.tree.get(folder, {})
            ]
        named = (self.tree.get(folder, {}).get(each) for folder in folders for each in names_of(name))
        return [each for each in named if isinstance(each, Item) and each.gone_at == inf]

    def _is_free(self, folder: str, name: str) -> bool:
        there = self.tree.get(folder, {}).get(name)
        return there is None or there.gone_at < inf

    def _add(self, folder: str, name: str, new: Item | Branch) -> None:
        if name not in self.tree[folder]:
            insort(self.order[folder], name)
        self.tree[folder][name] = new


class Mount:
    """What one machine has of the drive: its cache, and a view of the others' files that may be old."""

    def __init__(self, drive: Drive, machine: Machine) -> None:
        self.drive, self.world, self.machine = drive, drive.world, machine
        self.trouble = Weather()
        self.mine: dict[str, dict[str, Mine | None]] = {"": {}}
        self.hidden: set[str] = set()
        self._cache = 0  # counts those that were lost
        self._views: dict[str, tuple[float, float]] = {}

    def listing(self, folder: str) -> tuple[Entry, ...]:
        """Return what this machine sees in a folder."""
        as_of, hidden = self._as_of(folder), self.hidden
        known, mine = self.drive.tree.get(folder), self.mine.get(folder, {})
        found = []
        for name in self.drive.order.get(folder, ()):
            each = known[name]  # type: ignore[index]
            if each.at <= as_of < each.gone_at and name not in mine and _join(folder, name) not in hidden:
                found.append(each.shown(name, as_of))
        for name, own in mine.items():
            if own is None:
                found.append(_folder(name))
            elif own.item is None or own.item.gone_at > as_of:
                found.append(own.entry)
        return tuple(found)

    def seen(self, path: str) -> bytes | None:
        """Return what this machine reads in a file, None if it is not there for it."""
        above, _, name = path.rpartition("/")
        as_of = self._as_of(above)
        own = self.mine.get(above, {}).get(name)
        if own is not None and (own.item is None or own.item.gone_at > as_of):
            return own.body
        item = self.drive.tree.get(above, {}).get(name)
        if not isinstance(item, Item) or path in self.hidden or not item.at <= as_of < item.gone_at:
            return None
        if self.world.now < item.unreadable_until:
            raise StoreError(f"Input/output error ({path})")
        return item.content(as_of)

    def put(self, path: str, body: bytes) -> None:
        """Write into the cache; it is sent later."""
        if self.seen(path) is not None:
            raise Taken(f"{path} exists already")
        now, chance, habits = self.world.now, self.world.chance, self.drive.habits
        inside, own = path, Mine(body, Entry(path.rpartition("/")[2], False, len(body)))
        what: Mine | None = own
        while inside:
            above, _, name = inside.rpartition("/")
            known = self.mine.setdefault(above, {})
            if what is None and name in known:
                break
            known[name] = what
            self.hidden.discard(inside)
            inside, what = above, None
        delay_s = chance.expovariate(1 / habits.upload_s)
        if chance.random() < habits.lie:
            own.lie_at = now + chance.choice([0.0, chance.uniform(0, delay_s)])
        self._later(delay_s, lambda: self._send(path, own))

    def remove(self, path: str) -> None:
        """Remove a file or an empty folder here; the cloud hears of it later, perhaps before it has the file."""
        above, _, name = path.rpartition("/")
        chance, habits = self.world.chance, self.drive.habits
        if path in self.drive.tree or path in self.mine:
            if self.listing(path):
                raise StoreError(f"Directory not empty ({path})")
            self.mine.pop(path, None)
        own = self.mine.get(above, {}).pop(name, None)
        self.hidden.add(path)
        if own is not None and own.item is None and chance.random() >= habits.resurrect:
            own.dropped = True
        there = own.item if own is not None and own.item is not None else self.drive.tree.get(above, {}).get(name)
        delay_s = chance.expovariate(1 / habits.upload_s)
        if isinstance(there, Item):
            self._later(delay_s / 2, lambda: self._cut(there))
            self._later(delay_s, lambda: self._end(there))
        elif isinstance(there, Branch):
            self._later(delay_s, lambda: self._close(path, there))

    def evidence(self, path: str) -> str:
        """Say what the client says: whether a file has been uploaded. It may be wrong for a moment."""
        if not self.drive.habits.evidence:
            raise Unconfirmed(f"{path}: this mount never tells", possible=False)
        above, _, name = path.rpartition("/")
        own = self.mine.get(above, {}).get(name)
        if own is None or (own.item is not None and own.item.gone_at < inf):
            if self.seen(path) is None:
                raise Missing(f"{path} is not there")
            return "drivefs"  # what was not written here has nothing left to be uploaded
        now = self.world.now
        if own.item is not None and own.item.whole_at <= now:
            return "drivefs"
        if own.lie_at <= now < own.lie_at + FLICKER_S:
            self.drive.count("lies of the client")
            return "drivefs"
        raise Unconfirmed(f"{path} is not uploaded yet")

    def flush(self) -> None:
        """Send everything at once."""
        for folder, names in [*self.mine.items()]:
            for name, own in [*names.items()]:
                if own is not None and own.item is None:
                    self._send(_join(folder, name), own)
                if own is not None and own.item is not None:
                    own.item.whole_at = min(own.item.whole_at, self.world.now)

    def lose_cache(self) -> None:
        """The mount comes back with an empty cache: what was not uploaded is nowhere, what was seen is seen anew."""
        self._cache += 1
        self.drive.count("caches lost")
        self.mine, self._views = {"": {}}, {}
        self.hidden = set()

    def _as_of(self, folder: str) -> float:
        as_of, until = self._views.get(folder, (-1.0, -1.0))
        now, lag_s = self.world.now, self.drive.lag_s
        if now < until:
            return as_of
        if lag_s:
            chance = self.world.chance
            as_of = max(as_of, now - chance.uniform(0, lag_s / 2))
            self._views[folder] = (as_of, now + chance.uniform(0, lag_s / 2))
            return as_of
        return now

    def _later(self, seconds: float, act: object) -> None:
        cache = self._cache
        self.world.after(seconds, None, lambda: self._now(cache, act))

    def _now(self, cache: int, act: object) -> None:
        """The client works on its list, unless that is lost; while nothing gets through, later."""
        if self.machine.gone or cache != self._cache:
            return
        now, chance = self.world.now, self.world.chance
        if now < self.drive.stuck_until or self.trouble.now(now) == "gone":
            self._later(RETRY_S * chance.random(), act)
            return
        act()  # type: ignore[operator]

    def _send(self, path: str, own: Mine) -> None:
        if own.dropped or own.item is not None:
            self.drive.count("deletions that overtook", own.dropped)
            return
        now, chance, habits = self.world.now, self.world.chance, self.drive.habits
        where = self.drive.place(path)
        part = own.body[: len(own.body) // chance.choice([2, len(own.body) + 1])]
        own.item = Item(own.body, part, now)
        if chance.random() < habits.twin:  # what came first gets no further; the second try makes a second name
            self.drive.count("twins")
            first = chance.choice([part, own.body])
            self.drive.enter(where, Item(own.body, first, now, now if first == own.body else inf))
        self.drive.enter(where, own.item)
        if chance.random() < habits.torn:
            self._later(chance.expovariate(1 / habits.upload_s), lambda: self._whole(own.item))
        else:
            own.item.whole_at = now

    def _whole(self, item: Item | None) -> None:
        assert item is not None
        item.whole_at = self.world.now

    def _cut(self, item: Item) -> None:
        item.cut_at = min(item.cut_at, self.world.now)

    def _end(self, item: Item) -> None:
        item.gone_at = min(item.gone_at, self.world.now)

    def _close(self, path: str, branch: Branch) -> None:
        """A folder goes when its files are gone; the deletion of one may be still on its way, or lost."""
        now = self.world.now
        if all(each.gone_at <= now for each in self.drive.tree.get(path, {}).values()):
            branch.gone_at = now
        elif path in self.hidden:
            self._later(RETRY_S, lambda: self._close(path, branch))


@lru_cache(maxsize=4096)
def _folder(name: str) -> Entry:
    return Entry(name, folder=True)


@lru_cache(maxsize=4096)
def names_of(name: str) -> tuple[str, ...]:
    """Return the names that a drive shows for several files of one name."""
    stem, dot, suffix = name.rpartition(".")
    twins = (f"{stem} ({n}){dot}{suffix}" if dot else f"{name} ({n})" for n in range(1, 9))
    return (name, *twins)


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
