"""What the engine needs of the world, each as a protocol of few verbs; differences are values (``Traits``)."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from supervisor.core.deadline import Lifetime
    from supervisor.core.events import Notice
    from supervisor.core.instant import Instant


class StoreError(Exception):
    """The store did not do what was asked, and nobody knows more: unreadable is never absent.

    ``kind``: "unreadable", "full" (no space, no quota), "read-only", "gone" (no mount, or another one than before),
    "hung" (no answer within its deadline), "lied" (read back differs), "local" (not the store but the local disk failed).
    """

    def __init__(self, words: str, kind: str = "unreadable") -> None:
        super().__init__(words)
        self.kind = kind


class Missing(StoreError):  # noqa: N818, because it is an answer, not a failure
    """There is certainly nothing under this name."""


class Unconfirmed(StoreError):  # noqa: N818, because it is an answer, not a failure
    """It was written, and nothing proves yet that it left this machine.

    ``possible``: whether a proof may still come; ``moving``: something has left since the last question, so it is only slow.
    """

    def __init__(self, words: str, *, possible: bool = True, moving: bool = False) -> None:
        super().__init__(words, "unconfirmed")
        self.possible, self.moving = possible, moving


class Taken(StoreError):  # noqa: N818, because it is an answer, not a failure
    """Something lies under this name already; the store is write-once."""


class Entry(NamedTuple):
    """One name in a folder. ``bytes`` is None for folders."""

    name: str
    folder: bool
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """Length and digest of bytes that passed through; the digest names its algorithm (``core.digest``)."""

    bytes: int
    digest: str


@dataclass(frozen=True, slots=True)
class Traits:
    """How a store behaves.

    ``settle_s``: how long others' names may take to show, and ``safe_settle_s`` what is known of this kind of place, where a
    person has named another; ``silence_s``: how long without a sign until a session
    counts as gone; ``evidence``: what DURABLE rests on here ("fsync", "drivefs", "rclone"; "" nothing can be had);
    ``where``: the place, for people, and ``place`` what they call it ("Drive"; "" a folder). ``confirm_every_s``: the
    evidence comes later and is asked for this often; 0: it comes with the call. ``mounted``: only the store's own verbs
    may touch ``where``, because anything else may hang for ever; its evidence must be given twice.
    """

    settle_s: float = 0.0
    safe_settle_s: float = 0.0
    silence_s: float = 150.0
    evidence: str = "fsync"
    where: str = ""
    place: str = ""
    confirm_every_s: float = 0.0
    mounted: bool = False


class Store(Protocol):
    """A place outside the machine, shared by all machines of a run. Paths are relative, with ``/``.

    Laws (tests/contracts/test_stores.py): what ``create`` or ``push`` wrote reads back the same or they raised;
    nothing that exists is ever changed (``Taken``); a crash inside ``create`` leaves the name absent or whole on a
    store with ``evidence`` "fsync", and absent, empty, half or whole on any other; ``list`` of an absent folder is
    empty, of an unreadable one raises; only ``Missing`` means absent; after ``evidence`` returned what proves it, a
    power loss does not take the file away, and until there is a proof it raises ``Unconfirmed``; ``delete`` of what is
    absent is fine, of a folder that is not empty raises; ``sweep`` removes what dead writers left half-written in a
    folder (no reader ever saw it) and returns the bytes freed; ``free_bytes`` is the room that writes still have, None
    if nobody knows. A failure on the local disk in ``pull`` has the kind "local"; ``Missing`` from ``push`` means that
    the local file is absent.

    ``push`` and ``pull`` measure with the ``algorithm`` asked for, every byte of them read from what lies on either
    side. ``pull`` replaces what the local name held and never writes into it. With ``link`` the local file and the
    store's may become one file with two names, so who asks for that never opens the local one for writing.
    """

    traits: Traits

    def list(self, folder: str) -> Sequence[Entry]: ...
    def read(self, path: str) -> bytes: ...
    def create(self, path: str, body: bytes) -> None: ...
    def push(self, local: str, path: str, algorithm: str, *, link: bool = False) -> Measured: ...
    def pull(self, path: str, local: str, algorithm: str, *, link: bool = False) -> Measured: ...
    def delete(self, path: str) -> None: ...
    def sweep(self, folder: str) -> int: ...
    def evidence(self, path: str) -> str: ...
    def free_bytes(self) -> int | None: ...


class Clock(Protocol):
    """The one source of time."""

    def now(self) -> Instant: ...


@dataclass(frozen=True, slots=True)
class Platform:
    """Where we run.

    ``lifetime`` is what its machines may live, from their start ``age_s`` seconds ago; ``store`` the default place
    for runs; ``prior_life_s`` the mean life assumed before this run's own machines have told. ``flush`` sends what the
    drive of this platform still holds, within so many seconds, and unmounts it; it raises UserError if it could not.

    In words for people: ``title``, what this machine is; ``advice``, what to know of it at the start; ``notice``, how it
    tells that it ends. ``asked`` asks for the lifetime where the environment does not say it, and may take seconds.
    ``signals``: those that announce the end, with the seconds that are left then at most. ``listen`` waits for notices
    and passes them on until ``pause`` (seconds) says that it is over; it never raises. ``release`` gives the machine
    back, at once and for good, ``again`` has the machine started anew after a hand-over and says so: both raise
    UserError if they could not. ``earlier`` returns the folders that hold what an earlier session kept of this run.
    """

    name: str
    store: str
    prior_life_s: float
    lifetime: Lifetime | None = None
    age_s: float = 0.0
    flush: Callable[[float], None] | None = None
    title: str = ""
    advice: str = ""
    notice: str = ""
    asked: Callable[[], Lifetime | None] | None = None
    signals: Mapping[str, float] = field(default_factory=dict)
    listen: Callable[[Callable[[Notice], None], Callable[[float], bool]], None] | None = None
    release: Callable[[], None] | None = None
    again: Callable[[], str] | None = None
    earlier: Callable[[str], Sequence[str]] | None = None
