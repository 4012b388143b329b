"""The controller's calls: to the machine by the provisioner, and to the local store by the replica."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

from supervisor.core.errors import UserError
from supervisor.core.fleet import messages as fw
from supervisor.core.fleet.provisioning import MachineError, NoSuchFile
from supervisor.core.frozen import dataclass
from supervisor.core.ports import StoreError
from supervisor.core.wire import fields, names
from supervisor.engine.run_catalog import claims
from supervisor.fleet.agent.agent_status import REPORT, AgentPhase
from supervisor.fleet.transfer.inbox import JOB, KEY, SECRETS
from supervisor.fleet.transfer.part import TransferPartError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from supervisor.core.fleet.provisioning import Machine, Provisioner
    from supervisor.core.ports import Store
    from supervisor.engine.paths import RunPaths
    from supervisor.fleet.home_replica import HomeReplica
    from supervisor.fleet.job_bundle import JobBundle

PARTS_PER_POLL = 8  # between them the user sees the progress
LAUNCH = "launch"  # the name in the stop requests of a controller
AGENT_LOG = "agent.log"
SHIPMENT = "shipment"
LOG_BYTES, LINE_CHARS = 20_000, 300
OUTPUT_LINES = 12
REPORT_BYTES_MAX, WARNINGS_MAX = 4 << 20, 20
_MALFORMED = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, MemoryError, RecursionError)
_SUPERVISOR_LINE = (
    "[supervisor] ",
    " " * len("[supervisor] "),
    "error: ",
    "  try: ",
)  # this computer's own events, in its own words


@dataclass(frozen=True, slots=True)
class Home:
    """This computer's side: the local store, the run in it, and the replica. ``folder`` holds files in transit."""

    store: Store
    run: RunPaths
    relay: HomeReplica
    folder: Path


