"""What the fleet's controller needs of a provisioner: whoever brings machines up and takes them away again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

KINDS = ("refused", "quota", "denied", "login", "unreachable", "gone", "failed")


class MachineError(Exception):
    """A provisioner did not do what was asked.

    ``kind``: "refused" (this hardware is not to be had now: try later), "quota" (no units or no machines left to this
    account: try much later), "denied" (this account or this host cannot: stop for good), "login" (a person must log in first),
    "unreachable" (nobody knows whether it was done: never taken for gone), "gone" (there certainly is no such machine
    any more), "failed" (the machine did it and it failed). ``hint``: what a person can do.
    """

    def __init__(self, words: str, kind: str = "unreachable", hint: str = "") -> None:
        super().__init__(words)
        self.kind = kind
        self.hint = hint


class NoSuchFile(MachineError):  # noqa: N818, because it is an answer, not a failure
    """The machine is there, and there is certainly nothing under this name on it."""

    def __init__(self, words: str) -> None:
        super().__init__(words, "failed")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a machine must have. ``hardware`` as its provisioner names it ("T4", "v5e1", "" any processor)."""

    hardware: str = ""
    high_memory: bool = False


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine of the account. ``name`` is ours ("" if it is not known to be); ``endpoint`` is its provider's.

    ``record``: what its provisioner needs to find it again after forgetting it; opaque, JSON, kept in the controller's
    journal.
    """

    name: str
    endpoint: str
    hardware: str = ""
    record: str = ""


@dataclass(frozen=True, slots=True)
class Balance:
    """Units left to the account and used up an hour now; None where nobody knows."""

    units: float | None = None
    units_per_hour: float | None = None


@dataclass(frozen=True, slots=True)
class FleetTraits:
    """How a provisioner behaves.

    ``place``: what people call its machines ("Colab"); ``paid``: a positive balance is asked for; ``life_s``: how
    long its machines live at most, None for as long as they like; ``poll_s``: how often a living machine may be asked;
    ``listings``, ``listings_apart_s``: a machine counts as gone when it was absent from so many listings, this far apart;
    ``file_bytes_max``: the most that ``put`` and ``get`` carry in one file.
    """

    place: str
    paid: bool = False
    life_s: float | None = None
    poll_s: float = 5.0
    listings: int = 3
    listings_apart_s: float = 5.0
    file_bytes_max: int = 32 * 1024 * 1024


class Provisioner(Protocol):
    """Brings machines up and takes them away. Every call ends within its own deadline, whatever the far side does.

    Laws (tests/contracts/test_provisioners.py): ``machines`` lists every machine of the account, ours by name, others
    with the name "", and raises rather than leave one out for a trouble of its own; ``bring_up`` of a name that
    lives returns that machine and makes no second one; an error other than "unreachable" from it means that no machine
    was made; ``adopt`` makes a machine usable again that this computer has forgotten, from its record, or raises "gone";
    ``put`` then ``get`` gives the same bytes, ``put`` makes the folders, and nobody sees half a file under the
    name; ``put_all`` puts several files in their order, the last one last, in as few calls as may be; ``start`` runs the fleet's agent (``python -m supervisor agent .`` in the machine's folder) so that it outlives
    this computer, does nothing where it runs, and returns at once; ``attend`` has what waits with a running agent wait again,
    where the provider takes idle machines away; ``restart`` ends what runs on the machine and keeps its
    files; ``release`` gives the machine back, is fine for one that is gone, never touches a machine that is not
    ours, and returns only when the machine is proved to be off the list. Paths are relative to the machine's folder.
    """

    name: str
    traits: FleetTraits

    def balance(self) -> Balance: ...
    def machines(self) -> Sequence[Machine]: ...
    def bring_up(self, name: str, wanted: Wanted) -> Machine: ...
    def adopt(self, machine: Machine) -> Machine: ...
    def put(self, machine: Machine, local: str, path: str) -> None: ...
    def put_all(self, machine: Machine, files: Sequence[tuple[str, str]]) -> None: ...
    def get(self, machine: Machine, path: str, local: str) -> None: ...
    def start(self, machine: Machine) -> None: ...
    def attend(self, machine: Machine) -> None: ...
    def restart(self, machine: Machine) -> None: ...
    def release(self, machine: Machine) -> None: ...
