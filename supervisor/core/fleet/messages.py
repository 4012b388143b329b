"""What happens to the fleet's controller (events) and what it has done (commands), as frozen values."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, get_args

from supervisor.core.fleet.provisioning import Machine, MachineRequest
from supervisor.core.fleet.state import FleetPolicy
from supervisor.core.frozen import dataclass
from supervisor.core.wire import names

if TYPE_CHECKING:
    from collections.abc import Sequence


class CallName(StrEnum):
    """The calls by the names that journals hold: ``Failed.call``, and ``Fleet.doing`` while one is in flight."""

    CHECK_BALANCE = "CheckBalance"
    LIST_MACHINES = "ListMachines"
    CREATE_MACHINE = "BringUp"
    ADOPT_MACHINE = "Adopt"
    PREPARE_MACHINE = "Prepare"
    START_AGENT = "StartAgent"
    POLL_MACHINE = "Poll"
    RESTART_AGENT = "Restart"
    FORWARD_STOP = "PassOnStop"
    RELEASE_MACHINE = "Release"


@dataclass(frozen=True, slots=True)
class ControllerStarted:
    """A controller begins: for the first time, or again after its end or death. What was in flight is unknown.

    ``provider``: whose machines it uses, as `--on` names it.
    """

    policy: FleetPolicy = FleetPolicy()
    provider: str = ""


@dataclass(frozen=True, slots=True)
class PollTimerFired:
    """The time has come that ``next_wakeup`` named."""


@dataclass(frozen=True, slots=True)
class WaitEnded:
    """Nothing has changed for some minutes, so that it is time to say what is waited for."""


@dataclass(frozen=True, slots=True)
class UserRequest:
    """A person asks: "stop" (save, fetch, give the machine back), or "leave" (the machine continues by itself)."""

    action: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class BalanceRead:
    """What the account has; None where nobody knows."""

    units: float | None = None
    units_per_hour: float | None = None


@dataclass(frozen=True, slots=True)
class MachinesListed:
    """All machines of the account."""

    machines: Sequence[Machine] = ()


@dataclass(frozen=True, slots=True)
class MachineCreated:
    """A machine is there and ours."""

    machine: Machine


@dataclass(frozen=True, slots=True)
class MachineAdopted:
    """A machine of ours that this computer had forgotten can be used again."""

    machine: Machine


@dataclass(frozen=True, slots=True)
class MachinePrepared:
    """Code, secrets and the newest checkpoint are on the machine. ``step``: of that checkpoint, None for a beginning.

    ``changed``: files of the project that were edited since they were packed; the machine has them as they were packed.
    """

    step: int | None = None
    sent_bytes: int = 0
    changed: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class AgentStarted:
    """The agent runs on the machine."""


PREPARING, RUNNING, HANDING_OVER, DONE = "preparing", "running", "handing over results", "done"  # phases of the agent


@dataclass(frozen=True, slots=True)
class MachinePolled:
    """The machine's status, after what it had ready was fetched. ``durable_step``: the newest step that home holds whole.

    ``phase`` is the agent's; ``more``: it has still something to be fetched; ``status_line``: its progress, for people.
    ``generation``: of the session there, None before the first; ``files_waiting``: files that home does not hold yet; ``stop_requested``: a
    person asked that session to stop by other means than this launch; ``output``: the end of its output, where it failed;
    ``next_save_s``: until its next save; ``cell_attends``: whether a cell waits with the agent, None where none has to;
    ``warnings``: the newest that its supervisor printed; ``cause``: why the session there ended, in its own words;
    ``saved``: the newest step that is saved on the machine, wherever it is on its way; ``trained``: all steps are done.
    """

    heartbeat: int
    phase: str
    exit_code: int | None = None
    step: int | None = None
    durable_step: int | None = None
    more: bool = False
    fetched_bytes: int = 0
    status_line: str = ""
    error: str = ""
    generation: int | None = None
    files_waiting: int = 0
    stop_requested: bool = False
    output: str = ""
    next_save_s: float | None = None
    cell_attends: bool | None = None
    warnings: Sequence[str] = ()
    cause: str = ""
    saved: int | None = None
    trained: bool = False


@dataclass(frozen=True, slots=True)
class AgentRestarted:
    """What ran on the machine was ended; its files are there. ``message``: the last line of its agent's log."""

    message: str = ""


@dataclass(frozen=True, slots=True)
class StopForwarded:
    """The wish to stop lies in the home store; the relay brings it to the machine. ``generation``: of the session it names."""

    generation: int | None = None


@dataclass(frozen=True, slots=True)
class MachineReleased:
    """The machine is proved to be off the list."""

    endpoint: str


@dataclass(frozen=True, slots=True)
class CallFailed:
    """A call failed. ``call``: its command's name; ``kind`` as in MachineError; ``durable_step`` as in Polled."""

    call: str
    kind: str
    message: str
    hint: str = ""
    durable_step: int | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """Tell people."""

    level: str
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class CheckBalance:
    """Ask what the account has."""


@dataclass(frozen=True, slots=True)
class ListMachines:
    """Ask for all machines of the account."""


@dataclass(frozen=True, slots=True)
class CreateMachine:
    """Bring a machine up, or find the one of this name."""

    name: str
    request: MachineRequest


@dataclass(frozen=True, slots=True)
class AdoptMachine:
    """Make a machine of ours usable again."""

    machine: Machine


@dataclass(frozen=True, slots=True)
class PrepareMachine:
    """Put code, secrets and the newest checkpoint on the machine."""

    machine: Machine


@dataclass(frozen=True, slots=True)
class StartAgent:
    """Start the agent on the machine; ``again``: it runs, and only the cell that waits with it is gone."""

    machine: Machine
    again: bool = False


@dataclass(frozen=True, slots=True)
class PollMachine:
    """Fetch status and parcels, bring what is to be brought."""

    machine: Machine


@dataclass(frozen=True, slots=True)
class RestartAgent:
    """End what runs on the machine."""

    machine: Machine


@dataclass(frozen=True, slots=True)
class ForwardStop:
    """Ask the session on the machine to save and end."""


@dataclass(frozen=True, slots=True)
class ReleaseMachine:
    """Give the machine back."""

    machine: Machine


@dataclass(frozen=True, slots=True)
class EndController:
    """The controller ends."""

    exit_code: int
    state: str
    message: str
    hint: str = ""


Event = (
    ControllerStarted | PollTimerFired | WaitEnded | UserRequest | BalanceRead | MachinesListed | MachineCreated | MachineAdopted | MachinePrepared | AgentStarted | MachinePolled | AgentRestarted | StopForwarded
    | MachineReleased | CallFailed
)  # fmt: skip
Call = (
    CheckBalance
    | ListMachines
    | CreateMachine
    | AdoptMachine
    | PrepareMachine
    | StartAgent
    | PollMachine
    | RestartAgent
    | ForwardStop
    | ReleaseMachine
)
Command = Call | Report | EndController

TYPES = {names.of(kind): kind for kind in (*get_args(Event), *get_args(Command), Machine, MachineRequest, FleetPolicy)}
