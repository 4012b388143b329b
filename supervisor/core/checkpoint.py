"""Checkpoints as the store knows them: their order, their manifests, and where a run resumes."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import field
from enum import StrEnum
from math import isfinite
from typing import TYPE_CHECKING, Any

from supervisor.core import fields, shapes
from supervisor.core.claim import Rank
from supervisor.core.digest import not_known
from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SCHEMA = 1
PACKED_SCHEMA = 2  # early builds of version 0.1 wrote it where they had packed a file; the next schema is 3
PACKED = "early builds of version 0.1 packed its files, and this version reads plain files alone"
MANIFEST_NAME = re.compile(rf"manifest-([0-9]{{6}})-([0-9a-f]{{16}}){fields.TWIN}\.json")
STEP_FOLDER = re.compile(f"step-({fields.STEPS}){fields.TWIN}")
LOG_NAME = re.compile(rf"log-([0-9]{{6}})-({fields.STEPS})-({fields.STEPS}){fields.TWIN}\.jsonl")
CHECKPOINT = f"([0-9]{{1,12}})-([0-9]{{1,15}})-({fields.WRITER})-([0-9]{{1,6}})"  # in the name of a receipt or a pin


@dataclass(frozen=True, slots=True, order=True)
class CheckpointId:
    """Total order of all checkpoints of a run: a later session outranks, then the later step."""

    epoch: shapes.Epoch
    step: shapes.Step
    writer: shapes.Writer
    seq: shapes.Seq

    def __str__(self) -> str:
        return f"step {self.step:,} of session {self.epoch}"

    @property
    def rank(self) -> Rank:
        """The session that wrote it."""
        return Rank(self.epoch, self.writer)


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a checkpoint.

    ``name`` is what the script calls it; ``path`` is where it lies, relative to the run's folder: in the checkpoint's
    own folder, or in an older one of the same session; ``rank`` and ``host`` say which writer it comes from (one for now).
    """

    name: shapes.Name
    path: shapes.Below
    bytes: shapes.Whole
    digest: shapes.Digest
    rank: shapes.Whole = 0
    host: shapes.Text = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a checkpoint consists of. It is written last; its existence under its own hash is what publishes.

    ``pieces``: what is told of the step log up to it (``core.log_pieces``); empty in older manifests.
    """

    id: CheckpointId
    files: tuple[FileEntry, ...]
    total_steps: shapes.Count = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    parent: CheckpointId | None = None
    log: FileEntry | None = None
    made_by: Mapping[str, shapes.Text] = field(default_factory=dict)
    pieces: Mapping[str, shapes.Text] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Size of all files together, wherever they lie."""
        return sum(entry.bytes for entry in self.all_files())

    @property
    def sent_bytes(self) -> int:
        """Bytes that this checkpoint added to the store: its files without those in older ones' folders."""
        mine = f"/step-{self.id.step:09d}/"
        return sum(entry.bytes for entry in self.all_files() if entry is self.log or mine in entry.path)

    def all_files(self) -> tuple[FileEntry, ...]:
        """Return the state's files and the piece of the step log that belongs to it."""
        return self.files if self.log is None else (*self.files, self.log)


_WRITTEN = ("id", "files", "total_steps", "metrics", "parent", "log", "made_by")  # in every version's manifests


class Verdict(StrEnum):
    """What reading a checkpoint showed."""

    WHOLE = "whole"
    BROKEN = "broken"
    UNREADABLE = "unreadable"
    NEWER = "newer"
    PACKED = "packed"


class ManifestError(ValueError):
    """The bytes are not the manifest their name promises."""

    verdict = Verdict.BROKEN


class NewerFormat(ManifestError):  # noqa: N818, because it is no defect: another version may read it
    """Written by a later version of this program."""

    verdict = Verdict.NEWER


class PackedFormat(ManifestError):  # noqa: N818, because it is no defect: an earlier version reads it
    """An early build of version 0.1 wrote it, and packed its files."""

    verdict = Verdict.PACKED


@dataclass(frozen=True, slots=True)
class Found:
    """A manifest seen in a listing: where, which checkpoint, and what is known about it so far."""

    id: CheckpointId
    path: str
    manifest: Manifest | None = None
    verdict: Verdict | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Examine:
    """Read and verify this one, then ask again."""

    found: Found


@dataclass(frozen=True, slots=True)
class ResumeFrom:
    """Go on from here; ``skipped`` are newer ones that were not whole."""

    found: Found
    skipped: tuple[Found, ...]


@dataclass(frozen=True, slots=True)
class StartAfresh:
    """There is no sign of earlier work: begin at step 0."""


@dataclass(frozen=True, slots=True)
class AskUser:
    """Going on by ourselves could lose work: say what happened and stop."""

    why: str
    hint: str
    skipped: tuple[Found, ...] = ()


