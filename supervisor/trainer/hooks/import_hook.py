"""Calls a function after a module was loaded, without loading any itself.

A finder at the head of ``sys.meta_path`` asks the other finders for the module, and wraps its loading. The loader stays the
module's own, because other code reads files and sources through it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


def call_after_import(names: Collection[str], on_import: Callable[[ModuleType], None]) -> None:
    """Call ``on_import(module)`` once for each of the modules after its import; at once for loaded modules."""
    awaited = {name for name in names if name not in sys.modules}
    sys.meta_path.insert(0, _Finder(awaited, on_import))
    for name in names:
        if name not in awaited:
            on_import(sys.modules[name])


class _Finder:
    def __init__(self, awaited: set[str], on_import: Callable[[ModuleType], None]) -> None:
        self._awaited = awaited
        self._on_import = on_import

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return what the other finders find, for the names that are waited for; None hands on to them."""
        if name not in self._awaited:
            return None
        self._awaited.discard(name)  # before the others are asked, because they may come back here
        spec = self._find_elsewhere(name, path, target)
        if spec is None or spec.loader is None:
            self._awaited.add(name)  # it is not there yet: a script may try, and put it there
            return None
        self._wrap_loader(spec.loader, name)
        return spec

    def _find_elsewhere(self, name: str, path: Sequence[str] | None, target: ModuleType | None) -> ModuleSpec | None:
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None) if finder is not self else None
            spec: ModuleSpec | None = find(name, path, target) if find is not None else None
            if spec is not None:
                return spec
        return None

    def _wrap_loader(self, loader: Any, name: str) -> None:
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            try:
                execute(module)
            except BaseException:
                self._awaited.add(name)  # it may be tried again, with another loader
                raise
            self._on_import(module)

        loader.exec_module = exec_module