class FleetExecutor:
    """Performs one call at a time.

    Args:
        provisioner: creates and reaches machines.
        home: this computer's side.
        bundle: the files for each machine.
        describe: returns one line for a run's status.
        release_at_s: maximum age of a machine.
    """

    def __init__(
        self, provisioner: Provisioner, home: Home, bundle: JobBundle, *,
        describe: Callable[[Mapping[str, Any]], str], release_at_s: Callable[[], float | None],
    ) -> None:  # fmt: skip
        self._provisioner, self._home, self._bundle = provisioner, home, bundle
        self._describe, self._release_at_s = describe, release_at_s
        self._epoch: int | None = None
        home.folder.mkdir(parents=True, exist_ok=True)
        self._doers: dict[type, Callable[[Any], fw.Event]] = {
            fw.CheckBalance: self._check_balance,
            fw.ListMachines: lambda _: fw.MachinesListed(tuple(provisioner.machines())),
            fw.CreateMachine: lambda call: fw.MachineCreated(provisioner.bring_up(call.name, call.request)),
            fw.AdoptMachine: lambda call: fw.MachineAdopted(provisioner.adopt(call.machine)),
            fw.PrepareMachine: lambda call: self._prepare(call.machine),
            fw.StartAgent: self._start_agent,
            fw.PollMachine: lambda call: self._poll(call.machine),
            fw.RestartAgent: self._restart,
            fw.ForwardStop: lambda _: self._forward_stop(),
            fw.ReleaseMachine: self._release,
        }

    def pack(self) -> list[str]:
        """Pack the project for all machines of this launch; return the files changed since the last one.

        Raises UserError.
        """
        return self._bundle.pack(self._home.folder / SHIPMENT, bytes_max=self._provisioner.traits.file_bytes_max)

    def do(self, call: fw.Call) -> fw.Event:
        """Perform a call; a failure is an event too."""
        name = names.of(type(call))
        try:
            return self._doers[type(call)](call)
        except MachineError as error:
            return fw.CallFailed(name, error.kind, str(error), error.hint, self._durable_step())
        except UserError as error:
            return fw.CallFailed(name, "hopeless", error.what, error.hint)
        except _MALFORMED as error:
            # Answers of a machine or its host are untrusted: no answer may end the controller.
            words = f"an answer cannot be understood ({type(error).__name__}: {error!s:.200})"
            return fw.CallFailed(name, "unreachable", words, "", self._durable_step())
        except (StoreError, OSError) as error:
            why = (
                f"{error.strerror}{f': {error.filename}' if error.filename else ''}"
                if isinstance(error, OSError)
                else ""
            )
            words = f"this computer's disk does not take what comes: {why or error}"
            return fw.CallFailed(name, "home", words, "make room there; the machine continues meanwhile")

    def _check_balance(self, _call: fw.CheckBalance) -> fw.Event:
        balance = self._provisioner.balance()
        return fw.BalanceRead(balance.units, balance.units_per_hour)

    def _start_agent(self, call: fw.StartAgent) -> fw.Event:
        if call.again:
            self._provisioner.attend(call.machine)
        else:
            self._provisioner.start(call.machine)
        return fw.AgentStarted()

    def _restart(self, call: fw.RestartAgent) -> fw.Event:
        words = self._last_agent_line(call.machine) if self._epoch is None else ""
        self._provisioner.restart(call.machine)
        return fw.AgentRestarted(words)

    def _last_agent_line(self, machine: Machine) -> str:
        """Return the agent's last line of output, which says why it does not serve; "" if there is none."""
        local = self._home.folder / AGENT_LOG
        try:
            self._provisioner.get(machine, AGENT_LOG, str(local))
            lines = local.read_bytes()[-LOG_BYTES:].decode("utf-8", "replace").splitlines()
        except (MachineError, OSError):
            return ""  # the restart matters, and it reports itself that the machine does not answer
        return next((line.strip()[:LINE_CHARS] for line in reversed(lines) if line.strip()), "")

    def _release(self, call: fw.ReleaseMachine) -> fw.Event:
        self._provisioner.release(call.machine)
        return fw.MachineReleased(call.machine.endpoint)

    def _prepare(self, machine: Machine) -> fw.Event:
        """Send everything that the job needs, and the job itself last.

        A repeated call starts again from the beginning.
        """
        packed = self._home.folder / SHIPMENT
        files = self._bundle.files(packed)
        self._epoch = None
        self._home.relay.start_machine()
        seed = self._home.relay.make_resume_set()
        try:
            job = self._home.folder / JOB
            job.write_bytes(self._bundle.job(seed.index(), self._release_at_s()))
            sending = [*files, *((part.file, part.name) for part in seed.parcels), (job, JOB)]
            self._provisioner.put_all(machine, [(str(file), name) for file, name in sending])
            sent = sum(file.stat().st_size for file, _ in sending)
        finally:  # secrets do not stay on this disk
            for name in (SECRETS, KEY):
                (packed / name).unlink(missing_ok=True)
        self._home.relay.delete_resume_set()
        step = None if seed.checkpoint is None else seed.checkpoint.step
        return fw.MachinePrepared(step, sent, tuple(self._bundle.changed(packed)))

    def _poll(self, machine: Machine) -> fw.Event:
        status = self._status(machine)
        phase = str(status.get("phase", ""))
        done = phase == AgentPhase.DONE.value
        listed = [fields.mapping(each, "a parcel") for each in fields.sequence(status.get("parcels") or [], "parcels")]
        fetched, errors = 0, [str(status.get("error") or "")]
        for each in listed if done else listed[:PARTS_PER_POLL]:
            try:
                size, words = self._fetch(machine, each)
            except NoSuchFile:
                continue  # acknowledged meanwhile, or replaced by a newer one
            fetched += size
            errors += words
        for part in self._home.relay.pending_acks():
            self._provisioner.put(machine, str(part.file), part.name)
            self._home.relay.delivered(part)
        plain = fields.mapping(status.get("run") or {}, "run")
        epoch = _int_field(plain, "epoch")
        self._epoch = self._epoch if epoch is None else epoch
        code = _int_field(status, "exit_code")
        next_save_s = plain.get("next_save_in_s")
        return fw.MachinePolled(
            heartbeat=_int_field(status, "beat", -1),
            phase=phase,
            exit_code=code,
            step=_int_field(plain, "step"),
            durable_step=self._durable_step(),
            more=bool(listed) and not done,
            fetched_bytes=fetched,
            status_line=self._describe(plain) if plain else str(status.get("words") or ""),
            error="; ".join(filter(None, errors)),
            generation=self._epoch,
            files_waiting=_int_field(status, "waiting_files") or 0,
            stop_requested=done and self._stop_requested_by_user(),
            output=_last_lines(str(status.get("output") or "")) if done else "",
            cause=str(plain.get("cause") or "") if done and code else "",
            saved=_saved_step(plain),
            trained=(total := _int_field(plain, "total_steps")) is not None and _int_field(plain, "step", -1) >= total,
            next_save_s=None if next_save_s is None else fields.number(next_save_s, "next_save_in_s"),
            cell_attends=watched if isinstance(watched := status.get("watched"), bool) else None,
            warnings=tuple(
                str(each) for each in fields.sequence(status.get("warnings") or [], "warnings")[:WARNINGS_MAX]
            ),
        )

    def _stop_requested_by_user(self) -> bool:
        """Return True if the user asked the serving session to stop by other means than this launch."""
        asked = claims.stop_requests(self._home.store, self._home.run).values()
        return any(rank.generation == self._epoch and by != LAUNCH for rank, by in asked)

    def cancel_stop(self) -> bool:
        """Cancel the stop requests of launches, here and in transit; return True if one was delivered.

        Raises StoreError.
        """
        return self._home.relay.cancel_stops(LAUNCH)

    def _durable_step(self) -> int | None:
        """Return the step of the newest complete checkpoint on this computer."""
        newest = self._home.relay.newest()
        return None if newest is None else newest.step

    def _status(self, machine: Machine) -> dict[str, Any]:
        local = self._home.folder / REPORT
        try:
            self._provisioner.get(machine, REPORT, str(local))
            if local.stat().st_size > REPORT_BYTES_MAX:
                raise MachineError(f"its status has {local.stat().st_size:,} bytes, which none has")
            return dict(fields.document(local.read_bytes(), REPORT_BYTES_MAX))
        except NoSuchFile:
            return {}  # the agent has not written a status yet

    def _fetch(self, machine: Machine, status: Mapping[str, Any]) -> tuple[int, list[str]]:
        local = self._home.folder / "parcel"
        for last in (False, True):
            self._provisioner.get(machine, str(status["file"]), str(local))
            try:
                merged = self._home.relay.merge(local, str(status["sha256"]))
                break
            except TransferPartError as error:
                if last:
                    return 0, [f"{error}; fetching it again"]
        size = local.stat().st_size
        local.unlink()
        words = [f"{path} is not taken: {why}" for path, why in merged.refused.items()]
        return size, [*words, merged.prune_error]

    def _forward_stop(self) -> fw.Event:
        """Leave the request in the local store for the serving session; the transfer brings it there."""
        if self._epoch is None:
            return fw.CallFailed(fw.CallName.FORWARD_STOP, "nothing", "no session serves yet")
        rank = max(claims.ranks(self._home.store, self._home.run), default=None)
        if rank is None or rank.generation < self._epoch:
            return fw.CallFailed(
                fw.CallName.FORWARD_STOP, "unreachable", "the session that serves is not known here yet"
            )
        claims.request_stop(self._home.store, self._home.run, rank, "save", LAUNCH)
        return fw.StopForwarded(rank.generation)


def _saved_step(plain: Mapping[str, Any]) -> int | None:
    """Return the newest step that a machine's status shows as saved anywhere. Raises ValueError."""
    checkpoints = fields.mapping(plain.get("checkpoints") or {}, "checkpoints")
    steps = (_int_field(checkpoints, name) for name in ("staged", "submitted", "durable"))
    return max((step for step in steps if step is not None), default=None)


@overload
def _int_field(status: Mapping[str, Any], name: str, absent: int) -> int: ...
@overload
def _int_field(status: Mapping[str, Any], name: str) -> int | None: ...
def _int_field(status: Mapping[str, Any], name: str, absent: int | None = None) -> int | None:
    """Return a whole number from a machine's status; it may be negative, like an exit code. Raises ValueError."""
    value = status.get(name)
    if value is None:
        return absent
    if type(value) is not int or abs(value) > fields.WHOLE_MAX:
        raise ValueError(f"{name} is {value!r:.40}, not a whole number")
    return value


def _last_lines(output: str) -> str:
    """Return the last lines of an output for the user."""
    own = [line.rstrip() for line in output.splitlines() if line.strip() and not line.startswith(_SUPERVISOR_LINE)]
    return "\n".join(own[-OUTPUT_LINES:])
