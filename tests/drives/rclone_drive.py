"""A real rclone mount of a folder as the drive: it uploads in the background and knows nothing of evidence by attributes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.drives.drive import Drive, Guard

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class RcloneDrive(Drive):
    """Options are rclone's own: ``bwlimit`` ("8M"), how long after closing a file goes, how long listings are believed."""

    type = "fuse.rclone"

    def __init__(
        self, folder: Path, guard: Guard, *, bwlimit: str = "", write_back: str = "1s", dir_cache_time: str = "1s",
        cloud: Path | None = None,
    ) -> None:  # fmt: skip
        super().__init__(folder, guard, cloud=cloud)
        self.bwlimit, self.write_back, self.dir_cache_time = bwlimit, write_back, dir_cache_time

    def kill_at_rest(self) -> None:
        """Kill -9 and unmount while all of its records are whole: a file whose record a kill tears is lost with it (1.60)."""
        self.stop()
        while not self._records_are_whole():
            self.go()
            self.stop()
        self.die()
        self.kill()

    def _records_are_whole(self) -> bool:
        try:
            return all(json.loads(path.read_bytes()) for path in (self.cache / "vfsMeta").rglob("*") if path.is_file())
        except ValueError:
            return False

    def command(self) -> Sequence[str]:
        limit = ["--bwlimit", self.bwlimit] if self.bwlimit else []
        return [
            "rclone", "mount", str(self.cloud), str(self.mountpoint), "--config", "/dev/null", "--cache-dir",
            str(self.cache), "--vfs-cache-mode", "writes", "--vfs-write-back", self.write_back, "--dir-cache-time",
            self.dir_cache_time, "--poll-interval", "0", "-v", *limit,
        ]  # fmt: skip
