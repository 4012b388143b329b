"""The one reader of records: a dataclass says by its annotations what a JSON value must be, and gets it or nothing.

A field is a type (``int``, ``float``, ``str``, ``bool``, ``X | None``, ``tuple[X, ...]``, ``Mapping[str, X]``, another
dataclass, ``Any``) or ``Annotated[type, check]``, where ``check(value, where)`` of ``core.fields`` returns the value that is
used. Types are strict: a number is no text, true is no number, and a number is finite. A field without a default must be
there; one that this version does not know is left out. ValueError names the path to the field that does not fit.

The checks are compiled once for each class, into one function for each field.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, is_dataclass
from dataclasses import fields as fields_of
from functools import lru_cache
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from supervisor.core import fields

T = TypeVar("T")
Read = Callable[[Any, str], Any]  # a value and the path to it; returns the value to use, or raises ValueError
ITEMS_MAX = 1_000_000  # of one list or object: more than any record has, whatever room its bytes leave

Whole = Annotated[int, fields.whole]
Step = Annotated[int, lambda value, at: fields.whole(value, at, fields.STEPS_MAX)]
Epoch = Annotated[int, lambda value, at: fields.whole(value, at, fields.EPOCHS_MAX)]
Writer = Annotated[str, fields.writer]
Seq = Annotated[int, lambda value, at: fields.whole(value, at, fields.SEQ_MAX)]
Count = Annotated[int | None, fields.count]
Finite = Annotated[float, fields.number]
Scalar = Annotated[int | float | str | bool | None, fields.scalar]
Nanoseconds = Annotated[int, fields.nanoseconds]
Text = Annotated[str, fields.text]
Name = Annotated[str, fields.plain_name]
Below = Annotated[str, fields.path_below]
Digest = Annotated[str, fields.digest]


_KNOWN: dict[str, Any] = {"Mapping": Mapping, "Sequence": Sequence, "Any": Any}


def know(types_by_name: Mapping[str, Any]) -> None:
    """Know types by the names that annotations give them in modules that import them for the type checker alone."""
    _KNOWN.update(types_by_name)


def read(kind: type[T], body: bytes | str, most: int = fields.RECORD_BYTES_MAX) -> T:
    """Return the record in a JSON document of at most so many bytes. ValueError says what does not fit, and where."""
    return of(kind, fields.plain(body, most))


def of(kind: type[T], value: object, at: str = "it") -> T:
    """Return the record that a JSON value is; ``at`` is what it is called in the words of an error."""
    wanted: Any = kind
    return cast("T", _compiled(wanted)(value, at))


def fitting(kind: Callable[..., T], value: object) -> T:
    """Return the record with those fields that fit, where every field has a default: for records that nothing rests on."""
    told = value if isinstance(value, dict) else {}
    good: dict[str, Any] = {}
    for name, (reader, _) in _fields(kind).items():
        if name in told:
            try:
                good[name] = reader(told[name], name)
            except ValueError:
                continue
    return kind(**good)


def kept(kind: Any, value: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object without those fields that are not as ``kind`` says; one that it does not name stays as it is."""
    good = {}
    for name, each in value.items():
        reader, _ = _fields(kind).get(name, (_anything, False))
        try:
            reader(each, name)
        except ValueError:
            continue
        good[name] = each
    return good


@lru_cache(maxsize=256)
def _fields(kind: Any) -> dict[str, tuple[Read, bool]]:
    """Return for each field how it is read, and whether it must be there."""
    hints = get_type_hints(kind, localns=_KNOWN, include_extras=True)
    return {
        field.name: (_compiled(hints[field.name]), field.default is MISSING and field.default_factory is MISSING)
        for field in fields_of(kind)
    }


