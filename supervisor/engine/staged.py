"""Staged checkpoints on the local disk: find the whole ones, prove them, remove what is not needed."""

from __future__ import annotations

import os
import re
import shutil
import stat
from typing import TYPE_CHECKING

from supervisor.core import fields
from supervisor.core.checkpoint import CheckpointId
from supervisor.core.claim import Rank, rank_of
from supervisor.core.content import CONTENT_FILE, Content, ContentError, parse
from supervisor.core.digest import Digest, algorithm_of, digest_of, preferred
from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = re.compile(f"step-({fields.STEPS})-([0-9]{{1,6}})")
CHUNK_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Staged:
    """A staged folder: which checkpoint it is, and whose."""

    folder: Path
    id: CheckpointId


def staged_in(staging: Path, rank: Rank) -> list[Staged]:
    """Return the staged folders of a session, oldest first. A folder has its name only when it is whole."""
    try:
        names = sorted(each.name for each in staging.iterdir() if is_mine(each)) if is_mine(staging) else []
    except FileNotFoundError:
        return []
    found = [
        Staged(staging / name, CheckpointId(rank.epoch, int(match[1]), rank.writer, int(match[2])))
        for name in names
        if (match := FOLDER.fullmatch(name))
    ]
    return sorted(found, key=lambda each: each.id)


def staged_on_this_machine(run_folder: Path) -> list[Staged]:
    """Return the staged folders of all sessions of a run that this machine still has."""
    try:
        sessions = [(each, rank_of(each.name)) for each in run_folder.iterdir() if is_mine(each)]
    except FileNotFoundError:
        return []
    return [staged for folder, rank in sessions if rank for staged in staged_in(folder / "staging", rank)]


def is_mine(folder: Path) -> bool:
    """Say whether a folder is this user's own, and no link: what another user has staged is not gone on from."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()


def content(folder: Path) -> Content:
    """Read what the folder says of itself, or raise ContentError."""
    return sealed(folder)[0]


def sealed(folder: Path) -> tuple[Content, tuple[int, str]]:
    """Read what the folder says of itself; return it with the length and digest of the bytes it was read from."""
    try:
        body = (folder / CONTENT_FILE).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ContentError(f"{CONTENT_FILE} is missing") from error
    return parse(body), (len(body), digest_of((body,), preferred()))


def prove(folder: Path, step: int) -> Content:
    """Read and hash every file of a checkpoint folder, or raise ContentError naming the first that is not whole."""
    said = content(folder)
    if said.step != step:
        raise ContentError(f"{CONTENT_FILE} is of step {said.step}, not {step}")
    for name, (length, promised) in said.files.items():
        try:
            measured = measure(fields.into(folder, name), algorithm_of(promised))
        except FileNotFoundError as error:
            raise ContentError(f"{name} is missing") from error
        if measured != (length, promised):
            raise ContentError(f"{name} is damaged: {measured[0]} of {length} bytes, or a wrong digest")
    return said


def discard(folder: Path) -> None:
    """Remove a checkpoint folder; its own record goes first, so that half a folder is never taken for a whole one."""
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
