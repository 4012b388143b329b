"""Control groups of a machine, of version 1 or 2: all of its processes can be paused at once, and its memory is limited."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
NAME = "training-supervisor-machine"
WAIT_S_MAX = 400.0
LOOK_EVERY_S = 0.005


class Group:
    """A machine's groups; ``folders`` take the process ids. What cannot be had here is left out, and can be asked for."""

    def __init__(self, name: str, *, memory_bytes: int = 0) -> None:
        _sweep()
        self.folders: list[Path] = []
        self._freezer = self._make(name, "cgroup.freeze") or self._make(name, "freezer.state", CGROUPS / "freezer")
        self._limiting: list[Path] = []
        if memory_bytes and not self._limit(name, memory_bytes, CGROUPS / "memory", "memory.limit_in_bytes"):
            self._limit(name, memory_bytes, _unified(), "memory.max")

    @property
    def limited(self) -> bool:
        """Whether its memory is limited."""
        return bool(self._limiting)

    @property
    def unlimited(self) -> list[Path]:
        """The groups for what is not to die for want of memory."""
        return [] if self._freezer is None or self._freezer.parent in self._limiting else [self._freezer.parent]

    @property
    def freezes(self) -> bool:
        """Whether all of it can be paused by the kernel."""
        return self._freezer is not None

    def freeze(self) -> None:
        """Pause all processes at once; one that waits for another of them cannot run either, and is not waited for."""
        assert self._freezer is not None
        self._freezer.write_text("FROZEN" if self._freezer.name == "freezer.state" else "1")

    def thaw(self) -> None:
        """Let them go on as if nothing had been."""
        if self._freezer is not None:
            self._freezer.write_text("THAWED" if self._freezer.name == "freezer.state" else "0")

    def end(self) -> None:
        """Remove the groups once they are empty."""
        for folder in self.folders:
            end_s = time.perf_counter() + WAIT_S_MAX
            while folder.exists() and time.perf_counter() < end_s:
                with contextlib.suppress(OSError):  # its last process may still be on its way out
                    folder.rmdir()
                    break
                time.sleep(LOOK_EVERY_S)

    def _make(self, name: str, file: str, root: Path | None = None) -> Path | None:
        folder = (root or _unified()) / f"{NAME}-{os.getpid()}-{name}"
        if not folder.parent.is_dir():
            return None
        with contextlib.suppress(OSError):
            folder.mkdir(exist_ok=True)
            found = (folder / file).exists()
            if found and folder not in self.folders:
                self.folders.append(folder)
            if folder not in self.folders:
                folder.rmdir()
            return folder / file if found else None
        return None

    def _limit(self, name: str, memory_bytes: int, root: Path, file: str) -> bool:
        limit = self._make(name, file, root)
        if limit is None:
            return False
        with contextlib.suppress(OSError):
            limit.write_text(str(memory_bytes))
            with contextlib.suppress(FileNotFoundError):
                (limit.parent / "memory.swap.max").open("r+").write("0")
            self._limiting.append(limit.parent)
        return self.limited


def _unified() -> Path:
    both = CGROUPS / "unified"  # where version 1 is mounted too
    return both if both.is_dir() else CGROUPS


def _sweep() -> None:
    """Remove the groups of test runs that were killed."""
    for root in {_unified(), CGROUPS / "memory", CGROUPS / "freezer"}:
        for folder in root.glob(f"{NAME}-*"):
            maker = folder.name.removeprefix(f"{NAME}-").partition("-")[0]
            if not Path("/proc", maker).exists():
                with contextlib.suppress(OSError):
                    folder.rmdir()
