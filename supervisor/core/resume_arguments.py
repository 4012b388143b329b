"""``--resume-args``: what is added to the script's arguments when it goes on from a snapshot of its files."""

from __future__ import annotations

import shlex
from string import Formatter
from typing import TYPE_CHECKING

from supervisor.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

FIELDS = ("checkpoint", "step", "watch")
EXAMPLE = 'write it like --resume-args "--resume {checkpoint}"; known are {checkpoint}, {step} and {watch}'


def checked(template: str) -> str:
    """Return the template, or raise UsageError for one that cannot be filled."""
    filled(template, {"checkpoint": "x", "step": "1", "watch": "x"})
    return template


def needs_checkpoint(template: str) -> bool:
    """Say whether the template speaks of a checkpoint."""
    return any("checkpoint" in _fields(word) for word in _words(template))


def filled(template: str, values: Mapping[str, str]) -> tuple[str, ...]:
    """Return the arguments. It is cut into words before it is filled, so that no path is cut, whatever is in it."""
    return tuple(_filled(word, values) for word in _words(template))


def _filled(word: str, values: Mapping[str, str]) -> str:
    unknown = [name for name in _fields(word) if name not in FIELDS]
    if unknown:
        raise UsageError(f"{{{unknown[0]}}} is not known", EXAMPLE)
    return word.format(**values)


def _words(template: str) -> list[str]:
    try:
        return shlex.split(template)
    except ValueError as error:
        raise UsageError(f"{template!r} cannot be read ({error})", EXAMPLE) from None


def _fields(word: str) -> list[str]:
    try:
        parsed = list(Formatter().parse(word))
    except ValueError as error:
        raise UsageError(f"{word!r} cannot be read ({error})", EXAMPLE) from None
    for _, name, form, conversion in parsed:
        if name is not None and (form or conversion):
            raise UsageError(f"{word!r} asks for a form of its own", EXAMPLE)
    return [name for _, name, _, _ in parsed if name is not None]
