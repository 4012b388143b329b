"""This project's engine through its public interface, in a script without a supervisor."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from benchmarks.engines.engine import TorchEngine
from supervisor.trainer import attach, life

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.measuring.state import TorchState

STEPS = 1_000_000


class Ours(TorchEngine):
    """The loop stands still only in the ``next()`` of the step that saves."""

    version = "this checkout"

    def __init__(self, state: TorchState, folder: Path) -> None:
        super().__init__(state, folder)
        self._staging = folder / "staging"
        self._run = self._attached(self._staging)
        self._steps = iter(self._run.steps(STEPS))
        next(self._steps)
        next(self._steps)  # after its first step the run makes its buffer ready

    def save(self) -> None:
        self._run.save()
        next(self._steps)

    def commit(self) -> Path:
        self._run.flush()
        return max(self._staging.glob("step-*"), key=lambda path: path.stat().st_mtime_ns)

    def restore(self, checkpoint: Path) -> None:
        self._attached(self.folder / "elsewhere", str(checkpoint))

    def _attached(self, staging: Path, checkpoint: str = "") -> Any:
        os.environ |= {"SUPERVISOR_RUN_STAGING": str(staging), "SUPERVISOR_RUN_CHECKPOINT": checkpoint}
        life._here.clear()  # noqa: SLF001  # because a process may attach only once, and each restore here is a life
        return attach.attach(model=self.state.model, optimizer=self.state.optimizer)


class Overlapped(Ours):
    """The loop goes on with forward and backward beside the copy, and waits for the rest of it before the update."""

    overlaps = True

    def __init__(self, state: TorchState, folder: Path) -> None:
        super().__init__(state, folder)
        self.before_update()

    def before_update(self) -> None:
        self._run.before_update()
