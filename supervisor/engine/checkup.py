"""Can a run live here: tries the store and the local disk the way a run uses them, and leaves nothing behind."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core.finding import Finding
from supervisor.core.ports import Store, StoreError
from supervisor.engine.packing import available
from supervisor.engine.runs import cannot_use

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor.core.instant import Instant
    from supervisor.core.ports import Clock

PROBE_BYTES = 64 * 1024
FEW_BYTES, LITTLE_BYTES = 200 * 10**6, 5 * 10**9
SLOW_S = 1.0
# No clock that is right can show an earlier time than that of this version; and one this late is not set.
EARLIEST_WALL_S, LATEST_WALL_S = 1_750_000_000.0, 4_000_000_000.0


def store(probed: Store, clock: Clock) -> Iterator[Finding]:
    """Write, read back, prove and remove a small file in the store; say what is free."""
    where = Path(probed.traits.where)
    new = not _there(where)
    folder = f"doctor-{secrets.token_hex(4)}"
    body = secrets.token_bytes(PROBE_BYTES)
    try:
        began = clock.now()
        probed.create(f"{folder}/probe", body)
        seconds = clock.now().since(began)
        _same(probed.read(f"{folder}/probe"), body)
        evidence = probed.evidence(f"{folder}/probe")
        probed.delete(f"{folder}/probe")
        probed.delete(folder)
        if new:
            probed.delete("")
    except StoreError as error:
        two = cannot_use(probed, error)
        yield Finding("store", "problem", two.what, two.hint)
        return
    yield Finding("store", "ok", f"{where} takes files, gives them back and removes them")
    yield _speed(seconds)
    yield Finding("evidence", "ok", f"a checkpoint is called safe after: {evidence}")
    yield space("store space", where)


def local(folder: Path) -> Iterator[Finding]:
    """Write and remove a small file where checkpoints are staged; say what is free."""
    probe = folder / f"doctor-{secrets.token_hex(4)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"probe")
        probe.unlink()
    except OSError as error:
        hint = "make it writable, or name another folder in SUPERVISOR_RUN_LOCAL"
        yield Finding("staging", "problem", f"{folder} cannot be written: {error.strerror}", hint)
        return
    yield Finding("staging", "ok", f"checkpoints are staged in {folder}")
    yield space("staging space", folder)


def time(now: Instant) -> Finding:
    """Judge the wall clock. Nothing is decided by it, but people read it, and secure connections need it."""
    if EARLIEST_WALL_S <= now.wall_s <= LATEST_WALL_S:
        return Finding("clock", "ok", "the clock shows a possible time")
    return Finding(
        "clock", "warning", "the clock shows a time that cannot be", "set it; runs go on without, logs mislead"
    )


def packing() -> Finding:
    """Say whether files could be packed where the upload is slow."""
    if available():
        return Finding("packing", "ok", "files are packed with zstd where the upload is measured to be slow")
    return Finding(
        "packing", "ok", "files are sent as they are; with the package zstandard, packed where uploads are slow"
    )


def space(about: str, folder: Path) -> Finding:
    """Say how much is free on the disk that holds ``folder`` or would hold it."""
    there = next(each for each in (folder, *folder.parents) if _there(each))
    read = os.statvfs(there)
    free = read.f_bavail * read.f_frsize
    words = f"{free / 10**9:.1f} GB free"
    if free < FEW_BYTES:
        return Finding(about, "problem", words, f"make room on the disk of {there}")
    if free < LITTLE_BYTES:
        return Finding(
            about, "warning", words, "a checkpoint needs about three times the model's size; room for 5 of them is well"
        )
    return Finding(about, "ok", words)


def _same(read: bytes, written: bytes) -> None:
    if read != written:
        raise StoreError("a file reads back differently from what was written", "lied")


def _speed(seconds: float) -> Finding:
    words = f"a small file is safe after {seconds * 1000:.0f} ms"
    if seconds < SLOW_S:
        return Finding("store speed", "ok", words)
    return Finding("store speed", "warning", words, "saves take longer here; training goes on meanwhile")


def _there(folder: Path) -> bool:
    try:
        folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # it is there, and cannot be looked into: the probe says why
    return True
