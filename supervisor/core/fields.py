"""Fields of a JSON document that somebody else may have written: each is held to its type before it is used.

A wrong one raises ValueError with words that can be shown. Hashes find damage; these checks stand against documents whose
hash is right and whose content would lead out of the folder, or end in a traceback.
"""

from __future__ import annotations

import json
import re
from math import isfinite
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, Self, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME_BYTES_MAX = 255
_Folder = TypeVar("_Folder", bound="Joins")
RECORD_BYTES_MAX = 1 << 20  # of a record that says a few things; lists of files have their own bound
LISTING_BYTES_MAX = 64 << 20
VALUES_MAX = (
    1_000_000  # of one document: a hundred thousand files in a manifest; what is made of them stays below 100 MB
)
LISTED_VALUES_MAX = 3_000_000  # of a list of a script's own files, or of tensors: two hundred thousand of them
STEPS_MAX, EPOCHS_MAX, SEQ_MAX = 10**15 - 1, 10**12 - 1, 10**6 - 1
WHOLE_MAX = (1 << 63) - 1
EPOCH = "(?:[0-9]{8}|[1-9][0-9]{8,11})"  # one number has one name: no zeros beyond the eighth digit, at most 12 digits
STEPS = "(?:[0-9]{9}|[1-9][0-9]{9,14})"
WRITER = "[0-9a-z]{1,64}"
_WRITER = re.compile(WRITER)
TWIN = r"(?: \([0-9]{1,9}\))?"  # what a drive adds to the second of two files of one name
_DIGEST = re.compile(r"[a-z][0-9a-z-]{0,31}:[0-9a-f]{1,128}")
# C0, DEL, C1, and what turns the direction of a line: none of them is in a name that this program gives
CONTROLS = r"\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
_CONTROL = re.compile(f"[{CONTROLS}]")


class Joins(Protocol):
    """A local folder, as ``pathlib`` has them."""

    def __truediv__(self, name: str, /) -> Self: ...


def document(body: bytes, most: int = RECORD_BYTES_MAX, values: int | None = VALUES_MAX) -> Mapping[str, Any]:
    """Return a JSON object of at most so many bytes, its numbers finite. Raises ValueError for anything else."""
    return mapping(plain(body, most, values), "it")


def plain(body: bytes | str, most: int = RECORD_BYTES_MAX, values: int | None = VALUES_MAX) -> Any:
    """Return a JSON value, read as ``document`` reads it.

    Memory is bounded by the number of ``values``, not by the bytes alone: three bytes make an empty list, of sixty bytes.
    """
    if len(body) > most:
        raise ValueError(f"it is longer than {most:,} bytes")
    if values is not None and len(body) > values and _values(body) > values:
        raise ValueError(f"it holds more than {values:,} values")
    try:
        return json.loads(body, parse_constant=_no_number, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def _values(body: bytes | str) -> int:
    """Return how many values a document has at most; an object counts twice, as it takes more room."""
    if isinstance(body, str):
        return body.count(",") + body.count("[") + 2 * body.count("{")
    return body.count(b",") + body.count(b"[") + 2 * body.count(b"{")


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"it has {name} for a number")


def _finite(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise ValueError(f"it has {text[:20]} for a number")
    return value


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


def whole(value: object, what: str, most: int = WHOLE_MAX) -> int:
    """Return a whole number from 0 to ``most``."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise ValueError(f"{what} is {value!r:.40}, not a whole number from 0 to {most:,}")
    return value


def number(value: object, what: str) -> float:
    """Return a finite number."""
    if isinstance(value, float) and isfinite(value):
        return value
    if type(value) is int and abs(value) <= WHOLE_MAX:
        return float(value)
    raise ValueError(f"{what} is {value!r:.40}, not a number")


def scalar(value: object, what: str) -> float | str | bool | None:
    """Return a value that a script logged: it alone may be a float that is no number, because that is what it shows."""
    if value is not None and not isinstance(value, int | float | str | bool):
        raise ValueError(f"{what} is {value!r:.40}, not a single value")
    return value


def count(value: object, what: str) -> int | None:
    """Return how many there are to be, None if that is not known."""
    return None if value is None else whole(value if type(value) is int else int(number(value, what)), what)


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
    """Return a name of one file of the store's layout, which cannot lead anywhere else, nor hide, nor change a screen."""
    name = text(value, what)
    if not is_plain_name(name) or name.startswith("."):
        raise ValueError(f"{what} is {name!r:.40}, not the plain name of a file")
    return name


def into(folder: _Folder, name: str) -> _Folder:
    """Return where a name that a store tells lies in a local folder. Raises ValueError where it would lead elsewhere."""
    return folder / plain_name(name, "a name")


def is_plain_name(name: str) -> bool:
    """Say whether a name is one part of a path: no separator, no control character, not dots alone, at most 255 bytes."""
    try:
        length = _bytes(name)
    except UnicodeEncodeError:
        return False
    return (
        0 < length <= NAME_BYTES_MAX and bool(name.strip(". ")) and not {"/", "\\"} & {*name} and not has_controls(name)
    )


def has_controls(words: str) -> bool:
    """Say whether there is a character in it that a terminal acts on, or that turns the direction of a line."""
    return _CONTROL.search(words) is not None


def path_below(value: object, what: str) -> str:
    """Return a relative path that stays below the folder that it is relative to."""
    path = text(value, what)
    for part in path.split("/"):
        if part in {"", ".", ".."} or _bytes(part) > NAME_BYTES_MAX:
            raise ValueError(f"{what} is {path!r:.60}, which does not lie below its folder")
    return path


def writer(value: object, what: str) -> str:
    """Return the random name of a session's writer."""
    name = text(value, what)
    if not _WRITER.fullmatch(name):
        raise ValueError(f"{what} is {name!r:.40}, not the name of a writer")
    return name


def digest(value: object, what: str) -> str:
    """Return a digest: its algorithm, which may be one of a later version, and hexadecimal digits."""
    found = text(value, what)
    if not _DIGEST.fullmatch(found):
        raise ValueError(f"{what} is {found!r:.40}, not a digest")
    return found


def _bytes(name: str) -> int:
    """Return the length of a name on the disk; names that are no UTF-8 are there as Python's surrogates."""
    return len(name.encode("utf-8", "surrogateescape"))
