"""Can a run live here: tries the store and the local disk the way a run uses them, and leaves nothing behind.

Of the store only its own verbs are used: whatever else touches a mounted drive may hang for ever.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core import interval
from supervisor.core.finding import Finding
from supervisor.core.ports import Store, StoreError
from supervisor.core.spoken import duration
from supervisor.engine.probing import Measurement, Probe, measure
from supervisor.engine.runs import cannot_use

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from supervisor.core.instant import Instant
    from supervisor.core.ports import Clock

EXAMPLE_BYTES = 300e6
PROOF_WAIT_S = 60.0
FEW_BYTES, LITTLE_BYTES = 200 * 10**6, 5 * 10**9
SLOW_S, ROUGH_S = 1.0, 10.0
# No clock that is right can show an earlier time than that of this version; and one this late is not set.
EARLIEST_WALL_S, LATEST_WALL_S = 1_750_000_000.0, 4_000_000_000.0
_PROOFS = {
    "fsync": "it is flushed to the disk",
    "drivefs": "Drive itself says, twice, that each of its files is uploaded",
    "rclone": "rclone itself says, twice, that each of its files is uploaded",
}


def store(probed: Store, clock: Clock, life_s: float, pause: Callable[[float], object]) -> Iterator[Finding]:
    """Write, read back, prove and remove files in the store; say what that means for a run. ``life_s``: of a machine here."""
    traits = probed.traits
    new = not traits.mounted and not _there(Path(traits.where))
    try:
        measured = measure(probed, clock, pause, PROOF_WAIT_S)
        free = probed.free_bytes()
        if new:
            probed.delete("")
    except StoreError as error:
        two = cannot_use(probed, error)
        yield Finding("store", "problem", two.what, two.hint)
        return
    kind = f" ({traits.place})" if traits.place else ""
    yield Finding("store", "ok", f"{traits.where}{kind} takes files, gives them back and removes them")
    yield _evidence(probed, measured)
    yield from _speed(measured, life_s)
    if traits.mounted or traits.settle_s:
        words = f"what another machine writes may show up to {duration(traits.settle_s)} late; a start waits for that"
        hint = "" if traits.evidence == "fsync" else "if it is known to be less here: start … --settle TIME"
        yield Finding("staleness", "ok", words, hint)
    yield _room("store space", free, traits.where, traits.place)


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


def space(about: str, folder: Path) -> Finding:
    """Say how much is free on this machine's disk that holds ``folder`` or would hold it."""
    there = next(each for each in (folder, *folder.parents) if _there(each))
    read = os.statvfs(there)
    return _room(about, read.f_bavail * read.f_frsize, str(there))


def _room(about: str, free: int | None, where: str, place: str = "") -> Finding:
    quota = "deleted files count too, until the trash is emptied: drive.google.com/settings/storage"
    if free is None:
        hint = quota if place == "Drive" else "see to it yourself that there is room for some checkpoints"
        return Finding(about, "ok", "nobody here knows how much is free", hint)
    words = f"{free / 10**9:.1f} GB free"
    if free < FEW_BYTES:
        return Finding(
            about, "problem", words, quota if place == "Drive" else f"make room on {place or 'the disk of'} {where}"
        )
    if free < LITTLE_BYTES:
        few = "a checkpoint needs about three times the model's size; room for 5 of them is well"
        return Finding(about, "warning", words, few)
    return Finding(about, "ok", words)


def _evidence(probed: Store, measured: Measurement) -> Finding:
    traits = probed.traits
    last = measured.large or measured.small
    if last.safe_s is not None:
        return Finding(
            "evidence", "ok", f"a checkpoint is called safe when {_PROOFS.get(last.evidence, last.evidence)}"
        )
    if not last.possible:
        words = "nothing here can prove that a file has left this machine: no checkpoint is called safe, and none is removed"
        hint = (
            "`checkpoints verify` on another machine makes them safe; or mount it with rclone --vfs-cache-mode writes"
        )
        return Finding("evidence", "warning", f"{words} ({last.why})", hint)
    words = f"{_size(last)} are written but not safe after {duration(PROOF_WAIT_S)}: {last.why}"
    hint = f"is {traits.place or 'the store'} full? is the upload slow? runs go on here, and say what is not safe yet"
    return Finding("evidence", "warning", words, hint)


def _speed(measured: Measurement, life_s: float) -> Iterator[Finding]:
    last = measured.large or measured.small
    words = f"{_size(last)} are written in {_seconds(last.write_s)}"
    if last.safe_s is None:
        yield Finding("store speed", "ok", words)
        return
    words += f" and safe after {_seconds(last.safe_s)}"
    slow = last.safe_s >= SLOW_S
    yield Finding("store speed", "ok", words, "training goes on meanwhile" if slow else "")
    upload_s = measured.upload_s(EXAMPLE_BYTES)
    if upload_s is None:
        return
    every = interval.best(0.0, upload_s, life_s)
    hint = (
        f"--save-every auto saves at most every {duration(every.every_s)} then, and a lost machine costs about "
        f"{duration(every.loss_s)} of work"
    )
    yield Finding(
        "save interval", "ok", f"{EXAMPLE_BYTES / 1e6:.0f} MB are safe after about {_seconds(upload_s)} here", hint
    )


def _size(probe: Probe) -> str:
    return f"{probe.bytes / 1e6:.0f} MB" if probe.bytes >= 10**6 else f"{probe.bytes / 1e3:.0f} kB"


def _seconds(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < ROUGH_S else duration(seconds)


def _there(folder: Path) -> bool:
    """Say whether a folder of this machine's own disk is there."""
    try:
        folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # it is there, and cannot be looked into: the probe says why
    return True