@lru_cache(maxsize=1024)
def _compiled(wanted: Any) -> Read:
    """Return the function that reads one type."""
    if wanted in _SIMPLE:
        return _SIMPLE[wanted]
    origin, inner = get_origin(wanted), get_args(wanted)
    if origin is Annotated:
        check: Read = inner[1]
        return check
    if origin in {Union, types.UnionType}:
        return _either(wanted, inner)
    if origin in {tuple, list, Sequence}:
        return _listed(_compiled(inner[0]))
    if origin in {dict, Mapping}:
        return _mapped(_compiled(inner[1]))
    if is_dataclass(wanted) and isinstance(wanted, type):
        return _made(wanted)
    raise TypeError(f"no record has a field of {wanted!r}")


def _either(wanted: Any, inner: tuple[Any, ...]) -> Read:
    rest = [each for each in inner if each is not type(None)]
    readers = [_compiled(each) for each in rest]
    one, nothing = readers[0], len(rest) < len(inner)

    def read_optional(value: Any, at: str) -> Any:
        return None if value is None else one(value, at)

    by_name = {
        each.__name__: reader
        for each, reader in zip(rest, readers, strict=True)
        if isinstance(each, type) and is_dataclass(each)
    }

    def read_either(value: Any, at: str) -> Any:
        if value is None and nothing:
            return None
        if by_name and isinstance(value, dict) and (told := value.get("is")) is not None:
            named = by_name.get(told) if isinstance(told, str) else None
            if named is None:
                raise ValueError(f"{at} is a {told!r:.40}, not {wanted}")
            return named(value, at)
        for reader in readers:
            try:
                return reader(value, at)
            except ValueError:
                continue
        raise ValueError(f"{at} is {value!r:.40}, not {wanted}")

    return read_optional if len(readers) == 1 and nothing else read_either


def _listed(item: Read) -> Read:
    def read_list(value: Any, at: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise ValueError(f"{at} is {value!r:.40}, not a list")  # noqa: TRY004, because to the reader it is damage
        if len(value) > ITEMS_MAX:
            raise ValueError(f"{at} has {len(value):,} items")
        return tuple([item(each, f"{at}[{index}]") for index, each in enumerate(value)])

    return read_list


def _mapped(item: Read) -> Read:
    def read_object(value: Any, at: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValueError(f"{at} is {value!r:.40}, not an object")  # noqa: TRY004
        if len(value) > ITEMS_MAX:
            raise ValueError(f"{at} has {len(value):,} fields")
        return {name: item(each, f"{at}.{name:.40}") for name, each in value.items()}

    return read_object


def _made(kind: Any) -> Read:
    def read_record(value: Any, at: str) -> Any:
        if not isinstance(value, dict):
            raise ValueError(f"{at} is {value!r:.40}, not an object")  # noqa: TRY004
        found = {}
        for name, (reader, needed) in _fields(kind).items():
            if name in value:
                found[name] = reader(value[name], f"{at}.{name}" if at != "it" else name)
            elif needed:
                raise ValueError(f"{at} lacks {name!r}")
        return kind(**found)

    return read_record


def _anything(value: Any, _at: str) -> Any:
    return value


def _of_type(kind: type, words: str) -> Read:
    def read_type(value: Any, at: str) -> Any:
        if type(value) is not kind:
            raise ValueError(f"{at} is {value!r:.40}, not {words}")
        return value

    return read_type


def _text(value: Any, at: str) -> str:
    """Return a text that can be written: without halves of characters."""
    if type(value) is not str or (not value.isascii() and any("\ud800" <= each <= "\udfff" for each in value)):
        raise ValueError(f"{at} is {value!r:.40}, not a text")
    return value


def _integer(value: Any, at: str) -> int:
    """Return a whole number, which may be negative."""
    if type(value) is not int or abs(value) > fields.WHOLE_MAX:
        raise ValueError(f"{at} is {value!r:.40}, not a whole number")
    return value


_SIMPLE: dict[Any, Read] = {
    Any: _anything,
    int: _integer,
    float: fields.number,
    str: _text,
    bool: _of_type(bool, "true or false"),
    dict: _mapped(_anything),
    list: _listed(_anything),
    type(None): _of_type(type(None), "null"),
}
