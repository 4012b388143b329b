"""The protocol for the position in data that a script iterates itself."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class DataPosition(Protocol):
    """Kept beside an attached loader. A batch that was handed out is done when the next one is requested."""

    number: int  # of the epoch under way
    batches_are_steps: bool  # each batch is a step of the run

    @abstractmethod
    def on_loop_start(self) -> None:
        """The run's loop begins: a batch that was handed out before belongs to its first step."""

    @abstractmethod
    def on_epoch_end(self) -> None:
        """The script has ended the epoch, possibly before its last batch."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return the position."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume there when the loader is iterated next."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the batches of an epoch; TypeError if unknown."""