def resume_point(found: Iterable[Found], *, signs_of_work: bool) -> Examine | ResumeFrom | StartAfresh | AskUser:
    """Choose where the run goes on: the highest (epoch, step, writer, seq) that is whole.

    The answer does not depend on the order of ``found``. Unreadable is never taken for absent, and step 0 is never
    chosen where anything shows that more was done (``signs_of_work``: a manifest, or a journal that names one).
    """
    skipped: list[Found] = []
    for candidate in sorted(found, key=lambda each: (each.id, each.path), reverse=True):
        match candidate.verdict:
            case None:
                return Examine(candidate)
            case Verdict.WHOLE:
                return ResumeFrom(candidate, tuple(skipped))
            case Verdict.UNREADABLE:
                return AskUser(
                    f"cannot read the checkpoint of {candidate.id}: {candidate.why}",
                    "it may be whole, so nothing older was taken; try again when the store answers",
                )
            case Verdict.NEWER:
                return AskUser(
                    f"the checkpoint of {candidate.id} was written by a newer version of training-supervisor",
                    "update training-supervisor on this machine and start again",
                )
            case Verdict.BROKEN | Verdict.PACKED:
                skipped.append(candidate)
    if skipped or signs_of_work:
        return AskUser(
            "the store shows earlier work, but no usable checkpoint is in it",
            "look with `checkpoints verify`; to begin again at step 0 on purpose: start --resume never",
            tuple(skipped),
        )
    return StartAfresh()


def manifest_body(manifest: Manifest) -> bytes:
    """Return the canonical bytes of a manifest: the same manifest always gives the same bytes."""
    body = {"format": "training-supervisor-manifest", "schema": SCHEMA, **_fields(manifest)}
    body["id"], body["parent"] = _fields(manifest.id), None if manifest.parent is None else _fields(manifest.parent)
    body["files"], body["log"] = [_fields(each) for each in manifest.files], manifest.log and _fields(manifest.log)
    if not manifest.pieces:
        del body["pieces"]  # so that an older manifest keeps its bytes
    body["metrics"] = {key: _plain(value) for key, value in manifest.metrics.items()}
    return json.dumps(body, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode("utf-8", "surrogatepass")


def manifest_name(seq: int, body: bytes) -> str:
    """Return the name that binds a manifest to its bytes."""
    return f"manifest-{seq:06d}-{hashlib.sha256(body).hexdigest()[:16]}.json"


def parse_manifest(name: str, body: bytes) -> Manifest:
    """Read a manifest and prove it is the one its name promises, else raise ManifestError."""
    match = MANIFEST_NAME.fullmatch(name)
    if match is None or hashlib.sha256(body).hexdigest()[:16] != match[2]:
        raise ManifestError("its content is not what its name promises")
    try:
        read = fields.document(body, fields.LISTING_BYTES_MAX)
        if read["format"] != "training-supervisor-manifest":
            raise ManifestError("it is not a manifest")
        schema = fields.whole(read["schema"], "its schema")
        if schema == PACKED_SCHEMA:
            raise PackedFormat(PACKED)
        if schema > SCHEMA:
            raise NewerFormat(f"schema {schema}, this program knows {SCHEMA}")
        manifest = shapes.of(Manifest, {name: read[name] for name in _WRITTEN} | {"pieces": read.get("pieces", {})})
    except KeyError as error:
        raise ManifestError(f"it lacks {error}") from error
    except ValueError as error:
        raise error if isinstance(error, ManifestError) else ManifestError(str(error)) from error
    _see_usable(manifest)
    return manifest


def _see_usable(manifest: Manifest) -> None:
    """Raise ManifestError where two files would get one name, or only a newer version can read them."""
    entries = manifest.all_files()
    if algorithm := not_known(entry.digest for entry in entries):
        raise NewerFormat(f"its digests are {algorithm!r}, which this program does not know")
    if len({entry.name for entry in entries}) < len(entries):
        raise ManifestError("it names one file twice")
    session = str(manifest.id.rank)
    for entry in entries:
        if not _is_own(entry.path, session, manifest.id.step, is_log=entry is manifest.log):
            raise ManifestError(f"{entry.path!r:.120} is no place of a file of {session}")


def _is_own(path: str, session: str, newest: int, *, is_log: bool) -> bool:
    """Say whether a session gives a file such a place: files lie in step folders of its own, up to this step.

    Sessions share no files, and the pieces of the step log lie beside the step folders.
    """
    begin, _, inside = path.partition("/")
    *folder, name = inside.split("/")
    if begin != session or not fields.is_plain_name(name):
        return False
    if is_log:
        return not folder and LOG_NAME.fullmatch(name) is not None
    step = STEP_FOLDER.fullmatch(folder[0]) if len(folder) == 1 else None
    return step is not None and int(step[1]) <= newest


def _fields(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__slots__}


def _plain(value: Any) -> Any:
    """Return NaN and infinities as words, because canonical JSON has none."""
    return value if not isinstance(value, float) or isfinite(value) else repr(value)
