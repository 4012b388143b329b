"""Fields of a JSON document that somebody else may have written: each is held to its type before it is used.

A wrong one raises ValueError with words that can be shown. Hashes find damage; these checks stand against documents whose
hash is right and whose content would lead out of the folder, or end in a traceback.
"""

from __future__ import annotations

import json
from math import isfinite
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME_BYTES_MAX = 255


def document(body: bytes) -> Mapping[str, Any]:
    """Return a JSON object. Raises ValueError, also for one that is nested too deep to be read."""
    try:
        read = json.loads(body)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    return mapping(read, "it")


def mapping(value: object, what: str) -> Mapping[str, Any]:
    """Return a JSON object."""
    if not isinstance(value, dict):
        raise ValueError(f"{what} is no object")  # noqa: TRY004, because to the reader it is a damaged document
    return cast("Mapping[str, Any]", value)


def sequence(value: object, what: str) -> list[Any]:
    """Return a JSON array."""
    if not isinstance(value, list):
        raise ValueError(f"{what} is no list")  # noqa: TRY004
    return value


def whole(value: object, what: str) -> int:
    """Return a whole number that is not negative."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{what} is {value!r:.40}, not a whole number from 0 on")
    return value


def number(value: object, what: str) -> float:
    """Return a finite number."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not isfinite(value):
        raise ValueError(f"{what} is {value!r:.40}, not a number")
    return float(value)


def count(value: object, what: str) -> int | None:
    """Return how many there are to be, None if that is not known."""
    return None if value is None else value if type(value) is int else int(number(value, what))


def nanoseconds(value: object, what: str) -> int:
    """Return a time of a file, in nanoseconds since 1970; before that it is negative."""
    if type(value) is not int or abs(value) >= 1 << 63:
        raise ValueError(f"{what} is {value!r:.40}, not a time of a file")
    return value


def text(value: object, what: str) -> str:
    """Return a text that can be a part of a path or an argument: without NUL."""
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(f"{what} is {value!r:.40}, not a text")
    return value


def texts(value: object, what: str) -> dict[str, str]:
    """Return an object whose values are texts."""
    return {name: text(each, what) for name, each in mapping(value, what).items()}


def plain_name(value: object, what: str) -> str:
    """Return a name of one file in a folder, which cannot lead anywhere else."""
    name = text(value, what)
    if name in {"", ".", ".."} or "/" in name or _bytes(name) > NAME_BYTES_MAX:
        raise ValueError(f"{what} is {name!r:.40}, not the plain name of a file")
    return name


def path_below(value: object, what: str) -> str:
    """Return a relative path that stays below the folder that it is relative to."""
    path = text(value, what)
    for part in path.split("/"):
        if part in {"", ".", ".."} or _bytes(part) > NAME_BYTES_MAX:
            raise ValueError(f"{what} is {path!r:.60}, which does not lie below its folder")
    return path


def digest(value: object, what: str) -> str:
    """Return a digest, which names its algorithm."""
    found = text(value, what)
    if not found.partition(":")[1]:
        raise ValueError(f"{what} is {found!r:.40}, not a digest")
    return found


def _bytes(name: str) -> int:
    """Return the length of a name on the disk; names that are no UTF-8 are there as Python's surrogates."""
    return len(name.encode("utf-8", "surrogateescape"))
