"""Records of one Colab machine: its session record, which the command line may forget, and its own files."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from supervisor.engine import atomic
from supervisor.fleet.provisioners.colab.cli import write
from supervisor.fleet.provisioners.colab.output import record_in, sessions_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from supervisor.core.fleet.provisioning import Machine

OVER = re.compile(r'supervisor-[0-9a-f]{32}:{"ended"')


class MachineRecords:
    """``session`` is the command line's file for short calls, ``attached`` the one for the call that stays.

    Each has its own kernel: a short call would wait for ever behind the cell that stays.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.name, self.folder = name, folder / quote(name, safe=" ")
        self.session, self.attached = self.folder / "session.json", self.folder / "attached.json"
        self.log = self.folder / "attached.log"

    @property
    def launches(self) -> list[str] | None:
        """The marks of the agents launched from here; None if others may have been."""
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / "launches").read_text().split()
        return None

    def launched(self, mark: str) -> None:
        """Record the mark of an agent before its launch."""
        write(self.folder / "launches", "".join(f"{each}\n" for each in [*(self.launches or []), mark]))

    @property
    def record(self) -> str:
        """The session's record when the machine was created; "" if we created none of this name.

        If the caller of a call was killed or has left, the record is only in the command line's own file.
        """
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / "record.json").read_text()
        return self._in(self.session)

    @property
    def endpoint(self) -> str:
        """Colab's name of the machine."""
        record = self.record
        return str(json.loads(record)["endpoint"]) if record else ""

    def made(self) -> str:
        """Store and return the record that `new` has left; "" if it left none."""
        record = self.record
        if record:
            self.keep(record)
        return record

    def keep(self, record: str) -> None:
        """Store this record."""
        write(self.folder / "record.json", record)

    def ready(self, path: Path) -> Path:
        """Return the command line's file with the record, even if a faulty listing removed the record."""
        record, known = self.record, self._in(path)
        if record and (not known or json.loads(known)["endpoint"] != json.loads(record)["endpoint"]):
            write(path, sessions_file(record))
        return path

    def drop(self) -> None:
        """Forget the machine, and keep the place for another of this name."""
        (self.folder / "record.json").unlink(missing_ok=True)
        self.refresh()

    def refresh(self) -> None:
        """Let the next calls start with a fresh token and new kernels, because other users of the old ones are unknown."""
        for path in (self.session, self.attached, self.folder / "launches"):
            path.unlink(missing_ok=True)

    def detach(self) -> None:
        """End the call that stays, if there is one; its processes on the machine continue."""
        with self.lock("attached") as handle:
            if handle is not None:
                return
        with contextlib.suppress(OSError, ValueError):
            # the lock is held, so this process is alive and is the recorded one
            os.killpg(int((self.folder / "attached.pid").read_text()), signal.SIGKILL)
            self.wait_for("attached")

    def attached_output(self) -> list[str]:
        """Return the lines that the call that stays has printed so far."""
        with contextlib.suppress(FileNotFoundError):
            return self.log.read_text("utf-8", "replace").splitlines()
        return []

    def attached_ended(self) -> bool:
        """Return True if the cell of the call that stays has reported its end."""
        return any(OVER.match(line) for line in self.attached_output())

    def attach(self, group: int) -> None:
        """Record the process group of the call that stays; it holds the lock "attached" while it lives."""
        write(self.folder / "attached.pid", str(group))

    @contextlib.contextmanager
    def lock(self, what: str) -> Iterator[int | None]:
        """Hold a lock for the block; yield None if it is held already. Children that inherit it keep holding it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        handle = atomic.open_lock(self.folder / f"{what}.lock")
        try:
            yield handle if atomic.lock(handle) else None
        finally:
            os.close(handle)

    def wait_for(self, what: str) -> None:
        """Wait until this lock is free, while its holders are being killed."""
        with (self.folder / f"{what}.lock").open("rb") as file:
            atomic.lock(file.fileno(), wait=True)

    def forget(self) -> None:
        """Remove all records."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _in(self, path: Path) -> str:
        try:
            return record_in(path.read_text(), self.name)
        except FileNotFoundError:
            return ""


def all_records(folder: Path) -> list[MachineRecords]:
    """Return the records of every known machine."""
    return [MachineRecords(folder, unquote(each.name)) for each in sorted(folder.glob("*")) if each.is_dir()]


def ours(folder: Path, machine: Machine) -> MachineRecords | None:
    """Return the records of a machine that we created, according to them or to the record in the journal."""
    records = next(
        (each for each in all_records(folder) if machine.endpoint and each.endpoint == machine.endpoint), None
    )
    if records is None and machine.name and machine.record:
        record = json.loads(machine.record)
        kept = MachineRecords(folder, machine.name)
        same = record.get("name") == machine.name and record.get("endpoint") == machine.endpoint
        if same and kept.endpoint in {"", machine.endpoint}:
            records = kept
            records.keep(machine.record)
            records.refresh()
    return records
