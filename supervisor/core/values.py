"""Frozen values that are cheap to define: commands must not spend their first tenth of a second on making classes.

``dataclass(frozen=True, slots=True)`` of the standard library compiles six methods for every class (0.6 ms each on
Python 3.11, and there are a hundred). Here a class gets its ``__init__`` only; the rest are shared functions that do
the same. Everything of ``dataclasses`` (replace, fields, asdict) and every type checker takes the classes for what they
are.
"""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

__all__ = ["dataclass", "replace"]

T = TypeVar("T")

if TYPE_CHECKING:
    from dataclasses import dataclass  # to a type checker it is the same thing
else:

    def dataclass(kind: type | None = None, /, **wanted: bool) -> Any:
        """Make a class a dataclass; cheaply, if it is to be frozen and have slots and nothing else."""
        return _make if wanted == {"frozen": True, "slots": True} else dataclasses.dataclass(kind, **wanted)


def replace(value: T, /, **changes: Any) -> T:
    """Return a copy with these fields changed, as ``dataclasses.replace`` does, for a fraction of its cost.

    For values with slots that are replaced at every event. ``__init__`` is not run.
    """
    kind: Any = type(value)
    setters = _setters(kind)
    if not changes.keys() <= setters.keys():
        raise TypeError(f"no such fields: {sorted(changes.keys() - setters.keys())}")
    copy: T = object.__new__(kind)
    for name, put in setters.items():
        put(copy, changes[name] if name in changes else getattr(value, name))
    return copy


@lru_cache(maxsize=256)
def _setters(kind: Any) -> dict[str, Any]:
    return {field.name: kind.__dict__[field.name].__set__ for field in dataclasses.fields(kind)}


def _make(kind: type) -> Any:
    made: Any = dataclasses.dataclass(slots=True, eq=False, repr=False)(kind)
    names = tuple(field.name for field in dataclasses.fields(made))
    shared = {
        "_content": staticmethod(_content_of(names)),
        "__eq__": _equal,
        "__hash__": _hash,
        "__repr__": _show,
        "__setattr__": _set_once,
        "__delattr__": _refuse,
    }
    for name, method in shared.items():
        if name not in kind.__dict__:
            setattr(made, name, method)
    return made


def _content_of(names: tuple[str, ...]) -> Any:
    if len(names) > 1:
        return attrgetter(*names)
    return lambda one: tuple(getattr(one, name) for name in names)


def _equal(self: Any, other: Any) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    return self._content(self) == self._content(other)


def _hash(self: Any) -> int:
    return hash(self._content(self))


def _show(self: Any) -> str:
    shown = (f"{field.name}={getattr(self, field.name)!r}" for field in dataclasses.fields(self))
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _set_once(self: Any, name: str, given: Any) -> None:
    """Let ``__init__`` fill a slot, and nobody change it afterwards."""
    if hasattr(self, name):
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
    object.__setattr__(self, name, given)


def _refuse(self: Any, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r} of {self!r}")
