"""The adapter protocol.

The facts about a framework's values that attach() needs, and the reads and writes of their bytes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from supervisor.trainer.save.buffer import HostBuffer

StateAccess = tuple[Callable[[], Any], Callable[[Any], Any]]
Scalar = int | float | str | bool | None
HostCopy = Callable[[Sequence[Any]], None]
DeviceCopy = Callable[[Sequence[Any]], "Pending"]


class LeafSpec(NamedTuple):
    """The description of a leaf: a block of numbers that goes into a safetensors file. ``framework`` reads its bytes, row-major.

    ``dtype`` and ``shape`` stand in the safetensors header. Leaves of equal ``identity`` share their memory and are stored
    once;
    None is never shared.
    """

    dtype: str
    shape: tuple[int, ...]
    item_bytes: int
    bytes: int
    identity: Hashable
    framework: FrameworkAdapter


class Pending(Protocol):
    """A copy that a device makes by itself."""

    def fence(self) -> None:
        """Allow changes of the values. Later work of the device waits for the copy; the caller does not."""

    def wait(self) -> None:
        """Wait for the bytes in the buffer."""


class Copies(NamedTuple):
    """Prepared copies, each called with the live values of all leaves.

    ``device`` copies run on the training thread and return at once. ``host`` copies run on any thread and are done on return.
    """

    device: list[DeviceCopy]
    host: list[HostCopy]


class Slot(NamedTuple):
    """The place of a leaf's bytes in the host buffer: leaf number ``number`` of ``size`` bytes, from its byte ``first`` on.

    ``value`` is the live value at present. Copies are planned for its device and strides, and must not keep it.
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


class RestoreTarget(Protocol):
    """The destination of a leaf's bytes when a checkpoint is read, in slices."""

    def buffer(self, begin: int, count: int) -> memoryview:
        """Return the memory for the bytes [begin, begin + count)."""

    def filled(self, begin: int, count: int) -> None:
        """Accept these bytes: they are in the buffer and hashed. The buffer may be reused."""

    def value(self) -> Any:
        """Return the value once all bytes are there."""


class Skeleton(Protocol):
    """The structure that a fresh process must have built for a checkpoint to fit."""

    def changes(self, owner: Any) -> str:
        """Return a message on how the owner differs from it; "" if it does not."""


