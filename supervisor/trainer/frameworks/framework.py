"""The port of a framework: what attach() must know about its values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from supervisor.trainer.leaf import Leaf

StateAccess = tuple[Callable[[], Any], Callable[[Any], Any]]
Scalar = int | float | str | bool | None


class Framework(Protocol):
    """Tags of its nodes start with its name and a dot; what it gives back equals what it kept, bit for bit."""

    name: str

    def describe(self) -> tuple[str, str]:
        """Return name with version, and the device in words."""

    def keep(self, value: Any, path: str) -> tuple[dict[str, Any], Leaf | None] | None:
        """Return the node (with its tag) and leaf of a value; None if it is not of this framework; RefusedError if inexact."""

    def give(self, node: dict[str, Any], parts: Sequence[memoryview], *, on_host: bool) -> Any:
        """Return the value of a node; ``parts`` are its leaf's bytes; ``on_host``: its owner will place it itself."""

    def access(self, value: Any) -> StateAccess | None:
        """Return (get, set) for a stateful object that has no state_dict; None for others."""

    def places_itself(self, value: Any) -> bool:
        """Say whether the object's load_state_dict moves tensors to where they belong."""

    def rng_state(self) -> Any:
        """Return the state of the global random generators, as a tree; None if there is none."""

    def set_rng_state(self, state: Any) -> str | None:
        """Put the state back; return words for the user if some of it has no place on this machine."""

    def logged(self, value: Any) -> Any:
        """Return what to keep of a logged value, without waiting for a device; None if it is not of this framework."""

    def scalars(self, kept: Sequence[Any]) -> list[Scalar] | None:
        """Return the numbers of values that ``logged`` returned, all of this framework; may wait for the device."""

    def is_device_oom(self, error: BaseException) -> bool:
        """Say whether the error means that the accelerator's memory is used up."""
