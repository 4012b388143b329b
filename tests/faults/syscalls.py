"""The seam between this program and the machine: every os function it calls, numbered, so that the n-th can be bent."""

from __future__ import annotations

import contextlib
import errno
import io
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAMES = (
    "open", "write", "pwrite", "ftruncate", "read", "fsync", "close", "link", "rename", "replace", "unlink", "rmdir", "mkdir", "scandir",
    "listdir", "stat", "lstat", "fstat", "posix_fadvise", "access", "utime",
)  # fmt: skip
MAKING = frozenset({"write", "pwrite", "ftruncate", "fsync", "link", "rename", "replace", "mkdir", "close"})
WRITING = frozenset({"write", "pwrite"})
KILLED = 137
PROC = "/proc"

REAL = {name: getattr(os, name) for name in NAMES}
REAL_IO_OPEN = io.open


@dataclass(frozen=True)
class Call:
    """One call about to happen. ``path`` is what it is about, also for calls on a descriptor; of a link the new name."""

    number: int
    name: str
    real: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    path: str

    def go(self) -> Any:
        return self.real(*self.args, **self.kwargs)

    @property
    def makes(self) -> bool:
        """Whether it needs room or changes something."""
        if self.name == "open":
            flags = self.args[1] if len(self.args) > 1 else self.kwargs.get("mode", 0)
            return bool(flags & os.O_CREAT) if isinstance(flags, int) else str(flags)[0] in "wax"
        return self.name in MAKING


Act = Callable[[Call], Any]


@contextlib.contextmanager
def bent(act: Act) -> Iterator[list[int]]:
    """Pass every call to ``act``, which does it (``call.go()``) or something else. Yields [number of calls so far].

    Calls below /proc are neither passed nor counted: their number depends on which other processes run just then.
    """
    counted = [0]
    paths: dict[int, str] = {}

    def wrap(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            about = args[1 if name == "link" else 0] if args else ""
            path = _path_of(about, kwargs.get("dir_fd"), paths)
            if path.startswith(PROC):
                result = real(*args, **kwargs)
            else:
                counted[0] += 1
                result = act(Call(counted[0], name, real, args, kwargs, path))
            if name == "open" and isinstance(result, int):
                paths[result] = path
            elif name == "close":
                paths.pop(about, None)
            return result

        return wrapper

    for name, real in REAL.items():
        setattr(os, name, wrap(name, real))
    io.open = wrap("open", REAL_IO_OPEN)
    try:
        yield counted
    finally:
        for name, real in REAL.items():
            setattr(os, name, real)
        io.open = REAL_IO_OPEN


def _path_of(about: Any, above: int | None, paths: Mapping[int, str]) -> str:
    """Return the whole path of what a call is about: a descriptor, a path, or one below the descriptor ``above``."""
    if not isinstance(about, int):
        path = str(os.fspath(about))
        return path if above is None else os.path.normpath(f"{_path_of(above, None, paths).rstrip('/')}/{path}")
    if about in paths:
        return paths[about]
    try:
        return str(Path(f"/proc/self/fd/{about}").readlink())  # opened before anybody looked
    except OSError:
        return ""


def straight(call: Call) -> Any:
    return call.go()


def killed_at(number: int, *, torn: bool = False) -> Act:
    """End the process as SIGKILL does just before the call, or in the middle of it if it is a write."""

    def act(call: Call) -> Any:
        if call.number < number:
            return call.go()
        if torn and call.name in WRITING:
            call.real(call.args[0], bytes(call.args[1])[: len(call.args[1]) // 2], *call.args[2:])
        os._exit(KILLED)

    return act


def failing(number: int, code: int, *, lasting: bool, of: str = "", down: Callable[[], bool] = lambda: True) -> Act:
    """Fail the n-th call, and with ``lasting`` all later ones that such a fault would hit, under the path ``of``."""
    only_making = code in {errno.ENOSPC, errno.EDQUOT, errno.EROFS}

    def act(call: Call) -> Any:
        due = call.number >= number if lasting else call.number == number
        if not due or not down() or not call.path.startswith(of) or (only_making and not call.makes):
            return call.go()
        if call.name == "close":
            call.go()
            if only_making and code == errno.EROFS:
                return None
        raise OSError(code, os.strerror(code), call.path)

    return act


def mangled(number: int, how: str, *, lasting: bool, of: str, down: Callable[[], bool] = lambda: True) -> Act:
    """Let writes be "short", "lost" (said to be whole, only half is there) or "garbage" (said to be whole)."""

    def act(call: Call) -> Any:
        due = call.number >= number if lasting else call.number == number
        if call.name not in WRITING or not due or not down() or not call.path.startswith(of) or len(call.args[1]) < 2:
            return call.go()
        fd, body, *at = call.args[0], bytes(call.args[1]), *call.args[2:]
        if how == "short":
            return call.real(fd, body[: len(body) // 2], *at)
        call.real(fd, body[: len(body) // 2] if how == "lost" else bytes(len(body)), *at)
        return len(body)

    return act
