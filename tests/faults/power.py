"""A model of a disk that loses power: what a call changed is kept for certain only once it was flushed.

A file keeps what its last fsync saw, and of later writes nothing, half or all; a folder keeps the names that its last
fsync saw, and of later changes of names any. (A rename is one change: the disk keeps it or does not.) Of a file that
comes in from another folder of the disk by a link nothing is kept for certain, until it is flushed from here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.faults import syscalls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(eq=False)
class File:
    now: bytearray = field(default_factory=bytearray)
    flushed: bytes = b""

    def may_be(self) -> list[bytes]:
        """What a power loss may leave: what was flushed, all, a half, or the right length with nothing in it."""
        now = bytes(self.now)
        if now == self.flushed:
            return [now] * 4
        return [now, self.flushed, now[: len(now) // 2], bytes(len(now))]


@dataclass(eq=False)
class Folder:
    now: dict[str, File | Folder] = field(default_factory=dict)
    flushed: dict[str, File | Folder] = field(default_factory=dict)
    pending: list[dict[str, File | Folder | None]] = field(default_factory=list)

    def change(self, names: dict[str, File | Folder | None]) -> None:
        self.pending.append(names)
        _apply(self.now, names)

    def flush(self) -> None:
        self.flushed, self.pending = dict(self.now), []


def _apply(names: dict[str, File | Folder], changes: dict[str, File | Folder | None]) -> None:
    for name, node in changes.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


class Disk:
    """Follows the calls below ``root`` and can build what is left of it after a power loss."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.top = _read(root)
        self._open: dict[int, File | Folder] = {}
        self._outside: dict[str, File] = {}

    def act(self, call: syscalls.Call) -> Any:
        """Do the call and follow it."""
        result = call.go()
        follow = getattr(self, f"follow_{call.name}", None)
        if follow is not None and self._parts(call) is not None:
            follow(call, result)
        return result

    def states(self) -> Iterator[tuple[str, Folder, Choice]]:
        """Yield what a power loss now may leave: all, nothing, and each single change kept or lost alone."""
        changes = [(folder, index) for folder in _folders(self.top) for index in range(len(folder.pending))]
        files = [file for file in _files(self.top) if bytes(file.now) != file.flushed]
        yield "nothing unflushed is kept", self.top, Choice(lambda _f, _i: False, lambda file: file.may_be()[1])
        yield "all names and no bytes", self.top, Choice(lambda _f, _i: True, lambda file: file.may_be()[3])
        yield "all names and half the bytes", self.top, Choice(lambda _f, _i: True, lambda file: file.may_be()[2])
        yield "all bytes and no names", self.top, Choice(lambda _f, _i: False, _all)
        for lost in changes:
            yield "one name is lost", self.top, Choice(lambda f, i, lost=lost: (f, i) != lost, _all)
            yield "one name is kept", self.top, Choice(lambda f, i, lost=lost: (f, i) == lost, _all)
        for torn in files:
            for body in torn.may_be()[1:]:
                yield (
                    "one file is torn",
                    self.top,
                    Choice(
                        lambda _f, _i: True,
                        lambda file, torn=torn, body=body: body if file is torn else bytes(file.now),
                    ),
                )

    def _parts(self, call: syscalls.Call) -> tuple[str, ...] | None:
        try:
            return Path(call.path).relative_to(self.root).parts
        except ValueError:
            return None

    def _folder(self, parts: tuple[str, ...]) -> Folder:
        node: File | Folder = self.top
        for part in parts:
            assert isinstance(node, Folder)
            node = node.now[part]
        assert isinstance(node, Folder)
        return node

    def _node(self, call: syscalls.Call) -> tuple[Folder, str]:
        parts = self._parts(call)
        assert parts
        return self._folder(parts[:-1]), parts[-1]

    def follow_open(self, call: syscalls.Call, descriptor: Any) -> None:
        if not isinstance(descriptor, int):
            return  # a file object of a test that reads
        if not self._parts(call):
            self._open[descriptor] = self.top
            return
        folder, name = self._node(call)
        if name not in folder.now:
            folder.change({name: File()})
        node = folder.now[name]
        if isinstance(node, File) and call.args[1] & os.O_TRUNC:
            node.now.clear()
        self._open[descriptor] = node

    def follow_write(self, call: syscalls.Call, written: int) -> None:
        node = self._open[call.args[0]]
        assert isinstance(node, File)
        node.now += bytes(call.args[1])[:written]

    def follow_pwrite(self, call: syscalls.Call, written: int) -> None:
        node, at = self._open[call.args[0]], call.args[2]
        assert isinstance(node, File)
        node.now[at : at + written] = bytes(call.args[1])[:written]

    def follow_ftruncate(self, call: syscalls.Call, _: None) -> None:
        node = self._open[call.args[0]]
        assert isinstance(node, File)
        del node.now[call.args[1] :]

    def follow_fsync(self, call: syscalls.Call, _: None) -> None:
        node = self._open[call.args[0]]
        if isinstance(node, Folder):
            node.flush()
        else:
            node.flushed = bytes(node.now)

    def follow_close(self, call: syscalls.Call, _: None) -> None:
        self._open.pop(call.args[0], None)

    def follow_mkdir(self, call: syscalls.Call, _: None) -> None:
        folder, name = self._node(call)
        folder.change({name: Folder()})

    def follow_unlink(self, call: syscalls.Call, _: None) -> None:
        folder, name = self._node(call)
        folder.change({name: None})

    follow_rmdir = follow_unlink

    def follow_link(self, call: syscalls.Call, _: None) -> None:
        folder, name = self._node(call)
        folder.change({name: self._source(Path(call.args[0]))})

    def _source(self, path: Path) -> File | Folder:
        try:
            parts = path.relative_to(self.root).parts
            return self._folder(parts[:-1]).now[parts[-1]]
        except (ValueError, KeyError):  # not followed: nobody knows whether it was flushed
            with syscalls.REAL_IO_OPEN(path, "rb") as file:
                return self._outside.setdefault(str(path), File(bytearray(file.read())))

    def follow_rename(self, call: syscalls.Call, _: None) -> None:
        folder, name = self._node(call)
        target = Path(call.args[1])
        assert target.parent == Path(call.path).parent, "a rename to another folder is not modelled"
        folder.change({name: None, target.name: folder.now[name]})


@dataclass(frozen=True)
class Choice:
    """Which pending changes of names are kept, and what each file holds."""

    keeps: Callable[[Folder, int], bool]
    body: Callable[[File], bytes]

    def build(self, top: Folder, at: Path) -> None:
        at.mkdir()
        names = dict(top.flushed)
        for index, changes in enumerate(top.pending):
            if self.keeps(top, index):
                _apply(names, changes)
        for name, node in names.items():
            if isinstance(node, Folder):
                self.build(node, at / name)
            else:
                (at / name).write_bytes(self.body(node))


def _all(file: File) -> bytes:
    return bytes(file.now)


def _read(path: Path) -> Folder:
    read: dict[str, File | Folder] = {}
    for each in path.iterdir():
        body = b"" if each.is_dir() else each.read_bytes()
        read[each.name] = _read(each) if each.is_dir() else File(bytearray(body), body)
    return Folder(read, dict(read))


def _folders(top: Folder) -> Iterator[Folder]:
    yield top
    for node in {id(each): each for each in (*top.now.values(), *top.flushed.values())}.values():
        if isinstance(node, Folder):
            yield from _folders(node)


def _files(top: Folder) -> list[File]:
    found = {id(node): node for folder in _folders(top) for node in folder.now.values() if isinstance(node, File)}
    return list(found.values())
