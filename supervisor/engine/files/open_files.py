"""Which files the trainer's processes have open for writing, or mapped: what /proc tells, nothing where there is none."""

# ruff: noqa: PTH208, PTH115, PTH123, because there are thousands of these and a Path for each takes longer than the asking

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from supervisor.engine.identity import PROC

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Opened(NamedTuple):
    """Absolute paths: ``appended`` are open for nothing but to add at their end."""

    written: frozenset[str] = frozenset()
    appended: frozenset[str] = frozenset()


def opened_for_writing(root: Path, leader: int, proc: Path = PROC) -> Opened:
    """Return the files under ``root`` that processes of the process session ``leader`` may still write into."""
    above = f"{os.path.realpath(root)}/"
    written: set[str] = set()
    appended: set[str] = set()
    for process in _of_session(leader, proc):
        for path, flags in _descriptors(process):
            if path.startswith(above) and flags & (os.O_WRONLY | os.O_RDWR):
                (appended if flags & os.O_APPEND else written).add(path)
        written.update(path for path in _mapped(process) if path.startswith(above))
    return Opened(frozenset(written), frozenset(appended - written))


def _of_session(leader: int, proc: Path) -> Iterator[str]:
    try:
        names = os.listdir(proc)
    except OSError:
        return
    for name in names:
        if name.isdecimal():
            try:
                if os.getsid(int(name)) == leader:
                    yield f"{proc}/{name}"
            except OSError:
                continue  # gone meanwhile


def _descriptors(process: str) -> Iterator[tuple[str, int]]:
    try:
        numbers = os.listdir(f"{process}/fd")
    except OSError:
        return
    for number in numbers:
        try:
            path = os.readlink(f"{process}/fd/{number}")
            if not path.startswith("/") or path.startswith("/dev/"):
                continue
            with open(f"{process}/fdinfo/{number}", encoding="ascii") as told:
                line = next((each for each in told if each.startswith("flags:")), "flags: 0")
        except OSError:
            continue
        yield path, int(line.split()[1], 8)


def _mapped(process: str) -> Iterator[str]:
    """Yield what is mapped so that a write to memory is one to the file: of that nobody else is told."""
    try:
        with open(f"{process}/maps", encoding="utf-8", errors="surrogateescape") as told:
            for line in told:
                words = line.rstrip("\n").split(maxsplit=5)
                if len(words) == 6 and words[1].startswith("rw") and words[1][3] == "s":  # noqa: PLR2004
                    yield words[5].replace("\\012", "\n")
    except OSError:
        return
