"""The machine's mount table. It finds the mount of a path without touching the path, because a dead mount hangs."""

from __future__ import annotations

import os
import re

from supervisor.core.frozen import dataclass

TABLE_PATH = "/proc/self/mountinfo"
LINKS_MAX = 40
# They pass each call on to a local disk, so its fsync holds for them.
_LOCAL_KINDS = frozenset(
    {"bindfs", "encfs", "fuse-overlayfs", "gocryptfs", "lxcfs", "mergerfs", "ntfs-3g", "overlayfs", "unionfs"}
)
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of the table (proc_pid_mountinfo(5)). ``device`` is "major:minor", the st_dev of the files on it."""

    id: int
    parent: int
    device: str
    root: str
    point: str
    fstype: str
    source: str


def mounts(table_path: str = TABLE_PATH) -> tuple[Mount, ...]:
    """Read the table, oldest mount first; empty if the system has none."""
    try:
        fd = os.open(table_path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return ()
    with os.fdopen(fd, "rb") as opened:
        lines = os.fsdecode(opened.read()).split("\n")
    return tuple(_parse(line) for line in lines if " - " in line)


def mount_of(path: str, table: tuple[Mount, ...]) -> Mount | None:
    """Return the mount that a path lies on; None if the table has none."""
    return resolve_to_mount(path, table)[1]


def resolve_to_mount(path: str, table: tuple[Mount, ...]) -> tuple[str, Mount | None]:
    """Return a path with the symbolic links up to its mount resolved, and that mount.

    Links on a drive are not followed: any access to a drive may hang.
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
    """Return the drive that a path lies on; None if it lies on a local disk."""
    mount = mount_of(path, table)
    return mount if mount is not None and is_drive(mount) else None


def is_drive(mount: Mount) -> bool:
    """Return True for a mount served by a local process (FUSE).

    It may hang, vanish, or report a write before the upload.
    """
    kind, _, served_by = mount.fstype.partition(".")
    return kind == "fuse" and served_by not in _LOCAL_KINDS and mount.point != "/"


def is_mount_point(path: str, table_path: str = TABLE_PATH) -> bool:
    """Return True if a mount is at this path. os.path.ismount() asks the mount, and hangs with it."""
    full, mount = resolve_to_mount(path, mounts(table_path))
    return mount is not None and mount.point == full


def kind_at(path: str, table_path: str = TABLE_PATH) -> str:
    """Return the type of file system mounted at a path, like "fuse.drive"; "" if none is."""
    full, mount = resolve_to_mount(path, mounts(table_path))
    return mount.fstype if mount is not None and mount.point == full else ""


def _mount_at(path: str, table: tuple[Mount, ...]) -> Mount | None:
    """Walk down from the root as the kernel does. A later mount covers those below it, deeper mounts included."""
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
    """Return the mount with the longest point, the newest of several, in a table without the root (a bare chroot)."""
    found = [each for each in table if f"{path}/".startswith(f"{each.point.rstrip('/')}/")]
    return max(enumerate(found), key=lambda each: (len(each[1].point), each[0]))[1] if found else None


def _parse(line: str) -> Mount:
    left, _, right = line.partition(" - ")
    id_, parent, device, root, point = left.split(" ")[:5]
    fstype, source = right.split(" ")[:2]
    return Mount(int(id_), int(parent), device, *map(_unescape, (root, point, fstype, source)))


def _unescape(text: str) -> str:
    """Undo the octal escapes of blanks. The bytes are those of a name in any encoding."""
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), text)


def _link(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None  # no link, or absent: the rest of the path is taken literally


def _parts(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in {"", "."}]
