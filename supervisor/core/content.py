"""What a checkpoint folder says of itself: ``checkpoint.json``, written last by whoever made the folder."""

from __future__ import annotations

import json
from dataclasses import field
from typing import TYPE_CHECKING, Any

from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT = "training-supervisor-checkpoint"
VERSION = 1
CONTENT_FILE = "checkpoint.json"
LOG_FILE = "log.jsonl"


class ContentError(ValueError):
    """The folder does not hold a checkpoint that can be used."""


class NewerContent(ContentError):  # noqa: N818, because it is no defect: another version may read it
    """Written by a later version of this program."""


@dataclass(frozen=True, slots=True)
class Content:
    """``files`` maps each file's name to its length and digest (``sha256:<hex>``)."""

    step: int
    files: Mapping[str, tuple[int, str]]
    total_steps: int | None = None
    epoch_of_data: float | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    made_by: Mapping[str, str] = field(default_factory=dict)


def parse(body: bytes) -> Content:
    """Read ``checkpoint.json``, or raise ContentError."""
    try:
        read = json.loads(body)
        if read["format"] != FORMAT:
            raise ContentError("it is not a checkpoint of this program")
        if read["version"] > VERSION:
            raise NewerContent(f"format version {read['version']}, this program knows {VERSION}")
        files = {entry["name"]: (int(entry["bytes"]), str(entry["digest"])) for entry in read["files"]}
        if any("/" in name or name in {"", ".", ".."} for name in files):
            raise ContentError("it names a file outside its folder")
        return Content(
            step=int(read["step"]),
            files=files,
            total_steps=read.get("total_steps"),
            epoch_of_data=read.get("epoch_of_data"),
            metrics=read.get("metrics") or {},
            made_by=read.get("made_by") or {},
        )
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, ContentError):
            raise
        raise ContentError(f"{CONTENT_FILE} is damaged ({error})") from error
