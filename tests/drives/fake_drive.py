"""A fake DriveFS as the drive: what is known of Colab's mounted Drive, and every fault of it at a switch."""

from __future__ import annotations

import hashlib
import json
import socket
import sys
from typing import TYPE_CHECKING, Any

from benchmarks.machines import until
from tests.drives.drive import Drive, Guard
from tests.drives.drivefs_cloud import Cloud

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class FakeDrive(Drive):
    """Switches are set by name at any time (tests/drives/drivefs_cloud.py lists them) and hold over a new mount."""

    type = "fuse.drive"

    def __init__(
        self, folder: Path, guard: Guard, *, seed: int = 0, cloud: Path | None = None, **switches: Any
    ) -> None:
        super().__init__(folder, guard, cloud=cloud)
        self.seed, self.switches = seed, switches
        # a name without a file, because a socket's path has at most 107 bytes, fewer than many a test's folder
        self.control = f"fake-drive-{hashlib.sha256(str(folder).encode()).hexdigest()}"

    @property
    def root(self) -> Path:
        return self.mountpoint / "MyDrive"

    @property
    def uploaded(self) -> Path:
        return Cloud(self.cloud).tree / "MyDrive"

    @property
    def trash(self) -> Path:
        return Cloud(self.cloud).trash

    def command(self) -> Sequence[str]:
        return [
            sys.executable, "-m", "tests.drives.drivefs", str(self.mountpoint), str(self.cloud), str(self.cache),
            self.control, str(self.seed),
        ]  # fmt: skip

    def mount(self) -> None:
        super().mount()
        if self.switches:
            self.set(**self.switches)

    def set(self, **switches: Any) -> dict[str, Any]:
        """Throw switches; operations that hang go on if they are not meant any more. Return the machine's state."""
        self.switches.update(switches)
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(f"\0{self.control}")
            line.sendall(json.dumps(switches).encode() + b"\n")
            with line.makefile() as answer:
                return dict(json.loads(answer.read()))

    def state(self) -> dict[str, Any]:
        """Return the switches, how often each operation was asked for, what waits to be uploaded, and the bytes used."""
        return self.set()

    def drain(self) -> None:
        """Wait until everything is uploaded."""
        until(lambda: not self.state()["pending"])