class FrameworkAdapter(Protocol):
    """One framework's values. Node tags start with its name and a dot, and decoded values equal encoded ones bit for bit.

    The methods with a body suit a framework with values in host memory and without an accelerator.
    """

    name: str

    @abstractmethod
    def describe(self) -> tuple[str, str]:
        """Return name with version, and the device's name."""

    def describe_device(self) -> dict[str, str]:
        """Return the properties of that device on which ``device_changes`` bases its advice."""
        return {}

    @abstractmethod
    def encode(self, value: Any, path: str) -> tuple[dict[str, Any], LeafSpec | None] | None:
        """Return the node (with its tag) and the leaf of a value.

        Args:
            value: any value of a state.
            path: its path in the state, for errors.

        Returns:
            None for a value of another framework. The leaf is None if the node says everything.

        Raises:
            UnsupportedStateError: the value cannot be saved exactly.
        """

    @abstractmethod
    def signature(self, value: Any) -> Hashable:
        """Return a key that changes whenever ``encode`` would return another node or form.

        Cheap: used at every save.
        """

    @abstractmethod
    def address(self, value: Any) -> Hashable:
        """Return the begin of the value's memory. Equal address and signature mean one leaf; None is never shared."""

    @abstractmethod
    def read(self, value: Any, first: int, out: memoryview) -> None:
        """Fill ``out`` with the row-major bytes of a leaf's value, from its byte ``first`` on."""

    def plan_copies(self, slots: Sequence[Slot], buffer: HostBuffer) -> Copies:  # noqa: ARG002  # for what pins the buffer
        """Return the copies that fill the slots, planned once for many snapshots.

        They must not keep the present values.
        """
        return Copies([], [copy_by_read(self, slot) for slot in slots])

    def optimizer_updated(self, owner: Any) -> Collection[Hashable]:  # noqa: ARG002  # most know nothing of it
        """Return the addresses of those tensors of an attached object that only an optimizer's step changes."""
        return ()

    def version(self, value: Any) -> int:  # noqa: ARG002  # see changed_by_updates
        """Return a number that grows when a value is changed in place, as far as the framework counts that."""
        return 0

    @abstractmethod
    def restore_target(self, node: dict[str, Any], size: int, live: Any, *, on_host: bool) -> RestoreTarget:
        """Return the target for the ``size`` bytes of a node's leaf.

        Args:
            node: the node, which names dtype, shape and device.
            size: the number of bytes that the files hold.
            live: the value to fill in place; None for a new value.
            on_host: make a new value on the host, not on the device that the node names.

        Raises:
            ValueError: the node has another size.
        """

    def decode(self, node: dict[str, Any]) -> Any:
        """Return the value of a node that has no leaf."""
        raise NotImplementedError(node)

    def state_access(self, value: Any) -> StateAccess | None:  # noqa: ARG002  # most have none
        """Return (get, set) for a stateful object that has no state_dict; None for others."""
        return None

    def attach_advice(self, value: Any) -> tuple[str, str] | None:  # noqa: ARG002  # most have none
        """Return the reason why a value of this framework cannot be attached, and a hint; None for others."""
        return None

    def restore_warning(self, owner: Any) -> str:  # noqa: ARG002  # most know nothing of it
        """Return a message on parts of an owner that a resume never restores; "" for none."""
        return ""

    def watch_unattached_data(self) -> None:
        """Track the data that the script iterates from now on: the script has a loop of its own."""

    def unattached_data_warning(self, attached: Collection[Any]) -> str:  # noqa: ARG002  # most know nothing of it
        """Return a message if the script is in the middle of data whose position is not attached; else ""."""
        return ""

    def in_place_mode(self, owner: Any) -> Literal["no", "state", "whole"]:  # noqa: ARG002  # most know nothing of it
        """Return whether a checkpoint can be read straight into the owner's own memory.

        "whole": reading is all there is to do. "state": ``load_state_dict`` must still be called, and copies nothing. "no": the
        owner's ``state_dict()`` does not show its memory.
        """
        return "no"

    def loads_itself(self, owner: Any) -> bool:  # noqa: ARG002  # most know nothing of it
        """Return whether the owner's ``load_state_dict`` copies to its devices, so that values on the host suffice."""
        return False

    def extra_state(self, owner: Any, attached: Collection[Any]) -> Any:  # noqa: ARG002  # most have nothing beside their state
        """Return an owner's state beside its ``state_dict()``, as a tree: flags, unused gradients. None for nothing."""
        return None

    def restore_extra_state(self, owner: Any, stored: Any) -> None:
        """Restore what ``extra_state`` returned."""
        raise NotImplementedError(owner, stored)

    def differing_flags(self, owner: Any, stored: Any) -> list[str]:
        """Return the names of parameters whose ``requires_grad`` differs from the checkpoint's."""
        raise NotImplementedError(owner, stored)

    def skeleton(self, owner: Any) -> Skeleton | None:  # noqa: ARG002  # most know nothing of it
        """Return the owner's structure that a fresh process must build; None if any structure fits."""
        return None

    def adapt_structure(self, owner: Any, node: dict[str, Any]) -> None:
        """Adapt a fresh owner to the checkpoint without changing what the script has built."""

    def materialise(self, owner: Any) -> None:
        """Allocate uninitialised memory for an owner on torch's meta device; others are left as they are."""

    @abstractmethod
    def rng_state(self) -> Any:
        """Return the state of the global random generators, as a tree; None if there is none."""

    @abstractmethod
    def set_rng_state(self, state: Any) -> str | None:
        """Set the state; return a message for the user if some of it has no place on this machine."""

    def loggable(self, value: Any) -> Any:  # noqa: ARG002  # plain scalars need no adapter
        """Return the value to keep for a log entry, without waiting for a device.

        None for another framework's value.
        """
        return None

    def scalars(self, stored: Sequence[Any]) -> list[Scalar] | None:  # noqa: ARG002  # see logged
        """Return the numbers of values that ``loggable`` returned; may wait for the device."""
        return None

    def is_device_oom(self, error: BaseException) -> bool:  # noqa: ARG002  # most have no device
        """Return whether the error means that the accelerator's memory is used up."""
        return False


def copy_by_read(framework: FrameworkAdapter, slot: Slot) -> HostCopy:
    """Return the copy that fills one slot by ``read``."""
    number, first, view = slot.number, slot.first, slot.view
    return lambda values: framework.read(values[number], first, view)


class HostTarget:
    """A target in host memory; ``finish`` makes its value once all bytes are there."""

    def __init__(self, view: memoryview, finish: Callable[[], Any]) -> None:
        self._view = view
        self.value = finish

    def buffer(self, begin: int, count: int) -> memoryview:
        """Return that part of the memory."""
        return self._view[begin : begin + count]

    def filled(self, begin: int, count: int) -> None:
        """Do nothing: the bytes were read to their final place."""
