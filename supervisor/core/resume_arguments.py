"""``--resume-args``: what is added to the script's arguments when it goes on from a snapshot of its files."""

from __future__ import annotations

import shlex
from string import Formatter
from typing import TYPE_CHECKING

from supervisor.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

FIELDS = ("checkpoint", "folder", "epoch", "step", "watch")
AUTO = "auto"  # as the script's source says by the field's conventions
EXAMPLE = (
    'write it like --resume-args "--resume {checkpoint}"; known are {checkpoint}, {folder}, {epoch}, {step}, {watch}'
)


def checked(template: str) -> str:
    """Return the template, or raise UsageError for one that cannot be filled."""
    filled(template, lambda _name, _pattern: "x")
    return template


def needs_checkpoint(template: str) -> bool:
    """Say whether the template speaks of a checkpoint."""
    return any({"checkpoint", "folder"} & set(_fields(word)) for word in _words(template))


def needs_epoch(template: str) -> bool:
    """Say whether the template speaks of an epoch."""
    return any("epoch" in _fields(word) for word in _words(template))


def patterns(template: str) -> tuple[str, ...]:
    """Return the pattern of each of its ``{checkpoint:PATTERN}``, "" for one without."""
    return tuple(pattern for word in _words(template) for _, name, pattern in _parts(word) if name == "checkpoint")


def filled(template: str, value: Callable[[str, str], str]) -> tuple[str, ...]:
    """Return the arguments; ``value(name, pattern)`` of each field, the pattern "" where none is given.

    It is cut into words before it is filled, so that no path is cut, whatever is in it.
    """
    return tuple(_filled(word, value) for word in _words(template))


def _filled(word: str, value: Callable[[str, str], str]) -> str:
    parts = _parts(word)
    unknown = [name for _, name, _ in parts if name is not None and name not in FIELDS]
    if unknown:
        raise UsageError(f"{{{unknown[0]}}} is not known", EXAMPLE)
    return "".join(text + (value(name, pattern) if name is not None else "") for text, name, pattern in parts)


def _words(template: str) -> list[str]:
    try:
        return shlex.split(template)
    except ValueError as error:
        raise UsageError(f"{template!r} cannot be read ({error})", EXAMPLE) from None


def _fields(word: str) -> list[str]:
    return [name for _, name, _ in _parts(word) if name is not None]


def _parts(word: str) -> list[tuple[str, str | None, str]]:
    """Return each text with the name and pattern of the field behind it; None for no field."""
    try:
        parsed = list(Formatter().parse(word))
    except ValueError as error:
        raise UsageError(f"{word!r} cannot be read ({error})", EXAMPLE) from None
    for _, name, pattern, conversion in parsed:
        if name is not None and (conversion or (pattern and name != "checkpoint")):
            raise UsageError(f"{word!r} asks for a form of its own", EXAMPLE)
    return [(text, name, pattern or "") for text, name, pattern, _ in parsed]
