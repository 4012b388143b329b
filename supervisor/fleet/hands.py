"""The controller's calls: over the provisioner to the machine, and over the relay to the home store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

from supervisor.core import fields
from supervisor.core import fleet_words as fw
from supervisor.core.errors import UserError
from supervisor.core.ports import StoreError
from supervisor.core.provisioning import MachineError, NoSuchFile
from supervisor.core.values import dataclass
from supervisor.engine import claims
from supervisor.fleet.consignment import JOB, KEY, SECRETS
from supervisor.fleet.parcels import ParcelError
from supervisor.fleet.reporting import REPORT, Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from supervisor.core.ports import Store
    from supervisor.core.provisioning import Machine, Provisioner
    from supervisor.engine.place import RunPlace
    from supervisor.fleet.bundle import Shipment
    from supervisor.fleet.relay import HomeRun

PARCELS_A_POLL = 8  # between them people see how it goes
LAUNCH = "launch"  # the name in the stop requests of a controller
AGENT_LOG = "agent.log"
SHIPMENT = "shipment"
LOG_BYTES, LINE_CHARS = 20_000, 300
OUTPUT_LINES = 12
REPORT_BYTES_MAX, WARNINGS_MAX = 4 << 20, 20
_MALFORMED = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, MemoryError, RecursionError)
_OF_THE_SUPERVISOR = (
    "[supervisor] ",
    " " * len("[supervisor] "),
    "error: ",
    "  try: ",
)  # told by home itself, in its own words


@dataclass(frozen=True, slots=True)
class Home:
    """This computer's side: the home store, the run in it, and the relay to it. ``folder``: for what is on its way."""

    store: Store
    run: RunPlace
    relay: HomeRun
    folder: Path


