"""Colab machines by the official command line: created, filled, started, watched and released unattended."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import zlib
from math import inf
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from supervisor.core.fleet.provisioning import Balance, FleetTraits, Machine, MachineError, NoSuchFile
from supervisor.engine.clock import BootClock
from supervisor.fleet.provisioners.colab import cells as colab_cells
from supervisor.fleet.provisioners.colab.account import ASK_S, Account, new_mark
from supervisor.fleet.provisioners.colab.cli import ColabCli, pause
from supervisor.fleet.provisioners.colab.consent import Consent
from supervisor.fleet.provisioners.colab.output import CliOutput, creation_error, error_of, options_of
from supervisor.fleet.provisioners.colab.records import MachineRecords, all_records, ours

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from supervisor.core.fleet.provisioning import MachineRequest
TRAITS = FleetTraits("Colab", paid=True, life_s=12 * 3600.0, poll_s=60.0, listings_apart_s=3.0)
FOLDER = PurePosixPath(colab_cells.FOLDER.lstrip("/"))
NEW_S, START_S, RESTART_S = 420.0, 60.0, 60.0
RECENT_S = 15.0
SMALL_S, CARRY_S = 60.0, 60.0
BYTES_S_LEAST = 50_000
INLINE_BYTES = 32_000
UPLOADED_ONLY = ".env"  # the command line keeps a history of cells, and only the names of uploads
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
    """One account's machines. No keep-alive and no shell on the machine: a machine is busy because it trains.

    An exit code of the command line counts only if it reports an error. A success is proved by a cell's answer or by
    the listing. Its own verbs remove what one listing has missed. So each machine has its own files here
    (``MachineRecords``), and listings use a file without our machines.
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
        self._calls = ColabCli(folder, os.environ if environ is None else environ)
        self._account = Account(self._calls, self.traits)

    def balance(self) -> Balance:
        """Return the account's units."""
        return self._account.balance()

    def machines(self) -> Sequence[Machine]:
        """Return every machine of the account: ours with their names, others with "".

        The call that stays with a machine is ended here once enough listings lack the machine: it would not notice by
        itself.
        """
        known = {records.endpoint: records for records in all_records(self._machines)}
        found, at_s = [], self._clock.now().mono_s
        for each in self._account.listed():
            records = known.get(each.endpoint)
            found.append(
                Machine(
                    records.name if records else "", each.endpoint, each.hardware, records.record if records else ""
                )
            )
        self._seen = {each.endpoint for each in found}, at_s
        gone = known.keys() - {each.endpoint for each in found}
        self._absences = {each: self._absences.get(each, 0) + 1 for each in gone}
        for endpoint in gone:
            if self._absences[endpoint] >= self.traits.listings:
                known[endpoint].detach()
        return found

    def bring_up(self, name: str, wanted: MachineRequest) -> Machine:
        """Return the machine of this name; create it if there is none."""
        options = options_of(wanted)
        records = MachineRecords(self._machines, name)
        end_s = self._clock.now().mono_s + NEW_S
        while True:
            with records.lock("new") as handle:
                if handle is not None:
                    if (found := self._living(records)) is not None:
                        return found
                    return self._new(records, options, wanted.hardware, handle)
            if self._clock.now().mono_s > end_s:
                raise MachineError(f"another process is still making {name}")
            pause(1.0)

    def adopt(self, machine: Machine) -> Machine:
        """Make a machine usable that this computer has no record of."""
        records = ours(self._machines, machine)
        if records is None:
            raise MachineError(f"{machine.endpoint} is not ours: no record of it", "failed", "it is yours to stop")
        if self._account.is_absent(records.endpoint):
            raise MachineError(f"{machine.endpoint} is gone", "gone")
        records.refresh()
        result = self._account.run(records, ["ls"], SMALL_S)
        if result.code != 0:
            raise error_of(result, f"answer from {machine.endpoint}")
        return Machine(records.name, records.endpoint, machine.hardware, records.record)

    def put(self, machine: Machine, local: str, path: str) -> None:
        """Send a file to the machine. It gets its name there once it is complete by its digest."""
        records, remote_path = self._of(machine), _inside(path)
        data = Path(local).read_bytes()
        if len(data) > self.traits.file_bytes_max:
            raise MachineError(f"{path} is too large for one file: {len(data)} bytes", "failed")
        digest = hashlib.sha256(data).hexdigest()
        # the same name each time, so that no files pile up
        temporary = f"supervisor-upload-{zlib.crc32(path.encode()):08x}"
        body = data if len(data) <= INLINE_BYTES and not remote_path.name.endswith(UPLOADED_ONLY) else None
        for _ in range(2):  # truncated uploads and cells that never reached their kernel are common
            if body is None:
                seconds = CARRY_S + len(data) / BYTES_S_LEAST
                sent = self._account.run(records, ["upload", local, f"content/{temporary}"], seconds)
                if sent.code != 0:
                    continue
            where = (f"/content/{temporary}", f"/{remote_path}")
            sent, answer = self._account.run_cell(records, colab_cells.place, *where, digest, body)
            if answer.get("placed"):
                return
        raise error_of(sent, f"take {path}")

    def put_all(self, machine: Machine, files: Sequence[tuple[str, str]]) -> None:
        """Send files to the machine in order. One cell unpacks as many as one upload holds."""
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
        records = self._of(machine)
        bodies = [Path(local).read_bytes() for local, _ in batch]
        inside = [
            (f"/{_inside(path)}", len(body), hashlib.sha256(body).hexdigest())
            for (_, path), body in zip(batch, bodies, strict=True)
        ]
        # readable by its owner only
        with tempfile.NamedTemporaryFile(dir=self._calls.folder, prefix="packed-") as packed:
            packed.write(b"".join(bodies))
            packed.flush()
            seconds = CARRY_S + packed.tell() / BYTES_S_LEAST
            digest = hashlib.sha256(b"".join(bodies)).hexdigest()
            for _ in range(2):  # as for one file
                sent = self._account.run(records, ["upload", packed.name, f"content/{PACKED}"], seconds)
                if sent.code != 0:
                    continue
                sent, answer = self._account.run_cell(records, colab_cells.unpack, f"/content/{PACKED}", digest, inside)
                if answer.get("placed"):
                    return
        raise error_of(sent, f"take {batch[-1][1]}")

    def get(self, machine: Machine, path: str, local: str) -> None:
        """Fetch a file; it gets its name here once it is complete."""
        records, remote_path = self._of(machine), str(_inside(path))
        seconds = SMALL_S if remote_path.endswith(".json") else CARRY_S + self.traits.file_bytes_max / BYTES_S_LEAST / 3
        with tempfile.TemporaryDirectory(dir=Path(local).absolute().parent, prefix=".fetched-") as beside:
            fetched = Path(beside) / "file"
            result = self._account.run(records, ["download", remote_path, str(fetched)], seconds)
            if result.code == 0 and fetched.is_file():
                fetched.replace(local)
                return
        if result.code is not None and self._is_absent(records, result, remote_path):
            raise NoSuchFile(f"there is no {path} on {machine.name}")
        raise error_of(result, f"give {path}")

    def start(self, machine: Machine) -> None:
        """Start the agent by a cell that stays with it. Do nothing if that cell is known to run."""
        records = self._of(machine)
        if records.attached_ended():
            records.detach()  # its agent has ended, and the call would take a while to notice
        for _ in range(2):
            mark = new_mark()
            with records.lock("attached") as handle:
                if handle is None:
                    return
                records.attached.unlink(missing_ok=True)  # a new kernel: the last one may be busy or broken
                cell = records.folder / "launch.py"
                cell.write_text(colab_cells.launch(mark))
                records.launched(mark)
                words = ["exec", "-s", records.name, "-f", str(cell), "--timeout", str(int(ATTACHED_S))]
                records.attach(
                    self._calls.begin(
                        words, ATTACHED_S, config=records.ready(records.attached), log=records.log, keep_open=handle
                    )
                )
            if self._wait_for_start(records, mark):
                return
            records.detach()
        raise error_of(CliOutput(1, "\n".join(records.attached_output()), ""), f"start the agent on {machine.name}")

    def attend(self, machine: Machine) -> None:
        """Start another cell that waits with the agent, if its kernel died with the last one."""
        self._of(machine).detach()
        self.start(machine)

    def restart(self, machine: Machine) -> None:
        """End all processes of the agent; the machine's files stay.

        A restart of the kernel is not enough, because the agent has its own process session.
        """
        records = self._of(machine)
        records.detach()
        meant = records.launches
        result, answer = self._account.run_cell(records, colab_cells.sweep, meant)
        if not answer:
            self._account.run(records, ["restart-kernel"], RESTART_S)
            result, answer = self._account.run_cell(records, colab_cells.sweep, meant)
        if not answer.get("swept"):
            raise error_of(result, f"end what runs on {machine.name}")

    def release(self, machine: Machine) -> None:
        """Release the machine; return when the listing proves it."""
        records = ours(self._machines, machine)
        if records is None:
            if any(each.endpoint == machine.endpoint for each in self._account.listed()):
                raise MachineError(f"{machine.endpoint} is not ours: it is left alone", "failed", "it is yours to stop")
            return
        endpoint = records.endpoint
        records.detach()
        result = self._account.run(records, ["stop"], ASK_S)
        if not self._account.is_absent(endpoint, listings=2):
            result = self._calls.run_python(UNASSIGN, [endpoint], ASK_S)
            if not self._account.is_absent(endpoint, listings=2):
                raise error_of(result, f"take {endpoint} back")
        records.forget()

    def mount_drive(self, machine: Machine, ask: Callable[[str], None], *, consent_s: float = CONSENT_S) -> bool:
        """Mount the user's Drive on the machine; return True if it is mounted.

        The command line always claims success. Colab waits two minutes for an answer, and a late consent counts for the
        second try.

        Args:
            machine: the machine.
            ask: receives the address of the consent page, if consent is needed.
            consent_s: time for the consent.
        """
        records = self._of(machine)
        for _ in range(2):
            consent = Consent(ask, consent_s)
            self._account.run(records, ["drivemount"], MOUNT_S, on_line=consent.on_line, end_marker="Mounted at")
            if self._account.run(records, ["ls", "content/drive/MyDrive"], SMALL_S).code == 0:
                return True
        return False

    def _new(self, records: MachineRecords, options: Sequence[str], hardware: str, handle: int) -> Machine:
        before = self._recent_endpoints()
        mark = self._calls.log_mark()
        words = ["new", "-s", records.name, *options]
        result = self._calls.call(words, NEW_S, config=records.session, keep_open=(handle,))
        if record := records.made():
            return Machine(records.name, records.endpoint, hardware, record)
        units = self._account.units() if "Allocation refused" in result.err else None
        error = creation_error(result, self._calls.logged_since(mark), units)
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

    def _recent_endpoints(self) -> set[str]:
        """Return the account's machines as of a few seconds ago at most."""
        endpoints, at_s = self._seen
        if self._clock.now().mono_s - at_s < RECENT_S:
            return endpoints
        return {each.endpoint for each in self._account.listed()}

    def _appeared(self, before: set[str], listings: int) -> list[str]:
        for turn in range(listings):
            if turn:
                pause(self.traits.listings_apart_s)
            if found := [each.endpoint for each in self._account.listed() if each.endpoint not in before]:
                return found
        return []

    def _living(self, records: MachineRecords) -> Machine | None:
        record = records.made()
        if not record:
            return None
        for _ in range(self.traits.listings):
            found = next((each for each in self._account.listed() if each.endpoint == records.endpoint), None)
            if found:
                return Machine(records.name, found.endpoint, found.hardware, record)
            pause(self.traits.listings_apart_s)
        records.drop()
        return None

    def _of(self, machine: Machine) -> MachineRecords:
        records = ours(self._machines, machine)
        if records is None:
            raise MachineError(
                f"{machine.name or machine.endpoint} is not known here", "failed", "it must be adopted first"
            )
        return records

    def _is_absent(self, records: MachineRecords, result: CliOutput, remote_path: str) -> bool:
        """Return True if a file is proved absent: a tunnel without a machine prints "not found" too."""
        if ABSENT.search(result.out):
            return self._account.run(records, ["ls"], SMALL_S).code == 0
        if FAILED_THERE.search(result.out):
            return self._account.run_cell(records, colab_cells.look, f"/{remote_path}")[1].get("there") is False
        return False

    def _wait_for_start(self, records: MachineRecords, mark: str) -> bool:
        end_s = self._clock.now().mono_s + START_S
        while self._clock.now().mono_s < end_s:
            if any(line.startswith(mark) for line in records.attached_output()):
                return True
            with records.lock("attached") as handle:
                if handle is not None:
                    return False  # it has ended without output
            pause(0.1)
        return False


def _inside(path: str) -> PurePosixPath:
    """Return the path of a file in the machine's folder for the machine's file service."""
    inner = PurePosixPath(path)
    if inner.is_absolute() or ".." in inner.parts or not inner.parts:
        raise MachineError(f"{path} is not a path inside the machine's folder", "failed")
    return FOLDER / inner
