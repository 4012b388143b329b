"""Supervisors that a notebook started: their output, exit code and last seen state, on the local disk.

A kernel may restart and a browser may close at any time. The next kernel finds everything here.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from supervisor.core.frozen import dataclass
from supervisor.engine import json_file
from supervisor.engine.trainer_process.process_identity import started

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

FOLDER = "notebook"
NOTE, OUTPUT, EXIT, SEEN = "note.json", "output.log", "exit.json", "seen.json"
OLD_KEPT = 5
READ_BYTES_MAX = 256_000


@dataclass(frozen=True, slots=True)
class DetachedSupervisor:
    """One supervisor of ``run`` in ``store``. Its ``folder`` stays after its end."""

    folder: Path
    run: str
    store: str
    pid: int
    since: str | None

    @property
    def alive(self) -> bool:
        """Whether exactly this process is still running."""
        return self.since is not None and started(self.pid) == self.since

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs, or if it died without one."""
        code = (json_file.read(self.folder / EXIT) or {}).get("code")
        return code if isinstance(code, int) else None

    @property
    def seen(self) -> Mapping[str, Any]:
        """The state that was last shown to the user, else empty."""
        return json_file.read(self.folder / SEEN) or {}

    def note_shown(self, told: Mapping[str, Any]) -> None:
        """Note the state that is shown to the user."""
        with suppress(OSError):  # after a full local disk the next kernel only shows less
            json_file.write(self.folder / SEEN, told)

    def output_since(self, offset: int) -> tuple[str, int]:
        """Return complete output lines from a byte on, and the next byte.

        Of long output only the end is returned.
        """
        try:
            with (self.folder / OUTPUT).open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                begin = max(offset, end - READ_BYTES_MAX)
                file.seek(begin)
                body = file.read()
        except FileNotFoundError:
            return "", offset
        whole = body[: body.rfind(b"\n") + 1]
        return whole.decode("utf-8", "replace"), begin + len(whole)


def new(local_root: Path) -> Path:
    """Create the folder of another supervisor, and delete those of the oldest ended ones."""
    above = local_root / FOLDER
    above.mkdir(parents=True, exist_ok=True)
    numbers = _numbers(above)
    for number in numbers[:-OLD_KEPT]:
        found = _read(above / str(number))
        if found is None or not found.alive:
            shutil.rmtree(above / str(number), ignore_errors=True)
    number = max(numbers, default=0) + 1
    while True:
        try:
            (above / str(number)).mkdir()
        except FileExistsError:
            number += 1  # another notebook was quicker
        else:
            return above / str(number)


def note(folder: Path, pid: int, run: str, store: str) -> DetachedSupervisor:
    """Record the supervisor's process. It does so itself, because the kernel that started it may be gone."""
    made = DetachedSupervisor(folder, run, store, pid, started(pid))
    json_file.write(folder / NOTE, {"pid": pid, "since": made.since, "run": run, "store": store})
    return made


def ended(folder: Path, code: int) -> None:
    """Record its exit code."""
    json_file.write(folder / EXIT, {"code": code})


def known(local_root: Path, store: str) -> Iterator[DetachedSupervisor]:
    """Yield the supervisors of a store, newest first."""
    above = local_root / FOLDER
    for number in reversed(_numbers(above)):
        found = _read(above / str(number))
        if found is not None and found.store == store:
            yield found


def _numbers(above: Path) -> list[int]:
    try:
        return sorted(int(each.name) for each in above.iterdir() if each.name.isdecimal())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _read(folder: Path) -> DetachedSupervisor | None:
    told, noted = json_file.read(folder / NOTE) or {}, json_file.process(folder / NOTE)
    return (
        None
        if noted is None
        else DetachedSupervisor(folder, str(told.get("run", "")), str(told.get("store", "")), *noted)
    )
