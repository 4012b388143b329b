"""What every row of the benchmark does: save, be done, put back. The harness times it and knows nothing of its insides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.measuring.state import State, TorchState


class Engine(ABC):
    """One way to keep a state. ``folder`` is its own and exists; the packages it needs are imported with its module.

    The weights may change once ``save`` and then ``before_update`` have returned; forward and backward may run between the
    two where ``overlaps``. ``commit`` returns when the engine says that the last checkpoint is done, and where it is.
    ``restore`` puts one back in place, verified if the engine can.
    """

    version = ""
    overlaps = False

    def __init__(self, state: Any, folder: Path) -> None:
        self.state: State = state
        self.folder = folder
        self._saves = 0

    @abstractmethod
    def save(self) -> None: ...

    @abstractmethod
    def commit(self) -> Path: ...

    @abstractmethod
    def restore(self, checkpoint: Path) -> None: ...

    def before_update(self) -> None:  # noqa: B027  # most engines are done with the weights when save returns
        """Return when the weights may change."""

    def close(self) -> None:  # noqa: B027  # most engines have nothing
        """End what was started."""

    def next_place(self, suffix: str = "") -> Path:
        """Return a path that no earlier save had."""
        self._saves += 1
        return self.folder / f"checkpoint-{self._saves:04d}{suffix}"


class TorchEngine(Engine):
    """An engine that keeps torch's own state dictionaries."""

    state: TorchState

    def __init__(self, state: TorchState, folder: Path) -> None:
        super().__init__(state, folder)
        self._place = folder

    def commit(self) -> Path:
        return self._place

    def states(self) -> dict[str, Any]:
        """Return what a script would save: the dictionaries of the model and of the optimizer."""
        return {"model": self.state.model.state_dict(), "optimizer": self.state.optimizer.state_dict()}

    def load(self, states: dict[str, Any]) -> None:
        """Put such dictionaries back."""
        self.state.model.load_state_dict(states["model"])
        self.state.optimizer.load_state_dict(states["optimizer"])
