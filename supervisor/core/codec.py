"""Events and commands as JSON lines and back: what a journal is made of."""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, get_args

from supervisor.core import claim, commands, events, messages, rollback, shapes
from supervisor.core.checkpoint import CheckpointId
from supervisor.core.instant import Instant


def _members(union: Any) -> tuple[type[Any], ...]:
    return get_args(union) if isinstance(union, types.UnionType) else (union,)


_TYPES: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        *_members(events.Event),
        *_members(commands.Command),
        *messages.KINDS.values(),
        messages.Malformed,
        CheckpointId,
        claim.Rank,
        claim.Sighting,
        rollback.Rollback,
    )
}
shapes.know({**_TYPES, "Message": messages.Message, "Instant": Instant})
_SCALARS = frozenset({str, int, float, bool, type(None)})


class UnknownRecord(ValueError):  # noqa: N818, because a newer version may have written it
    """A record of a kind this version does not know."""


def to_line(at: Mapping[str, float], value: Any) -> str:
    """Return one journal line: both clocks and the event or command."""
    line = json.dumps({**at, **to_plain(value)}, ensure_ascii=False, separators=(",", ":"), default=str)
    return line.encode("utf-8", "replace").decode()  # because a file's name may hold what no text can be written with


def from_line(line: str, types: Mapping[str, type[Any]] = _TYPES) -> tuple[dict[str, float], Any]:
    """Read one journal line back, or raise UnknownRecord. ``types``: what it may hold, by name."""
    try:
        body = json.loads(line)
        at = shapes.of(Instant, body)
        return {"mono_s": at.mono_s, "wall_s": at.wall_s}, from_plain(body, types)
    except (ValueError, RecursionError) as error:
        raise UnknownRecord(f"not a record: {line[:80]!r} ({error})") from error


def to_plain(value: Any) -> Any:
    """Return a value made of JSON's types; a dataclass bears its name under ``is``."""
    if type(value) in _SCALARS:
        return value
    if is_dataclass(value) and not isinstance(value, type):
        kind: Any = type(value)
        return {"is": kind.__name__, **{name: to_plain(getattr(value, name)) for name in _fields(kind)}}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, list | tuple):
        return [to_plain(each) for each in value]
    if isinstance(value, Mapping):
        return {str(key): to_plain(each) for key, each in value.items()}
    return value


def from_plain(plain: Any, types: Mapping[str, type[Any]] = _TYPES) -> Any:
    """Return the value that ``to_plain`` made this of. ValueError says what of it does not fit its kind."""
    name = plain.get("is")
    kind = types.get(name) if isinstance(name, str) else None
    if kind is None:
        raise UnknownRecord(f"a record of kind {name!r:.40}")
    return shapes.of(kind, plain, kind.__name__)


@lru_cache(maxsize=256)
def _fields(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))
