"""Our notes on one Colab machine: the record that the command line itself may forget, and its files for this machine."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from supervisor.fleet.provisioners.colab_calls import write
from supervisor.fleet.provisioners.colab_spoken import record_in, sessions_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from supervisor.core.provisioning import Machine

OVER = re.compile(r'supervisor-[0-9a-f]{32}:{"ended"')


class Notes:
    """``session`` is the command line's file for short calls, ``attached`` the one for the call that stays.

    Two files, so that each has a kernel of its own: a short call would wait for ever behind the cell that stays.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.name, self.folder = name, folder / quote(name, safe=" ")
        self.session, self.attached = self.folder / "session.json", self.folder / "attached.json"
        self.log = self.folder / "attached.log"

    @property
    def launches(self) -> list[str] | None:
        """The marks of the agents that were launched from here, None where others may have been."""
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / "launches").read_text().split()
        return None

    def launched(self, mark: str) -> None:
        """Note the mark of an agent before it is launched."""
        write(self.folder / "launches", "".join(f"{each}\n" for each in [*(self.launches or []), mark]))

    @property
    def record(self) -> str:
        """The session's record as it was when the machine was made, "" if we made none of this name.

        A call whose caller was killed or has left notes it in the command line's own file only.
        """
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / "record.json").read_text()
        return self._in(self.session)

    @property
    def endpoint(self) -> str:
        """What Colab calls the machine."""
        record = self.record
        return str(json.loads(record)["endpoint"]) if record else ""

    def made(self) -> str:
        """Note the record that `new` has left, and return it; "" if it has left none."""
        record = self.record
        if record:
            self.keep(record)
        return record

    def keep(self, record: str) -> None:
        """Note this record."""
        write(self.folder / "record.json", record)

    def ready(self, path: Path) -> Path:
        """Return the command line's file, with the record in it even where a bad listing has made it forget."""
        record, known = self.record, self._in(path)
        if record and (not known or json.loads(known)["endpoint"] != json.loads(record)["endpoint"]):
            write(path, sessions_file(record))
        return path

    def drop(self) -> None:
        """Forget the machine, keep the place for another of this name."""
        (self.folder / "record.json").unlink(missing_ok=True)
        self.refresh()

    def refresh(self) -> None:
        """Let the next calls begin anew: with a fresh token, and with new kernels; who else was there is not known."""
        for path in (self.session, self.attached, self.folder / "launches"):
            path.unlink(missing_ok=True)

    def detach(self) -> None:
        """End the call that stays, if there is one; what it has started on the machine goes on."""
        with self.lock("attached") as handle:
            if handle is not None:
                return
        with contextlib.suppress(OSError, ValueError):
            # the lock is held, so this process lives and is the one that was noted
            os.killpg(int((self.folder / "attached.pid").read_text()), signal.SIGKILL)
            self.wait_for("attached")

    def attached_said(self) -> list[str]:
        """Return the lines that the call that stays has printed so far."""
        with contextlib.suppress(FileNotFoundError):
            return self.log.read_text("utf-8", "replace").splitlines()
        return []

    def over(self) -> bool:
        """Say whether the cell of the call that stays has told its end."""
        return any(OVER.match(line) for line in self.attached_said())

    def attach(self, group: int) -> None:
        """Note the process group of the call that stays; it holds the lock "attached" as long as it lives."""
        write(self.folder / "attached.pid", str(group))

    @contextlib.contextmanager
    def lock(self, what: str) -> Iterator[int | None]:
        """Hold a lock for the block; None when somebody has it. Children that inherit it go on holding it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.folder / f"{what}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
            else:
                yield handle
        finally:
            os.close(handle)

    def wait_for(self, what: str) -> None:
        """Wait until nobody holds this lock; for those whose holders are being killed."""
        with (self.folder / f"{what}.lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)

    def forget(self) -> None:
        """Remove it all."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _in(self, path: Path) -> str:
        try:
            return record_in(path.read_text(), self.name)
        except FileNotFoundError:
            return ""


def all_notes(folder: Path) -> list[Notes]:
    """Return the notes on every machine that we know."""
    return [Notes(folder, unquote(each.name)) for each in sorted(folder.glob("*")) if each.is_dir()]


def ours(folder: Path, machine: Machine) -> Notes | None:
    """Return the notes on a machine if it is one that we made: by our notes, or by the record kept in the journal."""
    notes = next((each for each in all_notes(folder) if machine.endpoint and each.endpoint == machine.endpoint), None)
    if notes is None and machine.name and machine.record:
        record = json.loads(machine.record)
        kept = Notes(folder, machine.name)
        same = record.get("name") == machine.name and record.get("endpoint") == machine.endpoint
        if same and kept.endpoint in {"", machine.endpoint}:
            notes = kept
            notes.keep(machine.record)
            notes.refresh()
    return notes
