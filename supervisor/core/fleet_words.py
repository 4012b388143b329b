"""What happens to the fleet's controller (events) and what it has done (commands), as frozen values."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from supervisor.core.fleet_state import Policy
from supervisor.core.provisioning import Machine, Wanted
from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Began:
    """A controller begins: for the first time, or again after its end or death. What was in flight is unknown.

    ``on``: whose machines it uses, as `--on` names it.
    """

    policy: Policy = Policy()
    on: str = ""


@dataclass(frozen=True, slots=True)
class Woke:
    """The time has come that ``next_wakeup`` named."""


@dataclass(frozen=True, slots=True)
class Waited:
    """Nothing has changed for some minutes, so that it is time to say what is waited for."""


@dataclass(frozen=True, slots=True)
class Told:
    """A person asks: "stop" (save, fetch, give the machine back), or "leave" (the machine goes on by itself)."""

    wish: str
    words: str = ""


@dataclass(frozen=True, slots=True)
class Balanced:
    """What the account has; None where nobody knows."""

    units: float | None = None
    units_per_hour: float | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """All machines of the account."""

    machines: Sequence[Machine] = ()


@dataclass(frozen=True, slots=True)
class BroughtUp:
    """A machine is there and ours."""

    machine: Machine


@dataclass(frozen=True, slots=True)
class Adopted:
    """A machine of ours that this computer had forgotten can be used again."""

    machine: Machine


@dataclass(frozen=True, slots=True)
class Prepared:
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
class Polled:
    """The machine's status, after what it had ready was fetched. ``safe``: the newest step that home holds whole.

    ``phase`` is the agent's; ``more``: it has still something to be fetched; ``line``: its progress, for people.
    ``epoch``: of the session there, None before the first; ``waiting``: files that home does not hold yet; ``asked``: a
    person asked that session to stop by other means than this launch; ``output``: the end of its output, where it failed;
    ``next_save_s``: until its next save; ``watched``: whether a cell waits with the agent, None where none has to;
    ``warnings``: the newest that its supervisor printed; ``cause``: why the session there ended, in its own words;
    ``saved``: the newest step that is saved on the machine, wherever it is on its way; ``trained``: all steps are done.
    """

    beat: int
    phase: str
    exit_code: int | None = None
    step: int | None = None
    safe: int | None = None
    more: bool = False
    fetched_bytes: int = 0
    line: str = ""
    trouble: str = ""
    epoch: int | None = None
    waiting: int = 0
    asked: bool = False
    output: str = ""
    next_save_s: float | None = None
    watched: bool | None = None
    warnings: Sequence[str] = ()
    cause: str = ""
    saved: int | None = None
    trained: bool = False


@dataclass(frozen=True, slots=True)
class Restarted:
    """What ran on the machine was ended; its files are there. ``words``: the last line of its agent's log."""

    words: str = ""


@dataclass(frozen=True, slots=True)
class StopPassedOn:
    """The wish to stop lies in the home store; the relay brings it to the machine. ``epoch``: of the session it names."""

    epoch: int | None = None


@dataclass(frozen=True, slots=True)
class Released:
    """The machine is proved to be off the list."""

    endpoint: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A call failed. ``call``: its command's name; ``kind`` as in MachineError; ``safe`` as in Polled."""

    call: str
    kind: str
    words: str
    hint: str = ""
    safe: int | None = None


@dataclass(frozen=True, slots=True)
class Say:
    """Tell people."""

    level: str
    words: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class CheckBalance:
    """Ask what the account has."""


@dataclass(frozen=True, slots=True)
class ListMachines:
    """Ask for all machines of the account."""


@dataclass(frozen=True, slots=True)
class BringUp:
    """Bring a machine up, or find the one of this name."""

    name: str
    wanted: Wanted


@dataclass(frozen=True, slots=True)
class Adopt:
    """Make a machine of ours usable again."""

    machine: Machine


@dataclass(frozen=True, slots=True)
class Prepare:
    """Put code, secrets and the newest checkpoint on the machine."""

    machine: Machine


@dataclass(frozen=True, slots=True)
class StartAgent:
    """Start the agent on the machine; ``again``: it runs, and only the cell that waits with it is gone."""

    machine: Machine
    again: bool = False


@dataclass(frozen=True, slots=True)
class Poll:
    """Fetch status and parcels, bring what is to be brought."""

    machine: Machine


@dataclass(frozen=True, slots=True)
class Restart:
    """End what runs on the machine."""

    machine: Machine


@dataclass(frozen=True, slots=True)
class PassOnStop:
    """Ask the session on the machine to save and end."""


@dataclass(frozen=True, slots=True)
class Release:
    """Give the machine back."""

    machine: Machine


@dataclass(frozen=True, slots=True)
class End:
    """The controller ends."""

    exit_code: int
    state: str
    words: str
    hint: str = ""


Event = (
    Began | Woke | Waited | Told | Balanced | Listed | BroughtUp | Adopted | Prepared | AgentStarted | Polled | Restarted | StopPassedOn
    | Released | Failed
)  # fmt: skip
Call = CheckBalance | ListMachines | BringUp | Adopt | Prepare | StartAgent | Poll | Restart | PassOnStop | Release
Command = Call | Say | End

TYPES = {kind.__name__: kind for kind in (*get_args(Event), *get_args(Command), Machine, Wanted, Policy)}
