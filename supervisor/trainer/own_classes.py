"""Values of classes that the script defines, namedtuples and enums, and plain values of the standard library.

A checkpoint names a class, and nothing is imported by such a name: the class is the one that the attached object's own state
holds when the checkpoint is loaded. Where it holds none, a namedtuple comes back as one with the same name and fields, and an
enum's member as its value.
"""

from __future__ import annotations

import enum
from collections import namedtuple
from functools import cache
from typing import TYPE_CHECKING, Any

from supervisor.trainer.typed_json import TAG, Node

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Kinds = dict[tuple[str, ...], type]


def keep(value: Any, path: str, encode: Callable[[Any, str], Node], kinds: Kinds) -> Node | None:
    """Return the node of such a value, its class noted in ``kinds``; None for others."""
    kind = type(value)
    if is_namedtuple(value):
        fields = list(kind._fields)
        kinds["namedtuple", kind.__name__, *fields] = kind
        items = [encode(item, f"{path}.{name}") for name, item in zip(fields, value, strict=True)]
        return {TAG: "namedtuple", "name": kind.__name__, "fields": fields, "items": items}
    if isinstance(value, enum.Enum):
        kinds["enum", kind.__qualname__] = kind
        return {TAG: "enum", "name": kind.__qualname__, "member": value.name, "value": encode(value.value, path)}
    return _standard(value)


def give(node: dict[str, Any], kinds: Mapping[tuple[str, ...], type]) -> Any:
    """Return the value of a node whose items are decoded already; KeyError for a tag that is not known."""
    if node[TAG] == "namedtuple":
        items, fields = node["items"], node["fields"]
        kind = kinds.get(("namedtuple", node["name"], *fields)) or _plain_namedtuple(node["name"], *fields)
        return tuple.__new__(kind, items)
    if node[TAG] == "enum":
        found: Any = kinds.get(("enum", node["name"]))
        try:
            return node["value"] if found is None else found(node["value"])
        except ValueError:
            return node["value"]  # the class has lost this member; that the value differs is said
    return _given_standard(node)


def is_namedtuple(value: Any) -> bool:
    """Say whether the value is of a class made by ``namedtuple`` or ``NamedTuple``."""
    return isinstance(value, tuple) and isinstance(getattr(type(value), "_fields", None), tuple)


@cache
def _plain_namedtuple(name: str, *fields: str) -> Any:
    try:
        return namedtuple(name, fields)  # noqa: PYI024  # the names stand in the checkpoint
    except ValueError:
        return tuple  # names that no class can have


def _standard(value: Any) -> Node | None:
    """Return the node of a plain value of the standard library that follows from a text exactly; None for others."""
    from datetime import date, datetime, timedelta, timezone
    from decimal import Decimal
    from fractions import Fraction
    from pathlib import PosixPath, PurePosixPath

    kind = type(value)
    if kind in {Decimal, Fraction, PosixPath, PurePosixPath}:
        return {TAG: kind.__name__, "text": str(value)}
    if kind is timedelta:
        return {TAG: "timedelta", "of": [value.days, value.seconds, value.microseconds]}
    if kind is date:
        return {TAG: "date", "text": value.isoformat()}
    if kind is datetime and type(value.tzinfo) in {type(None), timezone} and not value.fold:
        return {TAG: "datetime", "text": value.isoformat()}
    return None


def _given_standard(node: dict[str, Any]) -> Any:
    from datetime import date, datetime, timedelta
    from decimal import Decimal
    from fractions import Fraction
    from pathlib import PosixPath, PurePosixPath

    kind = node[TAG]
    if kind == "timedelta":
        return timedelta(*node["of"])
    if kind in {"date", "datetime"}:
        return {"date": date, "datetime": datetime}[kind].fromisoformat(node["text"])
    makers: dict[str, Callable[[str], Any]] = {
        "Decimal": Decimal, "Fraction": Fraction, "PosixPath": PosixPath, "PurePosixPath": PurePosixPath,
    }  # fmt: skip
    return makers[kind](node["text"])
