"""The port of a framework: what attach() must know about its values, and how their bytes are read and written."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from supervisor.trainer.buffer import HostBuffer
    from supervisor.trainer.leaf import Leaf

StateAccess = tuple[Callable[[], Any], Callable[[Any], Any]]
Scalar = int | float | str | bool | None
HostCopy = Callable[[Sequence[Any]], None]
DeviceCopy = Callable[[Sequence[Any]], "Pending"]


class Pending(Protocol):
    """A copy that a device makes by itself."""

    def fence(self) -> None:
        """From now on the values may change: what the device is told later waits for the copy, the caller does not."""

    def wait(self) -> None:
        """Return when the bytes are in the buffer."""


class Copies(NamedTuple):
    """Prepared copies, each called with the live values of all leaves.

    ``device``: on the thread that trains; returns at once. ``host``: on any thread; done when it returns.
    """

    device: list[DeviceCopy]
    host: list[HostCopy]


class Slot(NamedTuple):
    """Where the ``size`` bytes of leaf number ``number`` go in the host buffer, from its byte ``first`` on.

    ``value`` is the live value at present: copies are planned for its device and strides, and must not keep it.
    """

    number: int
    value: Any
    size: int
    first: int
    view: memoryview

    @property
    def whole(self) -> bool:
        """The view takes the whole leaf."""
        return len(self.view) == self.size


class Target(Protocol):
    """Where the bytes of a leaf go when a checkpoint is read: in slices."""

    def room(self, begin: int, count: int) -> memoryview:
        """Return where to put the bytes [begin, begin + count)."""

    def took(self, begin: int, count: int) -> None:
        """These bytes are there and verified to be what the disk holds; the room may be given out again."""

    def value(self) -> Any:
        """Return the value once all bytes are there."""


class Skeleton(Protocol):
    """What of an owner a checkpoint must find in a fresh process."""

    def outgrown(self, owner: Any) -> str:
        """Return words on how the owner differs from it; "" where it does not."""


class Framework(Protocol):
    """Tags of its nodes start with its name and a dot; what it gives back equals what it kept, bit for bit.

    The methods with a body suit a framework whose values live in host memory, and has no accelerator.
    """

    name: str

    @abstractmethod
    def describe(self) -> tuple[str, str]:
        """Return name with version, and the device in words."""

    def describe_device(self) -> dict[str, str]:
        """Return what ``core.hardware`` gives advice by, of the device that ``describe`` names."""
        return {}

    @abstractmethod
    def keep(self, value: Any, path: str) -> tuple[dict[str, Any], Leaf | None] | None:
        """Return the node (with its tag) and leaf of a value; None if it is not of this framework; RefusedError if inexact."""

    @abstractmethod
    def token(self, value: Any) -> Hashable:
        """Return what, if it is unchanged, makes ``keep`` return the same node and form again. Cheap: asked at every save."""

    @abstractmethod
    def address(self, value: Any) -> Hashable:
        """Return where the value's memory begins; equal address and token mean one and the same leaf; None: never shared."""

    @abstractmethod
    def read(self, value: Any, first: int, out: memoryview) -> None:
        """Copy the row-major bytes of a leaf's value from ``first`` on into ``out`` until it is full."""

    def copies(self, slots: Sequence[Slot], buffer: HostBuffer) -> Copies:  # noqa: ARG002  # for what pins the buffer
        """Return the copies that fill the slots, planned once for many snapshots; they must not keep the present values."""
        return Copies([], [copy_by_read(self, slot) for slot in slots])

    def changed_by_updates(self, owner: Any) -> Collection[Hashable]:  # noqa: ARG002  # most know nothing of it
        """Return the addresses of those tensors of an attached object that nothing but an optimizer's step changes."""
        return ()

    def version(self, value: Any) -> int:  # noqa: ARG002  # see changed_by_updates
        """Return a number that grows when a value is changed in place, as far as that can be known."""
        return 0

    @abstractmethod
    def target(self, node: dict[str, Any], size: int, live: Any, *, on_host: bool) -> Target:
        """Return where to read the ``size`` bytes of a node's leaf: into ``live`` if it is not None, else into a new value.

        A new value goes to the device that the node names if this machine has it, unless ``on_host``. ValueError if the
        node is of another size.
        """

    def give(self, node: dict[str, Any]) -> Any:
        """Return the value of a node that has no leaf."""
        raise NotImplementedError(node)

    def access(self, value: Any) -> StateAccess | None:  # noqa: ARG002  # most have none
        """Return (get, set) for a stateful object that has no state_dict; None for others."""
        return None

    def advice(self, value: Any) -> tuple[str, str] | None:  # noqa: ARG002  # most have none
        """Return why a value of this framework cannot be attached, and what to attach instead; None for others."""
        return None

    def caution(self, owner: Any) -> str:  # noqa: ARG002  # most know nothing of it
        """Return words on what of an owner a resume does not bring back, whatever its state says; else ""."""
        return ""

    def watch_unattached(self) -> None:
        """The script has a loop of its own: note from now on what data it iterates."""

    def unattached(self, attached: Collection[Any]) -> str:  # noqa: ARG002  # most know nothing of it
        """Return words if the script is in the middle of data whose place nothing that is attached keeps; else ""."""
        return ""

    def aliased(self, owner: Any) -> Literal["no", "state", "whole"]:  # noqa: ARG002  # most know nothing of it
        """Say whether the owner's state_dict() shows its own memory, so that a checkpoint is read straight into it.

        "whole": reading is all there is to do; "state": its load_state_dict must still be called, and copies nothing.
        """
        return "no"

    def places_itself(self, owner: Any) -> bool:  # noqa: ARG002  # most know nothing of it
        """Say whether the owner's load_state_dict copies to where its tensors are, so that a copy on the host will do."""
        return False

    def beside(self, owner: Any, attached: Collection[Any]) -> Any:  # noqa: ARG002  # most have nothing beside their state
        """Return what an owner has beside its state, as a tree: flags, gradients that no optimizer has used; None for nothing."""
        return None

    def put_back_beside(self, owner: Any, kept: Any) -> None:
        """Set what ``beside`` has returned."""
        raise NotImplementedError(owner, kept)

    def differing_flags(self, owner: Any, kept: Any) -> list[str]:
        """Return the names of what trains here and was frozen, or the other way round."""
        raise NotImplementedError(owner, kept)

    def skeleton(self, owner: Any) -> Skeleton | None:  # noqa: ARG002  # most know nothing of it
        """Return what a fresh process must have built of the owner for its checkpoint to fit; None where anything fits."""
        return None

    def fit(self, owner: Any, node: dict[str, Any]) -> None:
        """Make a fresh owner as the checkpoint's where that changes nothing that the script has built itself."""

    def materialise(self, owner: Any) -> None:
        """Give an owner without memory (torch's meta device) some, uninitialised; others are left as they are."""

    @abstractmethod
    def rng_state(self) -> Any:
        """Return the state of the global random generators, as a tree; None if there is none."""

    @abstractmethod
    def set_rng_state(self, state: Any) -> str | None:
        """Put the state back; return words for the user if some of it has no place on this machine."""

    def logged(self, value: Any) -> Any:  # noqa: ARG002  # plain scalars are kept before a framework is asked
        """Return what to keep of a logged value, without waiting for a device; None if it is not of this framework."""
        return None

    def scalars(self, kept: Sequence[Any]) -> list[Scalar] | None:  # noqa: ARG002  # see logged
        """Return the numbers of values that ``logged`` returned, all of this framework; may wait for the device."""
        return None

    def is_device_oom(self, error: BaseException) -> bool:  # noqa: ARG002  # most have no device
        """Say whether the error means that the accelerator's memory is used up."""
        return False


def copy_by_read(framework: Framework, slot: Slot) -> HostCopy:
    """Return the copy that fills one slot by ``read``."""
    number, first, view = slot.number, slot.first, slot.view
    return lambda values: framework.read(values[number], first, view)


class HostTarget:
    """A target in host memory; ``finish`` makes the value of it once all bytes are there."""

    def __init__(self, view: memoryview, finish: Callable[[], Any]) -> None:
        self._view = view
        self.value = finish

    def room(self, begin: int, count: int) -> memoryview:
        """Return that part of the memory."""
        return self._view[begin : begin + count]

    def took(self, begin: int, count: int) -> None:
        """Nothing is left to do: the bytes were read where they belong."""
