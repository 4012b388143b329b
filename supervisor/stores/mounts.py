"""The machine's mount table: which mount a path lies on, told without touching the path, because a dead mount hangs."""

from __future__ import annotations

import os
import re

from supervisor.core.values import dataclass

TABLE_PATH = "/proc/self/mountinfo"
LINKS_MAX = 40
# They pass every call on to a disk of this machine, so its fsync is theirs.
_LOCAL_KINDS = frozenset(
    {"bindfs", "encfs", "fuse-overlayfs", "gocryptfs", "lxcfs", "mergerfs", "ntfs-3g", "overlayfs", "unionfs"}
)
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of the table (proc_pid_mountinfo(5)). ``device`` is "major:minor", which is the st_dev of what lies on it."""

    id: int
    parent: int
    device: str
    root: str
    point: str
    fstype: str
    source: str


def mounts(table_path: str = TABLE_PATH) -> tuple[Mount, ...]:
    """Read the table, oldest mount first; empty where the system has none."""
    try:
        fd = os.open(table_path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return ()
    with os.fdopen(fd, "rb") as opened:
        lines = os.fsdecode(opened.read()).split("\n")
    return tuple(_parsed(line) for line in lines if " - " in line)


def mount_of(path: str, table: tuple[Mount, ...]) -> Mount | None:
    """Return the mount that a path lies on; None where the table has none."""
    return located(path, table)[1]


def located(path: str, table: tuple[Mount, ...]) -> tuple[str, Mount | None]:
    """Return a path without the symbolic links on the way to its mount, and that mount.

    Links are followed up to a drive and not on it: asking a drive anything may hang.
    """
    todo, done, links = _parts(os.path.abspath(path)), "/", 0
    while todo:
        name = todo.pop(0)
        if name == "..":
            done = os.path.dirname(done)
            continue
        step = os.path.join(done, name)
        mount = _mount_at(step, table)
        if mount is not None and is_drive(mount):
            return os.path.normpath(os.path.join(step, *todo)), mount
        target = _link(step) if links < LINKS_MAX else None
        if target is None:
            done = step
            continue
        links += 1
        todo = _parts(target) + todo
        done = "/" if target.startswith("/") else done
    return done, _mount_at(done, table)


def drive_of(path: str, table: tuple[Mount, ...]) -> Mount | None:
    """Return the drive that a path lies on, None if it lies on a disk of this machine."""
    mount = mount_of(path, table)
    return mount if mount is not None and is_drive(mount) else None


def is_drive(mount: Mount) -> bool:
    """Whether a process of this machine serves it (FUSE), that may hang, vanish, and say "written" long before it is."""
    kind, _, served_by = mount.fstype.partition(".")
    return kind == "fuse" and served_by not in _LOCAL_KINDS and mount.point != "/"


def is_mount_point(path: str, table_path: str = TABLE_PATH) -> bool:
    """Whether something is mounted at a path. os.path.ismount asks the mount, and hangs with it."""
    full, mount = located(path, mounts(table_path))
    return mount is not None and mount.point == full


def kind_at(path: str, table_path: str = TABLE_PATH) -> str:
    """Return what kind of file system is mounted at a path, like "fuse.drive"; "" where nothing is."""
    full, mount = located(path, mounts(table_path))
    return mount.fstype if mount is not None and mount.point == full else ""


def _mount_at(path: str, table: tuple[Mount, ...]) -> Mount | None:
    """Walk down from the root as the kernel does: what is mounted on top covers what lies below, deeper mounts too."""
    ids = {each.id for each in table}
    above = {(each.parent, each.point): each for each in table if each.parent != each.id}
    roots = [each for each in table if each.point == "/" and (each.parent not in ids or each.parent == each.id)]
    if not roots:
        return _nearest(path, table)
    mount, here = roots[-1], "/"
    for name in ["", *_parts(path)]:
        here = os.path.join(here, name) if name else here
        while (upper := above.get((mount.id, here))) is not None:
            mount = upper
    return mount


def _nearest(path: str, table: tuple[Mount, ...]) -> Mount | None:
    """In a table without the root (a bare chroot), the longest point wins, and of several there the newest."""
    found = [each for each in table if f"{path}/".startswith(f"{each.point.rstrip('/')}/")]
    return max(enumerate(found), key=lambda each: (len(each[1].point), each[0]))[1] if found else None


def _parsed(line: str) -> Mount:
    left, _, right = line.partition(" - ")
    id_, parent, device, root, point = left.split(" ")[:5]
    fstype, source = right.split(" ")[:2]
    return Mount(int(id_), int(parent), device, *map(_decoded, (root, point, fstype, source)))


def _decoded(text: str) -> str:
    """Undo the octal escapes of blanks; the bytes are those of a name, in whatever encoding it has."""
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), text)


def _link(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None  # no link, or nothing there: then the rest of the path is what it says


def _parts(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in {"", "."}]
