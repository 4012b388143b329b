"""Staged checkpoints on the local disk: finds, verifies and deletes them."""

from __future__ import annotations

import os
import re
import shutil
import stat
from typing import TYPE_CHECKING

from supervisor.core.checkpoint.checkpoint_json import CONTENT_FILE, CheckpointInfo, CheckpointInfoError, parse
from supervisor.core.checkpoint.manifest import CheckpointId
from supervisor.core.checkpoint.session_id import SessionId, parse_session_id
from supervisor.core.digest import Digest, algorithm_of, digest_of, preferred
from supervisor.core.frozen import dataclass
from supervisor.core.wire import fields

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = re.compile(f"step-({fields.STEPS})-([0-9]{{1,6}})")
CHUNK_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class StagedCheckpoint:
    """A staged folder and its id."""

    folder: Path
    id: CheckpointId


def staged_in(staging: Path, rank: SessionId) -> list[StagedCheckpoint]:
    """Return the staged folders of a session, oldest first. A folder gets its name only when it is complete."""
    try:
        names = sorted(each.name for each in staging.iterdir() if is_own(each)) if is_own(staging) else []
    except FileNotFoundError:
        return []
    found = [
        StagedCheckpoint(staging / name, CheckpointId(rank.generation, int(match[1]), rank.writer, int(match[2])))
        for name in names
        if (match := FOLDER.fullmatch(name))
    ]
    return sorted(found, key=lambda each: each.id)


def staged_on_this_machine(run_folder: Path) -> list[StagedCheckpoint]:
    """Return the staged folders of all sessions of a run on this machine."""
    try:
        sessions = [(each, parse_session_id(each.name)) for each in run_folder.iterdir() if is_own(each)]
    except FileNotFoundError:
        return []
    return [staged for folder, rank in sessions if rank for staged in staged_in(folder / "staging", rank)]


def is_own(folder: Path) -> bool:
    """Return whether a folder is this user's and no link. A run never resumes from another user's folder."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()


def content(folder: Path) -> CheckpointInfo:
    """Return the folder's own description. Raises CheckpointInfoError."""
    return sealed(folder)[0]


def sealed(folder: Path) -> tuple[CheckpointInfo, tuple[int, str]]:
    """Return the folder's own description with the length and digest of its file. Raises CheckpointInfoError."""
    try:
        body = (folder / CONTENT_FILE).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CheckpointInfoError(f"{CONTENT_FILE} is missing") from error
    return parse(body), (len(body), digest_of((body,), preferred()))


def verify(folder: Path, step: int) -> CheckpointInfo:
    """Hash every file of a checkpoint folder. Raises CheckpointInfoError for the first incorrect one."""
    said = content(folder)
    if said.step != step:
        raise CheckpointInfoError(f"{CONTENT_FILE} is of step {said.step}, not {step}")
    for name, (length, promised) in said.files.items():
        try:
            measured = measure(fields.into(folder, name), algorithm_of(promised))
        except FileNotFoundError as error:
            raise CheckpointInfoError(f"{name} is missing") from error
        if measured != (length, promised):
            raise CheckpointInfoError(f"{name} is damaged: {measured[0]} of {length} bytes, or a wrong digest")
    return said


def discard(folder: Path) -> None:
    """Delete a checkpoint folder. Its description goes first, so that a partial folder never looks complete."""
    (folder / CONTENT_FILE).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def measure(path: Path, algorithm: str) -> tuple[int, str]:
    """Return a file's length and digest."""
    digest, length = Digest(algorithm), 0
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            length += len(chunk)
    return length, str(digest)
