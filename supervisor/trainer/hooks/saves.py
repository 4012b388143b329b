"""What the script's own saving writes: each file or folder is told once, when all that belongs to it is written.

A save inside a save (a folder of a Trainer, made of many files) is part of the outer one. What is then renamed or copied,
as careful scripts do, is told under its new name too.
"""

from __future__ import annotations

import os
import shutil
import threading
import weakref
from collections import OrderedDict
from contextlib import contextmanager, suppress
from functools import wraps
from typing import TYPE_CHECKING, Any

from supervisor.trainer.hooks.guard import guarded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from supervisor.trainer.hooks.unattached import Unattached

FOLLOWED_MAX = 64
MOVES = (
    (os, "replace"), (os, "rename"), (os, "renames"), (os, "link"), (os, "symlink"), (shutil, "copyfile"),
    (shutil, "copytree"), (shutil, "move"),
)  # fmt: skip
GOES = frozenset({"replace", "rename", "renames", "move"})  # the old name does not stay


class Saves:
    """``found`` takes what was written: a path, or an open file. Paths may be relative; they are told absolute."""

    def __init__(self, script: Unattached) -> None:
        self._script = script
        self._nest = threading.local()
        self._followed: OrderedDict[str, None] = OrderedDict()
        self._open: list[_Open] = []
        self._follows = False

    @contextmanager
    def within(self, *, section: str | None = "save") -> Iterator[None]:
        """Hold back what is found inside, and tell it at the end, each path once; of an error nothing is told."""
        held: list[str] | None = getattr(self._nest, "held", None)
        if held is not None:
            yield
            return
        self._nest.held = held = []
        try:
            if section is not None and threading.current_thread() is threading.main_thread():
                with self._script.within(section):
                    yield
            else:
                yield
        finally:
            self._nest.held = None
        for path in dict.fromkeys(held):
            if not any(path.startswith(folder + os.sep) for folder in held):  # else the folder is told, whole
                self._tell(path)

    def found(self, written: Any) -> None:
        """Tell what was written, or hold it back until the save around it is over."""
        is_open = hasattr(written, "write")
        path = _path(getattr(written, "name", None) if is_open else written)
        if path is None or (is_open and not os.path.lexists(path)):  # a member of an archive has a name, but no file
            return
        if is_open and not getattr(written, "closed", False):
            self._until_closed(written, path)
        elif (held := getattr(self._nest, "held", None)) is not None:
            held.append(path)
        else:
            self._tell(path)

    def look(self) -> None:
        """Tell the files that were open when they were written and are closed now; for any thread."""
        for each in list(self._open):
            file = each.file()
            if file is None or file.closed:
                self._close(each)

    def covered(self, folder: str) -> None:
        """What was held back of files in ``folder`` is told as this one folder."""
        whole = _path(folder) or ""
        held = getattr(self._nest, "held", None) or []
        if any(path.startswith(whole + os.sep) for path in held):
            held[:] = [*(path for path in held if not path.startswith(whole + os.sep)), whole]

    def forget_held(self) -> None:
        """What is held back is told in another way."""
        held: list[str] = getattr(self._nest, "held", None) or []
        held.clear()

    def _until_closed(self, file: Any, path: str) -> None:
        self._follow()
        try:
            self._open.append(_Open(weakref.ref(file), path, self._script.step_or_none))
        except TypeError:  # it cannot be looked at later
            self._script.saved(path, whole=False)

    def _close(self, each: _Open) -> None:
        with suppress(ValueError):  # another thread was faster
            self._open.remove(each)
            self._tell(each.path, each.step)

    def _tell(self, path: str, step: int | None = None) -> None:
        self._script.saved(path, step)
        self._followed[path] = None
        self._followed.move_to_end(path)
        if len(self._followed) > FOLLOWED_MAX:
            self._followed.popitem(last=False)
        self._follow()

    def _follow(self) -> None:
        if self._follows:
            return
        self._follows = True
        for module, name in MOVES:
            setattr(module, name, self._then_told(getattr(module, name), name))

    def _then_told(self, moves: Callable[..., Any], name: str) -> Callable[..., Any]:
        follow = guarded(self._script, f"{name}()", self._went)

        @wraps(moves)
        def then_told(src: Any, dst: Any, *rest: Any, **options: Any) -> Any:
            outer, self._nest.moves = getattr(self._nest, "moves", False), True
            try:
                result = moves(src, dst, *rest, **options)
            finally:
                self._nest.moves = outer
            if not outer:
                follow(name, src, result if isinstance(result, str | os.PathLike) else dst)
            return result

        return then_told

    def _went(self, name: str, src: Any, dst: Any) -> None:
        before, after = _path(src), _path(dst)
        if name == "symlink" and before and after and not os.fsdecode(src).startswith(os.sep):
            before = os.path.normpath(os.path.join(os.path.dirname(after), os.fsdecode(src)))  # noqa: PTH118, PTH120
        if before and after:
            self._moved(before, after, leaves=name not in GOES)

    def _moved(self, before: str, after: str, *, leaves: bool) -> None:
        """What was found lies under another name now, or, where the old one ``leaves`` too, under a second one."""
        held: list[str] | None = getattr(self._nest, "held", None)
        if held and any(_lies_in(path, before) for path in held):
            moved = [_moved_path(path, before, after) for path in held if _lies_in(path, before)]
            held[:] = [*(path for path in held if leaves or not _lies_in(path, before)), *moved]
            return
        for each in list(self._open):
            file = each.file()
            if not _lies_in(each.path, before):
                continue
            if file is not None and not file.closed:
                if leaves:
                    self._open.append(_Open(each.file, _moved_path(each.path, before, after), each.step))
                else:
                    each.path = _moved_path(each.path, before, after)
                continue
            if leaves:
                self._close(each)
            else:
                with suppress(ValueError):
                    self._open.remove(each)
            self._tell(after, each.step)
            return
        if any(_lies_in(path, before) for path in list(self._followed)):
            self._tell(after)


