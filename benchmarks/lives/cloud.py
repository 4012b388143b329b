"""The far side of the drive as Google's shows it: a file is there whole, in its last whole version, or not at all.

rclone writes into a local folder in place, so a machine that dies leaves halves there that no Google Drive would ever show.
"""

from __future__ import annotations

import json
import shutil
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOOK_EVERY_S = 0.03


class Cloud:
    """Keeps the last whole version of every file while one machine lives; ``settle`` puts halves right after its death."""

    def __init__(self, far: Path, versions: Path, cache: Path) -> None:
        self._far, self._versions = far, versions
        self._records = cache / "vfsMeta" / "local" / str(far).lstrip("/")
        self._known: dict[str, str] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def settle(self) -> list[str]:
        """Look no longer; put halves right, and return their names. The machine must be dead, and its cache still there."""
        self._end.set()
        self._thread.join()
        halves = [name for name, record in self._read() if record.get("Dirty") is not False]
        for name in halves:
            whole, shown = self._versions / name, self._far / name
            shown.unlink(missing_ok=True)
            if whole.exists():
                shown.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(whole, shown)
        return halves

    def _watch(self) -> None:
        while not self._end.wait(LOOK_EVERY_S):
            for name, record in list(self._read()):
                if record.get("Dirty") is False and self._known.get(name) != record.get("Fingerprint"):
                    self._keep(name, record)

    def _keep(self, name: str, record: dict[str, Any]) -> None:
        kept, coming = self._versions / name, self._versions / f"{name}.coming"
        kept.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(self._far / name, coming)
        except FileNotFoundError:
            kept.unlink(missing_ok=True)  # the machine has deleted it
            return
        if self._one(self._records / name) == record:  # else a newer version came meanwhile, and this may be half of it
            coming.replace(kept)
            self._known[name] = str(record.get("Fingerprint"))

    def _read(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for path in self._records.rglob("*"):
            if path.is_file() and (record := self._one(path)):
                yield str(path.relative_to(self._records)), record

    def _one(self, path: Path) -> dict[str, Any]:
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}  # it is being written or removed just now
        return found if isinstance(found, dict) else {}