class FleetHands:
    """Does one call at a time. ``describe`` makes a line of a run's status; ``release_at_s``: how old a machine may get."""

    def __init__(
        self, provisioner: Provisioner, home: Home, shipment: Shipment, *,
        describe: Callable[[Mapping[str, Any]], str], release_at_s: Callable[[], float | None],
    ) -> None:  # fmt: skip
        self._provisioner, self._home, self._shipment = provisioner, home, shipment
        self._describe, self._release_at_s = describe, release_at_s
        self._epoch: int | None = None
        home.folder.mkdir(parents=True, exist_ok=True)
        self._doers: dict[type, Callable[[Any], fw.Event]] = {
            fw.CheckBalance: self._check_balance,
            fw.ListMachines: lambda _: fw.Listed(tuple(provisioner.machines())),
            fw.BringUp: lambda call: fw.BroughtUp(provisioner.bring_up(call.name, call.wanted)),
            fw.Adopt: lambda call: fw.Adopted(provisioner.adopt(call.machine)),
            fw.Prepare: lambda call: self._prepare(call.machine),
            fw.StartAgent: self._start_agent,
            fw.Poll: lambda call: self._poll(call.machine),
            fw.Restart: self._restart,
            fw.PassOnStop: lambda _: self._pass_on_stop(),
            fw.Release: self._release,
        }

    def pack(self) -> list[str]:
        """Pack the project for all machines of this launch; return what changed since the last one. Raises UserError."""
        return self._shipment.pack(self._home.folder / SHIPMENT, bytes_max=self._provisioner.traits.file_bytes_max)

    def do(self, call: fw.Call) -> fw.Event:
        """Do a call; what goes wrong is an event too."""
        name = type(call).__name__
        try:
            return self._doers[type(call)](call)
        except MachineError as error:
            return fw.Failed(name, error.kind, str(error), error.hint, self._safe())
        except UserError as error:
            return fw.Failed(name, "hopeless", error.what, error.hint)
        except _MALFORMED as error:
            # what a machine or its host answered is anybody's word: no answer ends the controller
            words = f"an answer cannot be understood ({type(error).__name__}: {error!s:.200})"
            return fw.Failed(name, "unreachable", words, "", self._safe())
        except (StoreError, OSError) as error:
            why = (
                f"{error.strerror}{f': {error.filename}' if error.filename else ''}"
                if isinstance(error, OSError)
                else ""
            )
            words = f"this computer's disk does not take what comes: {why or error}"
            return fw.Failed(name, "home", words, "make room there; the machine goes on meanwhile")

    def _check_balance(self, _call: fw.CheckBalance) -> fw.Event:
        balance = self._provisioner.balance()
        return fw.Balanced(balance.units, balance.units_per_hour)

    def _start_agent(self, call: fw.StartAgent) -> fw.Event:
        if call.again:
            self._provisioner.attend(call.machine)
        else:
            self._provisioner.start(call.machine)
        return fw.AgentStarted()

    def _restart(self, call: fw.Restart) -> fw.Event:
        words = self._agents_last_line(call.machine) if self._epoch is None else ""
        self._provisioner.restart(call.machine)
        return fw.Restarted(words)

    def _agents_last_line(self, machine: Machine) -> str:
        """Return the last line that the agent printed, where it says why it does not serve; "" if there is none."""
        local = self._home.folder / AGENT_LOG
        try:
            self._provisioner.get(machine, AGENT_LOG, str(local))
            lines = local.read_bytes()[-LOG_BYTES:].decode("utf-8", "replace").splitlines()
        except (MachineError, OSError):
            return ""  # the restart is what counts, and tells by itself where the machine does not answer
        return next((line.strip()[:LINE_CHARS] for line in reversed(lines) if line.strip()), "")

    def _release(self, call: fw.Release) -> fw.Event:
        self._provisioner.release(call.machine)
        return fw.Released(call.machine.endpoint)

    def _prepare(self, machine: Machine) -> fw.Event:
        """Send what the job needs, and last the job itself. Done again, it begins again."""
        packed = self._home.folder / SHIPMENT
        files = self._shipment.files(packed)
        self._epoch = None
        self._home.relay.begin_machine()
        seed = self._home.relay.seed()
        try:
            job = self._home.folder / JOB
            job.write_bytes(self._shipment.job(seed.index(), self._release_at_s()))
            sending = [*files, *((parcel.file, parcel.name) for parcel in seed.parcels), (job, JOB)]
            self._provisioner.put_all(machine, [(str(file), name) for file, name in sending])
            sent = sum(file.stat().st_size for file, _ in sending)
        finally:  # what is secret does not stay on this disk
            for name in (SECRETS, KEY):
                (packed / name).unlink(missing_ok=True)
        self._home.relay.forget_seed()
        step = None if seed.checkpoint is None else seed.checkpoint.step
        return fw.Prepared(step, sent, tuple(self._shipment.changed(packed)))

    def _poll(self, machine: Machine) -> fw.Event:
        told = self._status(machine)
        phase = str(told.get("phase", ""))
        done = phase == Phase.DONE.value
        listed = [fields.mapping(each, "a parcel") for each in fields.sequence(told.get("parcels") or [], "parcels")]
        fetched, troubles = 0, [str(told.get("error") or "")]
        for each in listed if done else listed[:PARCELS_A_POLL]:
            try:
                size, words = self._fetch(machine, each)
            except NoSuchFile:
                continue  # acknowledged meanwhile, or replaced by what is newer
            fetched += size
            troubles += words
        for parcel in self._home.relay.mail():
            self._provisioner.put(machine, str(parcel.file), parcel.name)
            self._home.relay.delivered(parcel)
        plain = fields.mapping(told.get("run") or {}, "run")
        epoch = _whole(plain, "epoch")
        self._epoch = self._epoch if epoch is None else epoch
        code = _whole(told, "exit_code")
        next_save_s = plain.get("next_save_in_s")
        return fw.Polled(
            beat=_whole(told, "beat", -1),
            phase=phase,
            exit_code=code,
            step=_whole(plain, "step"),
            safe=self._safe(),
            more=bool(listed) and not done,
            fetched_bytes=fetched,
            line=self._describe(plain) if plain else str(told.get("words") or ""),
            trouble="; ".join(filter(None, troubles)),
            epoch=self._epoch,
            waiting=_whole(told, "waiting_files") or 0,
            asked=done and self._asked_by_others(),
            output=_last_lines(str(told.get("output") or "")) if done else "",
            cause=str(plain.get("cause") or "") if done and code else "",
            saved=_saved(plain),
            trained=(total := _whole(plain, "total_steps")) is not None and _whole(plain, "step", -1) >= total,
            next_save_s=None if next_save_s is None else fields.number(next_save_s, "next_save_in_s"),
            watched=watched if isinstance(watched := told.get("watched"), bool) else None,
            warnings=tuple(
                str(each) for each in fields.sequence(told.get("warnings") or [], "warnings")[:WARNINGS_MAX]
            ),
        )

    def _asked_by_others(self) -> bool:
        """Say whether a person asked the session that serves to stop, by other means than this launch."""
        asked = claims.stop_requests(self._home.store, self._home.run).values()
        return any(rank.epoch == self._epoch and by != LAUNCH for rank, by in asked)

    def withdraw_stop(self) -> bool:
        """Take back the stops of launches at home and on the way; say whether one was delivered. Raises StoreError."""
        return self._home.relay.withdraw_stops(LAUNCH)

    def _safe(self) -> int | None:
        """Return the step of the newest checkpoint that home holds whole."""
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
            return {}  # the agent has not told anything yet

    def _fetch(self, machine: Machine, told: Mapping[str, Any]) -> tuple[int, list[str]]:
        local = self._home.folder / "parcel"
        for last in (False, True):
            self._provisioner.get(machine, str(told["file"]), str(local))
            try:
                merged = self._home.relay.merge(local, str(told["sha256"]))
                break
            except ParcelError as error:
                if last:
                    return 0, [f"{error}; fetching it again"]
        size = local.stat().st_size
        local.unlink()
        words = [f"{path} is not taken: {why}" for path, why in merged.refused.items()]
        return size, [*words, merged.trouble]

    def _pass_on_stop(self) -> fw.Event:
        """Leave the wish in the home store for the session that serves; the relay brings it there."""
        if self._epoch is None:
            return fw.Failed("PassOnStop", "nothing", "no session serves yet")
        rank = max(claims.ranks(self._home.store, self._home.run), default=None)
        if rank is None or rank.epoch < self._epoch:
            return fw.Failed("PassOnStop", "unreachable", "the session that serves is not known here yet")
        claims.request_stop(self._home.store, self._home.run, rank, "save", LAUNCH)
        return fw.StopPassedOn(rank.epoch)


def _saved(plain: Mapping[str, Any]) -> int | None:
    """Return the newest step that a machine's status shows as saved, wherever it lies. Raises ValueError."""
    kept = fields.mapping(plain.get("checkpoints") or {}, "checkpoints")
    steps = (_whole(kept, name) for name in ("staged", "submitted", "durable"))
    return max((step for step in steps if step is not None), default=None)


@overload
def _whole(told: Mapping[str, Any], name: str, absent: int) -> int: ...
@overload
def _whole(told: Mapping[str, Any], name: str) -> int | None: ...
def _whole(told: Mapping[str, Any], name: str, absent: int | None = None) -> int | None:
    """Return a whole number that a machine tells, which may be negative as an exit code is. Raises ValueError."""
    value = told.get(name)
    if value is None:
        return absent
    if type(value) is not int or abs(value) > fields.WHOLE_MAX:
        raise ValueError(f"{name} is {value!r:.40}, not a whole number")
    return value


def _last_lines(output: str) -> str:
    """Return the last lines of an output, for people."""
    own = [line.rstrip() for line in output.splitlines() if line.strip() and not line.startswith(_OF_THE_SUPERVISOR)]
    return "\n".join(own[-OUTPUT_LINES:])
