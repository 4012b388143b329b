"""Tracks the files that the script's saves write: each file or folder is reported once, when it is complete.

A save within a save (a Trainer's folder of many files) is part of the outer one. A later rename or copy, as careful scripts do,
is reported under the new name too.
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

from supervisor.trainer.hooks.error_guard import guarded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from supervisor.trainer.hooks.unmodified_script import UnmodifiedScript

REPORTED_MAX = 64
MOVES = (
    (os, "replace"), (os, "rename"), (os, "renames"), (os, "link"), (os, "symlink"), (shutil, "copyfile"),
    (shutil, "copytree"), (shutil, "move"),
)  # fmt: skip
RENAMES = frozenset({"replace", "rename", "renames", "move"})  # the old name does not stay


class SaveTracker:
    """``add`` takes a written path, or an open file. Paths may be relative; they are reported as absolute ones."""

    def __init__(self, script: UnmodifiedScript) -> None:
        self._script = script
        self._nest = threading.local()
        self._reported: OrderedDict[str, None] = OrderedDict()
        self._open: list[_OpenFile] = []
        self._moves_tracked = False

    @contextmanager
    def within(self, *, section: str | None = "save") -> Iterator[None]:
        """Collect the paths that are added within, and report each once at the end; after an error report none."""
        pending: list[str] | None = getattr(self._nest, "pending", None)
        if pending is not None:
            yield
            return
        self._nest.pending = pending = []
        try:
            if section is not None and threading.current_thread() is threading.main_thread():
                with self._script.within(section):
                    yield
            else:
                yield
        finally:
            self._nest.pending = None
        for path in dict.fromkeys(pending):
            if not any(
                path.startswith(folder + os.sep) for folder in pending
            ):  # otherwise the whole folder is reported
                self._report(path)

    def add(self, written: Any) -> None:
        """Report a written path, or collect it until the save around it is over."""
        is_open = hasattr(written, "write")
        path = _path(getattr(written, "name", None) if is_open else written)
        if path is None or (is_open and not os.path.lexists(path)):  # a member of an archive has a name, but no file
            return
        if is_open and not getattr(written, "closed", False):
            self._until_closed(written, path)
        elif (pending := getattr(self._nest, "pending", None)) is not None:
            pending.append(path)
        else:
            self._report(path)

    def poll_open_files(self) -> None:
        """Report files that were open when they were written and are closed now; for any thread."""
        for each in list(self._open):
            file = each.file()
            if file is None or file.closed:
                self._close(each)

    def collapse(self, folder: str) -> None:
        """Report the collected files in ``folder`` as this one folder."""
        whole = _path(folder) or ""
        pending = getattr(self._nest, "pending", None) or []
        if any(path.startswith(whole + os.sep) for path in pending):
            pending[:] = [*(path for path in pending if not path.startswith(whole + os.sep)), whole]

    def drop_pending(self) -> None:
        """Drop the collected paths: they are reported in another way."""
        pending: list[str] = getattr(self._nest, "pending", None) or []
        pending.clear()

    def _until_closed(self, file: Any, path: str) -> None:
        self._track_moves()
        try:
            self._open.append(_OpenFile(weakref.ref(file), path, self._script.step_or_none))
        except TypeError:  # it cannot be looked at later
            self._script.saved(path, whole=False)

    def _close(self, each: _OpenFile) -> None:
        with suppress(ValueError):  # another thread was faster
            self._open.remove(each)
            self._report(each.path, each.step)

    def _report(self, path: str, step: int | None = None) -> None:
        self._script.saved(path, step)
        self._reported[path] = None
        self._reported.move_to_end(path)
        if len(self._reported) > REPORTED_MAX:
            self._reported.popitem(last=False)
        self._track_moves()

    def _track_moves(self) -> None:
        if self._moves_tracked:
            return
        self._moves_tracked = True
        for module, name in MOVES:
            setattr(module, name, self._tracked(getattr(module, name), name))

    def _tracked(self, moves: Callable[..., Any], name: str) -> Callable[..., Any]:
        follow = guarded(self._script, f"{name}()", self._on_move)

        @wraps(moves)
        def wrapper(src: Any, dst: Any, *rest: Any, **options: Any) -> Any:
            outer, self._nest.moves = getattr(self._nest, "moves", False), True
            try:
                result = moves(src, dst, *rest, **options)
            finally:
                self._nest.moves = outer
            if not outer:
                follow(name, src, result if isinstance(result, str | os.PathLike) else dst)
            return result

        return wrapper

    def _on_move(self, name: str, src: Any, dst: Any) -> None:
        before, after = _path(src), _path(dst)
        if name == "symlink" and before and after and not os.fsdecode(src).startswith(os.sep):
            before = os.path.normpath(os.path.join(os.path.dirname(after), os.fsdecode(src)))  # noqa: PTH118, PTH120
        if before and after:
            self._apply_move(before, after, keeps_old=name not in RENAMES)

    def _apply_move(self, before: str, after: str, *, keeps_old: bool) -> None:
        """Follow a reported or collected path to its new name; with ``keeps_old`` the old one stays too."""
        pending: list[str] | None = getattr(self._nest, "pending", None)
        if pending and any(_lies_in(path, before) for path in pending):
            moved = [_moved_path(path, before, after) for path in pending if _lies_in(path, before)]
            pending[:] = [*(path for path in pending if keeps_old or not _lies_in(path, before)), *moved]
            return
        for each in list(self._open):
            file = each.file()
            if not _lies_in(each.path, before):
                continue
            if file is not None and not file.closed:
                if keeps_old:
                    self._open.append(_OpenFile(each.file, _moved_path(each.path, before, after), each.step))
                else:
                    each.path = _moved_path(each.path, before, after)
                continue
            if keeps_old:
                self._close(each)
            else:
                with suppress(ValueError):
                    self._open.remove(each)
            self._report(after, each.step)
            return
        if any(_lies_in(path, before) for path in list(self._reported)):
            self._report(after)


class _OpenFile:
    """A file that was open when it was written. It is reported when it is closed, under its name at that time."""

    def __init__(self, file: weakref.ref[Any], path: str, step: int | None) -> None:
        self.file, self.path, self.step = file, path, step


def _lies_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + os.sep)


def _moved_path(path: str, before: str, after: str) -> str:
    return after + path[len(before) :]


def track_saves(
    script: UnmodifiedScript, owner: Any, name: str, paths: Callable[[Any, dict[str, Any]], Iterable[Any]]
) -> None:
    """Have each call of ``owner.name`` report the files that it wrote.

    Args:
        script: receives the reports.
        owner: the module or class.
        name: the function's name.
        paths: returns the written paths or open files from the result and the arguments by name.
    """
    import inspect  # 5 ms that a script which saves nothing need not spend

    function = getattr(owner, name)
    signature = inspect.signature(function)

    def report(result: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for path in paths(result, signature.bind(*args, **kwargs).arguments):
            script.saves.add(path)

    def note_unkept(result: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for written in paths(result, signature.bind(*args, **kwargs).arguments):
            path = _path(getattr(written, "name", None) if hasattr(written, "write") else written)
            if path is not None and os.path.lexists(path):
                script.warn_unkept_file(path)

    reported = guarded(script, f"what {name}() writes", report)
    unkept_noted = guarded(script, f"what {name}() writes", note_unkept)

    @wraps(function)
    def saves(*args: Any, **kwargs: Any) -> Any:
        if script.silent:
            result = function(*args, **kwargs)
            unkept_noted(result, args, kwargs)
            return result
        with script.saves.within():
            result = function(*args, **kwargs)
            reported(result, args, kwargs)
        return result

    setattr(owner, name, saves)


def count_steps_before(script: UnmodifiedScript, owner: Any, name: str, steps: Callable[[Any], int | None]) -> None:
    """Have each call of the method ``owner.name`` report the steps that ``steps(object)`` returns.

    Steps are not reported while a loop counts them.
    """
    method = getattr(owner, name)
    counted = guarded(script, f"the step in {name}()", steps)

    @wraps(method)
    def counts(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not script.silent and script.loop is None:
            script.on_training_start()
            done = counted(self)
            if done is not None and done > script.step:
                script.on_step(done)
        return method(self, *args, **kwargs)

    setattr(owner, name, counts)


def _path(name: Any) -> str | None:
    """Return an absolute path; None if it is no file name, such as a buffer or a descriptor's number."""
    if not isinstance(name, str | os.PathLike):
        return None
    path = os.fspath(name)
    text = os.fsdecode(path)
    return None if "://" in text else os.path.abspath(text)  # noqa: PTH100  # a link is reported under its own name
