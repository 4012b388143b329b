"""Hears of a module that has just been loaded, without loading any itself.

A finder at the head of ``sys.meta_path`` asks the others where the module is, and puts one step behind its loading. The
loader stays the module's own, because others look at it for files and sources.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


def call_after_import(names: Collection[str], loaded: Callable[[ModuleType], None]) -> None:
    """Call ``loaded(module)`` once for each of the modules when it was loaded; at once for those that are."""
    waiting = {name for name in names if name not in sys.modules}
    sys.meta_path.insert(0, _Finder(waiting, loaded))
    for name in names:
        if name not in waiting:
            loaded(sys.modules[name])


class _Finder:
    def __init__(self, waiting: set[str], loaded: Callable[[ModuleType], None]) -> None:
        self._waiting = waiting
        self._loaded = loaded

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return what the other finders find, for the names that are waited for; None hands on to them."""
        if name not in self._waiting:
            return None
        self._waiting.discard(name)  # before the others are asked, because they may come back here
        spec = self._found_by_others(name, path, target)
        if spec is None or spec.loader is None:
            self._waiting.add(name)  # it is not there yet: a script may try, and put it there
            return None
        self._follow(spec.loader, name)
        return spec

    def _found_by_others(self, name: str, path: Sequence[str] | None, target: ModuleType | None) -> ModuleSpec | None:
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None) if finder is not self else None
            spec: ModuleSpec | None = find(name, path, target) if find is not None else None
            if spec is not None:
                return spec
        return None

    def _follow(self, loader: Any, name: str) -> None:
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            try:
                execute(module)
            except BaseException:
                self._waiting.add(name)  # it may be tried again, with another loader
                raise
            self._loaded(module)

        loader.exec_module = exec_module
