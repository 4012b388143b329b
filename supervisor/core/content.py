"""What a checkpoint folder says of itself: ``checkpoint.json``, written last by whoever made the folder."""

from __future__ import annotations

import hashlib
import json
from dataclasses import field
from typing import TYPE_CHECKING, Any

from supervisor.core import fields, shapes
from supervisor.core.digest import not_known
from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT = "training-supervisor-checkpoint"
VERSION = 2
SEALED_FROM_VERSION = 2
CONTENT_FILE = "checkpoint.json"
LOG_FILE = "log.jsonl"
STATE_FILE = "state.json"  # the attached objects; a script that nobody changed has none


class ContentError(ValueError):
    """The folder does not hold a checkpoint that can be used."""


class NewerContent(ContentError):  # noqa: N818, because it is no defect: another version may read it
    """Written by a later version of this program."""


@dataclass(frozen=True, slots=True)
class Content:
    """``files`` maps each file's name to its length and digest (see ``core.digest``)."""

    step: int
    files: Mapping[str, tuple[int, str]]
    total_steps: int | None = None
    epoch_of_data: float | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    made_by: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _File:
    name: shapes.Name
    bytes: shapes.Whole
    digest: shapes.Digest


@dataclass(frozen=True, slots=True)
class _Told:
    """``checkpoint.json`` as it is written; versions before the seal left out what they did not know."""

    step: shapes.Step
    files: tuple[_File, ...]
    total_steps: shapes.Count | None = None
    epoch_of_data: shapes.Finite | None = None
    metrics: Mapping[str, Any] | None = None
    made_by: Mapping[str, shapes.Text] | None = None


def sealed(fields: Mapping[str, Any]) -> bytes:
    """Return ``checkpoint.json`` with these fields; its last one is the digest of all bytes before it."""
    body = json.dumps({"format": FORMAT, "version": VERSION, **fields}, indent=1, ensure_ascii=False, allow_nan=False)
    above = body.removesuffix("\n}").encode("utf-8", "surrogatepass")
    return above + _seal(above)


def parse(body: bytes) -> Content:
    """Read ``checkpoint.json``, or raise ContentError."""
    try:
        read = fields.document(body, fields.LISTING_BYTES_MAX)
        if read["format"] != FORMAT:
            raise ContentError("it is not a checkpoint of this program")
        above = body[: -len(_seal(b""))]
        # The seal before the version, because a version that nobody wrote must not be taken at its word.
        if body != above + _seal(above) and ("digest" in read or read["version"] == SEALED_FROM_VERSION):
            raise ContentError(f"{CONTENT_FILE} is not what was written")
        if read["version"] > VERSION:
            raise NewerContent(f"format version {read['version']}, this program knows {VERSION}")
        if read["version"] not in range(1, VERSION + 1):
            raise ContentError(f"there never was a format version {read['version']}")
        told = shapes.of(_Told, read)
        files = {each.name: (each.bytes, each.digest) for each in told.files}
        if algorithm := not_known(digest for _, digest in files.values()):
            raise NewerContent(f"its digests are {algorithm!r}, which this program does not know")
        return Content(told.step, files, told.total_steps, told.epoch_of_data, told.metrics or {}, told.made_by or {})
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, ContentError):
            raise
        raise ContentError(f"{CONTENT_FILE} is damaged ({error})") from error


def _seal(above: bytes) -> bytes:
    return f',\n "digest": "sha256:{hashlib.sha256(above).hexdigest()}"\n}}'.encode()
