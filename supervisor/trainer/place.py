"""The place in data that a script iterates itself: what a run asks of it."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Place(Protocol):
    """Kept beside a loader that was attached. A batch that was handed out is done when the next one is asked for."""

    number: int  # of the epoch under way
    drives: bool  # each batch is a step of the run

    @abstractmethod
    def loop_begins(self) -> None:
        """The run's loop begins: a batch that was handed out before belongs to its first step."""

    @abstractmethod
    def epoch_ends(self) -> None:
        """The script is done with the epoch, also where it has left some of it out."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return the place."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go there when the loader is iterated next."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the batches of an epoch; TypeError where it is not known."""