class _Open:
    """A file that was open when it was written: it is told when it is closed, under the name that it has then."""

    def __init__(self, file: weakref.ref[Any], path: str, step: int | None) -> None:
        self.file, self.path, self.step = file, path, step


def _lies_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + os.sep)


def _moved_path(path: str, before: str, after: str) -> str:
    return after + path[len(before) :]


def tell_after(
    script: Unattached, owner: Any, name: str, paths: Callable[[Any, dict[str, Any]], Iterable[Any]]
) -> None:
    """Have each call of ``owner.name`` tell what it wrote: ``paths(result, arguments by name)``."""
    import inspect  # 5 ms that a script which saves nothing need not spend

    function = getattr(owner, name)
    signature = inspect.signature(function)

    def tell(result: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        for path in paths(result, signature.bind(*given, **named).arguments):
            script.saves.found(path)

    def notice(result: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        for written in paths(result, signature.bind(*given, **named).arguments):
            path = _path(getattr(written, "name", None) if hasattr(written, "write") else written)
            if path is not None and os.path.lexists(path):
                script.saved_beside(path)

    told = guarded(script, f"what {name}() writes", tell)
    noticed = guarded(script, f"what {name}() writes", notice)

    @wraps(function)
    def saves(*given: Any, **named: Any) -> Any:
        if script.silent:
            result = function(*given, **named)
            noticed(result, given, named)
            return result
        with script.saves.within():
            result = function(*given, **named)
            told(result, given, named)
        return result

    setattr(owner, name, saves)


def count_before(script: Unattached, owner: Any, name: str, steps: Callable[[Any], int | None]) -> None:
    """Have each call of the method ``owner.name`` tell the steps that ``steps(object)`` finds, where nobody else counts."""
    method = getattr(owner, name)
    counted = guarded(script, f"the step in {name}()", steps)

    @wraps(method)
    def counts(self: Any, *given: Any, **named: Any) -> Any:
        if not script.silent and script.driver is None:
            script.begins()
            done = counted(self)
            if done is not None and done > script.step:
                script.stepped(done)
        return method(self, *given, **named)

    setattr(owner, name, counts)


def _path(name: Any) -> str | None:
    """Return an absolute path; None for what is no name of a file, such as a buffer or the number of a descriptor."""
    if not isinstance(name, str | os.PathLike):
        return None
    path = os.fspath(name)
    text = os.fsdecode(path)
    return None if "://" in text else os.path.abspath(text)  # noqa: PTH100  # a link is told under its own name
