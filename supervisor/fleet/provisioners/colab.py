"""Colab's machines through the official command line: brought up, filled, started, looked after and given back unattended."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import zlib
from math import inf
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from supervisor.core.provisioning import Balance, FleetTraits, Machine, MachineError, NoSuchFile
from supervisor.engine.clock import BootClock
from supervisor.fleet.provisioners import colab_cells
from supervisor.fleet.provisioners.colab_account import ASK_S, Account, new_mark
from supervisor.fleet.provisioners.colab_calls import ColabCalls, pause
from supervisor.fleet.provisioners.colab_consent import Consent
from supervisor.fleet.provisioners.colab_notes import Notes, all_notes, ours
from supervisor.fleet.provisioners.colab_spoken import Said, options_of, refusal, trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from supervisor.core.provisioning import Wanted
TRAITS = FleetTraits("Colab", paid=True, life_s=12 * 3600.0, poll_s=60.0, listings_apart_s=3.0)
FOLDER = PurePosixPath(colab_cells.FOLDER.lstrip("/"))
NEW_S, START_S, RESTART_S = 420.0, 60.0, 60.0
LATELY_S = 15.0
SMALL_S, CARRY_S = 60.0, 60.0
BYTES_S_LEAST = 50_000
INLINE_BYTES = 32_000
UPLOADED_ONLY = ".env"  # the command line keeps a history of cells, and of uploads only the names
CONSENT_S, MOUNT_S = 100.0, 300.0
ATTACHED_S = 26 * 3600.0
PACKED = "supervisor-upload-packed"
ABSENT = re.compile(r"^\[colab\] Download failed: File or directory not found", re.MULTILINE)
FAILED_THERE = re.compile(r"^\[colab\] Download failed: 500 Server Error", re.MULTILINE)
UNASSIGN = """
import sys
from colab_cli.common import state
state.client.unassign(sys.argv[1])
print("unassigned")
"""


class ColabProvisioner:
    """One account's machines. No keep-alive, no shell on the machine: a machine is busy because it trains.

    Exit codes of the command line are believed only when they tell of trouble; what was done is proved by what a cell
    says or by the listing. Its own verbs prune what one listing has missed, so that every machine has files of its own
    here (``Notes``), and listings are asked for with a file in which nothing of ours stands.
    """

    name = "colab"

    def __init__(
        self,
        folder: Path,
        environ: Mapping[str, str] | None = None,
        *,
        traits: FleetTraits | None = None,
        clock: BootClock | None = None,
    ) -> None:
        self.traits = traits or TRAITS
        self._clock = clock or BootClock()
        self._machines = folder / "machines"
        self._absences: dict[str, int] = {}
        self._seen: tuple[set[str], float] = set(), -inf
        self._calls = ColabCalls(folder, os.environ if environ is None else environ)
        self._account = Account(self._calls, self.traits)

    def balance(self) -> Balance:
        """Return the account's units."""
        return self._account.balance()

    def machines(self) -> Sequence[Machine]:
        """Return every machine of the account; ours under their names, others under "".

        The call that stays with a machine ends here when enough listings lack the machine: by itself it would not notice.
        """
        known = {notes.endpoint: notes for notes in all_notes(self._machines)}
        found, at_s = [], self._clock.now().mono_s
        for each in self._account.listed():
            notes = known.get(each.endpoint)
            found.append(
                Machine(notes.name if notes else "", each.endpoint, each.hardware, notes.record if notes else "")
            )
        self._seen = {each.endpoint for each in found}, at_s
        gone = known.keys() - {each.endpoint for each in found}
        self._absences = {each: self._absences.get(each, 0) + 1 for each in gone}
        for endpoint in gone:
            if self._absences[endpoint] >= self.traits.listings:
                known[endpoint].detach()
        return found

    def bring_up(self, name: str, wanted: Wanted) -> Machine:
        """Return the machine of this name, which is made if there is none."""
        options = options_of(wanted)
        notes = Notes(self._machines, name)
        end_s = self._clock.now().mono_s + NEW_S
        while True:
            with notes.lock("new") as handle:
                if handle is not None:
                    if (found := self._living(notes)) is not None:
                        return found
                    return self._new(notes, options, wanted.hardware, handle)
            if self._clock.now().mono_s > end_s:
                raise MachineError(f"another process is still making {name}")
            pause(1.0)

    def adopt(self, machine: Machine) -> Machine:
        """Make a machine usable that this computer has forgotten."""
        notes = ours(self._machines, machine)
        if notes is None:
            raise MachineError(f"{machine.endpoint} is not ours: no record of it", "failed", "it is yours to stop")
        if self._account.gone(notes.endpoint):
            raise MachineError(f"{machine.endpoint} is gone", "gone")
        notes.refresh()
        said = self._account.on(notes, ["ls"], SMALL_S)
        if said.code != 0:
            raise trouble(said, f"answer from {machine.endpoint}")
        return Machine(notes.name, notes.endpoint, machine.hardware, notes.record)

    def put(self, machine: Machine, local: str, path: str) -> None:
        """Bring a file to the machine. It gets its name only when it is whole there, by its digest."""
        notes, far = self._of(machine), _inside(path)
        data = Path(local).read_bytes()
        if len(data) > self.traits.file_bytes_max:
            raise MachineError(f"{path} is too large for one file: {len(data)} bytes", "failed")
        digest = hashlib.sha256(data).hexdigest()
        temporary = f"supervisor-upload-{zlib.crc32(path.encode()):08x}"  # the same again: nothing piles up there
        body = data if len(data) <= INLINE_BYTES and not far.name.endswith(UPLOADED_ONLY) else None
        for _ in range(2):  # a cut upload and a cell that never reached its kernel are everyday events
            if body is None:
                seconds = CARRY_S + len(data) / BYTES_S_LEAST
                sent = self._account.on(notes, ["upload", local, f"content/{temporary}"], seconds)
                if sent.code != 0:
                    continue
            where = (f"/content/{temporary}", f"/{far}")
            sent, answer = self._account.cell(notes, colab_cells.place, *where, digest, body)
            if answer.get("placed"):
                return
        raise trouble(sent, f"take {path}")

    def put_all(self, machine: Machine, files: Sequence[tuple[str, str]]) -> None:
        """Bring files to the machine in their order: as many as one upload carries are unpacked there by one cell."""
        batch: list[tuple[str, str]] = []
        size = 0
        for each in files:
            length = Path(each[0]).stat().st_size
            if batch and size + length > self.traits.file_bytes_max:
                self._put_batch(machine, batch)
                batch, size = [], 0
            batch.append(each)
            size += length
        if batch:
            self._put_batch(machine, batch)

    def _put_batch(self, machine: Machine, batch: Sequence[tuple[str, str]]) -> None:
        if len(batch) == 1:
            self.put(machine, *batch[0])
            return
        notes = self._of(machine)
        bodies = [Path(local).read_bytes() for local, _ in batch]
        inside = [
            (f"/{_inside(path)}", len(body), hashlib.sha256(body).hexdigest())
            for (_, path), body in zip(batch, bodies, strict=True)
        ]
        with tempfile.NamedTemporaryFile(dir=self._calls.folder, prefix="packed-") as packed:  # for its owner alone
            packed.write(b"".join(bodies))
            packed.flush()
            seconds = CARRY_S + packed.tell() / BYTES_S_LEAST
            digest = hashlib.sha256(b"".join(bodies)).hexdigest()
            for _ in range(2):  # as for one file
                sent = self._account.on(notes, ["upload", packed.name, f"content/{PACKED}"], seconds)
                if sent.code != 0:
                    continue
                sent, answer = self._account.cell(notes, colab_cells.unpack, f"/content/{PACKED}", digest, inside)
                if answer.get("placed"):
                    return
        raise trouble(sent, f"take {batch[-1][1]}")

    def get(self, machine: Machine, path: str, local: str) -> None:
        """Fetch a file; it gets its name here when all of it is there."""
        notes, far = self._of(machine), str(_inside(path))
        seconds = SMALL_S if far.endswith(".json") else CARRY_S + self.traits.file_bytes_max / BYTES_S_LEAST / 3
        with tempfile.TemporaryDirectory(dir=Path(local).absolute().parent, prefix=".fetched-") as beside:
            fetched = Path(beside) / "file"
            said = self._account.on(notes, ["download", far, str(fetched)], seconds)
            if said.code == 0 and fetched.is_file():
                fetched.replace(local)
                return
        if said.code is not None and self._absent(notes, said, far):
            raise NoSuchFile(f"there is no {path} on {machine.name}")
        raise trouble(said, f"give {path}")

    def start(self, machine: Machine) -> None:
        """Start the agent by a cell that stays with it; nothing is done where that cell is known to run."""
        notes = self._of(machine)
        if notes.over():
            notes.detach()  # its agent has ended, and the call takes its time to
        for _ in range(2):
            mark = new_mark()
            with notes.lock("attached") as handle:
                if handle is None:
                    return
                notes.attached.unlink(missing_ok=True)  # a new kernel: the last one may be busy or broken
                cell = notes.folder / "launch.py"
                cell.write_text(colab_cells.launch(mark))
                notes.launched(mark)
                words = ["exec", "-s", notes.name, "-f", str(cell), "--timeout", str(int(ATTACHED_S))]
                notes.attach(
                    self._calls.begin(
                        words, ATTACHED_S, config=notes.ready(notes.attached), log=notes.log, keep_open=handle
                    )
                )
            if self._begun(notes, mark):
                return
            notes.detach()
        raise trouble(Said(1, "\n".join(notes.attached_said()), ""), f"start the agent on {machine.name}")

    def attend(self, machine: Machine) -> None:
        """Have a cell wait with the agent again, where its kernel died and took the last one with it."""
        self._of(machine).detach()
        self.start(machine)

    def restart(self, machine: Machine) -> None:
        """End all that the agent has started; the machine's files stay.

        A restart of the kernel alone would not do it, because the agent lives in a process session of its own.
        """
        notes = self._of(machine)
        notes.detach()
        meant = notes.launches
        said, answer = self._account.cell(notes, colab_cells.sweep, meant)
        if not answer:
            self._account.on(notes, ["restart-kernel"], RESTART_S)
            said, answer = self._account.cell(notes, colab_cells.sweep, meant)
        if not answer.get("swept"):
            raise trouble(said, f"end what runs on {machine.name}")

    def release(self, machine: Machine) -> None:
        """Give the machine back, and return when the listing has proved it."""
        notes = ours(self._machines, machine)
        if notes is None:
            if any(each.endpoint == machine.endpoint for each in self._account.listed()):
                raise MachineError(f"{machine.endpoint} is not ours: it is left alone", "failed", "it is yours to stop")
            return
        endpoint = notes.endpoint
        notes.detach()
        said = self._account.on(notes, ["stop"], ASK_S)
        if not self._account.gone(endpoint, listings=2):
            said = self._calls.run_python(UNASSIGN, [endpoint], ASK_S)
            if not self._account.gone(endpoint, listings=2):
                raise trouble(said, f"take {endpoint} back")
        notes.forget()

    def mount_drive(self, machine: Machine, ask: Callable[[str], None], *, consent_s: float = CONSENT_S) -> bool:
        """Mount the person's Drive on the machine; ``ask`` gets the address where they agree to it, if they must.

        Returns whether it is there: the command line says that it is in any case. Colab waits two minutes for an answer,
        and an agreement that came too late counts for the second try.
        """
        notes = self._of(machine)
        for _ in range(2):
            consent = Consent(ask, consent_s)
            self._account.on(notes, ["drivemount"], MOUNT_S, heard=consent.heard, enough="Mounted at")
            if self._account.on(notes, ["ls", "content/drive/MyDrive"], SMALL_S).code == 0:
                return True
        return False

    def _new(self, notes: Notes, options: Sequence[str], hardware: str, handle: int) -> Machine:
        before = self._endpoints_lately()
        mark = self._calls.log_mark()
        words = ["new", "-s", notes.name, *options]
        said = self._calls.call(words, NEW_S, config=notes.session, keep_open=(handle,))
        if record := notes.made():
            return Machine(notes.name, notes.endpoint, hardware, record)
        units = self._account.units() if "Allocation refused" in said.err else None
        error = refusal(said, self._calls.logged_since(mark), units)
        try:
            appeared = self._appeared(before, listings=2 if error.kind == "refused" else 1)
        except MachineError as unknown:
            raise MachineError(f"{error}; whether one was made is not known: {unknown}") from error
        if appeared:
            raise MachineError(
                f"{error}; but {', '.join(appeared)} has appeared meanwhile, and may be ours", "unreachable",
                "if you have not opened it yourself, end it in Colab (Runtime, Manage sessions): it costs units",
            )  # fmt: skip
        raise error

    def _endpoints_lately(self) -> set[str]:
        """Return the account's machines as of some seconds ago at most."""
        endpoints, at_s = self._seen
        if self._clock.now().mono_s - at_s < LATELY_S:
            return endpoints
        return {each.endpoint for each in self._account.listed()}

    def _appeared(self, before: set[str], listings: int) -> list[str]:
        for turn in range(listings):
            if turn:
                pause(self.traits.listings_apart_s)
            if found := [each.endpoint for each in self._account.listed() if each.endpoint not in before]:
                return found
        return []

    def _living(self, notes: Notes) -> Machine | None:
        record = notes.made()
        if not record:
            return None
        for _ in range(self.traits.listings):
            found = next((each for each in self._account.listed() if each.endpoint == notes.endpoint), None)
            if found:
                return Machine(notes.name, found.endpoint, found.hardware, record)
            pause(self.traits.listings_apart_s)
        notes.drop()
        return None

    def _of(self, machine: Machine) -> Notes:
        notes = ours(self._machines, machine)
        if notes is None:
            raise MachineError(
                f"{machine.name or machine.endpoint} is not known here", "failed", "it must be adopted first"
            )
        return notes

    def _absent(self, notes: Notes, said: Said, far: str) -> bool:
        """Say whether a file is proved not to be there: a tunnel without a machine says "not found" too."""
        if ABSENT.search(said.out):
            return self._account.on(notes, ["ls"], SMALL_S).code == 0
        if FAILED_THERE.search(said.out):
            return self._account.cell(notes, colab_cells.look, f"/{far}")[1].get("there") is False
        return False

    def _begun(self, notes: Notes, mark: str) -> bool:
        end_s = self._clock.now().mono_s + START_S
        while self._clock.now().mono_s < end_s:
            if any(line.startswith(mark) for line in notes.attached_said()):
                return True
            with notes.lock("attached") as handle:
                if handle is not None:
                    return False  # it has ended, and said nothing
            pause(0.1)
        return False


def _inside(path: str) -> PurePosixPath:
    """Return where a path in the machine's folder is for the files' service of the machine."""
    inner = PurePosixPath(path)
    if inner.is_absolute() or ".." in inner.parts or not inner.parts:
        raise MachineError(f"{path} is not a path inside the machine's folder", "failed")
    return FOLDER / inner
