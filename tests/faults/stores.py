"""The stores that are harmed: a folder, one on another disk, and a drive whose client says what a test wants."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core.ports import Measured, Traits, Unconfirmed
from supervisor.stores.drive import DriveStore
from supervisor.stores.folder import FolderStore
from supervisor.stores.held import HeldMount
from supervisor.stores.mounts import Mount
from supervisor.stores.uploads import NoWord
from tests.faults.world import SHARING, SIZES

if TYPE_CHECKING:
    from supervisor.stores.uploads import Uploads, Written


class OnAnotherDisk(FolderStore):
    """A folder that no local file can be linked into or out of."""

    def push(self, local: str, path: str, algorithm: str, *, link: bool = False) -> Measured:
        return super().push(local, path, algorithm)

    def pull(self, path: str, local: str, algorithm: str, *, link: bool = False) -> Measured:
        return super().pull(path, local, algorithm)


class Client:
    """Has uploaded a file by the time it is asked about it; ``late``: only when it was asked that often before."""

    kind = "client"
    remains = b""

    def __init__(self, late: int = 0) -> None:
        self.late = late
        self.asked: Counter[str] = Counter()

    def see(self, file: Written) -> str:
        self.asked[file.path] += 1
        if self.asked[file.path] <= self.late:
            raise Unconfirmed("not uploaded yet")
        return self.kind

    def cache(self) -> str | None:
        return None


class OnADrive(DriveStore):
    """The store of a drive whose root is the folder above."""

    def __init__(self, where: str, client: Uploads | None = None) -> None:
        found = client or Client()
        super().__init__(HeldFolder(where), choose=lambda *_: found)

    @property
    def traits(self) -> Traits:
        """What the supervisor's side of such a store says."""
        return Traits(where=self.held.root, place="the drive", evidence="client", confirm_every_s=1.0, mounted=True)


def silent(where: str) -> OnADrive:
    """Open the store of a drive whose client never says anything."""
    return OnADrive(where, NoWord())


class HeldFolder(HeldMount):
    """The folder above the store, held as a mount is, without asking the machine's mount table each time."""

    def __init__(self, where: str) -> None:
        super().__init__(where, Mount(1, 0, "0:0", "/", str(Path(where).parent), "fuse.test", "test"))

    def __del__(self) -> None:
        self.release()

    def _proved(self) -> tuple[int, str]:
        if self._fd is None:
            self._fd = os.open(self.mount.point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self.opened += 1
        os.fstat(self._fd)
        return self._fd, Path(self.root).name


WORLDS = {
    **{f"{words}, linked": (size, FolderStore) for words, size in SIZES.items()},
    "three files, on another disk": (SHARING, OnAnotherDisk),
    **{f"{words}, on a drive": (size, OnADrive) for words, size in SIZES.items()},
}
