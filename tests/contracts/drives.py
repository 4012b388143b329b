"""The stores of mounted drives for the contract: in this process, in a worker process, and in one over a real rclone mount."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
from typing import TYPE_CHECKING

from benchmarks.machines import until
from supervisor.stores.drive import DriveStore
from supervisor.stores.held import HeldMount
from supervisor.stores.mounted import MountedStore
from supervisor.stores.mounts import mount_of, mounts
from tests.drives.drive import Guard
from tests.drives.rclone_drive import RcloneDrive
from tests.faults import syscalls

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from supervisor.core.ports import Store
    from supervisor.stores.uploads import Uploads, Written


class Obliging:
    """A client that has uploaded everything at once."""

    kind = "obliging"
    remains = b""

    def see(self, file: Written) -> str:
        return self.kind

    def cache(self) -> str | None:
        return None


def _obliging(*_: object) -> Uploads:
    return Obliging()


def in_process(root: Path) -> DriveStore:
    """A drive's store on the disk of this folder, whose mount stands for the drive's, and whose client says yes."""
    mount = mount_of(str(root), mounts())
    assert mount is not None
    return DriveStore(HeldMount(str(root), mount), choose=_obliging)


def in_worker(root: Path, patience_s: float = 20.0) -> MountedStore:
    """The same behind a worker process; nobody can tell about uploads there."""
    mount = mount_of(str(root), mounts())
    assert mount is not None
    return MountedStore(str(root), mount=mount, patience_s=patience_s, confirm_every_s=0.05)


def missing_tools() -> str:
    """Why rclone cannot be used here."""
    if os.getuid() != 0:
        return "not root: this mounts a drive"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "no /dev/fuse here: this mounts a drive"
    tools = [tool for tool in ("fusermount3", "rclone") if shutil.which(tool) is None]
    return f"{', '.join(tools)} not installed: this mounts a drive" if tools else ""


class Rclone:
    """One real rclone mount, for stores each in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._guard, self._numbers = Guard(), itertools.count()
        self.drive = RcloneDrive(folder, self._guard, write_back="100ms")
        self.drive.mount()

    def store(self, patience_s: float = 20.0) -> MountedStore:
        return in_worker(self.drive.root / f"store-{next(self._numbers)}", patience_s)

    def end(self) -> None:
        self.drive.kill()
        self._guard.end()


@contextlib.contextmanager
def unreadable(store: Store, code: int, rclone: Rclone | None) -> Iterator[None]:
    """Let every look at the store fail."""
    inner, where = getattr(store, "inner", store), store.traits.where
    if rclone is not None:
        rclone.drive.die()
        try:
            yield
        finally:
            rclone.drive.mount()
        return

    def fail(call: syscalls.Call):
        if call.name in {"open", "scandir"} and call.path.startswith(where):
            raise OSError(code, "no answer", call.path)
        return call.go()

    if isinstance(inner, MountedStore):
        with _another_mount(inner):
            yield
        return
    shelf = getattr(inner, "shelf", None)
    if shelf is not None:
        shelf.broken = "gone"
    with syscalls.bent(fail):
        yield


@contextlib.contextmanager
def _another_mount(store: MountedStore) -> Iterator[None]:
    """Let the store's next workers find another mount than theirs."""
    workers = store._workers
    begin, workers._begin = workers._begin, {**workers._begin, "mount": [*workers._begin["mount"][:-1], "another"]}
    for worker in workers._idle:
        os.kill(worker.pid, signal.SIGKILL)
        until(worker.is_over)
    try:
        yield
    finally:
        workers._begin = begin
