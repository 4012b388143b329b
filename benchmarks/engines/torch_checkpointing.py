"""torch_checkpointing: a copy into shared memory beside the loop, which its lock() waits for, then a process."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from torch_checkpointing import CheckpointManager
from torch_checkpointing.config import AsyncCheckpointSaverConfig
from torch_checkpointing.staging import CheckpointStagerConfig
from torch_checkpointing.storage.filesystem import LocalFileSystemStorageConfig

from benchmarks.engines.engine import TorchEngine

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.measuring.state import TorchState


class Async(TorchEngine):
    """Pinned memory needs CUDA, and its direct I/O is refused by ext4 (EINVAL), so both are off."""

    version = version("torch-checkpointing")

    def __init__(self, state: TorchState, folder: Path) -> None:
        super().__init__(state, folder)
        staging = CheckpointStagerConfig(use_pinned_memory=False, use_non_blocking_copy=False)
        self._manager = CheckpointManager(
            CheckpointManager.Config(
                save=AsyncCheckpointSaverConfig(staging_config=staging),
                storage_config=LocalFileSystemStorageConfig(use_direct_io=False),
            )
        )
        self._saving: Any = None

    def save(self) -> None:
        self._place = self.next_place()
        self._saving = self._manager.save(str(self._place), self.states())
        with self._manager.lock():
            return  # the weights may change now

    def commit(self) -> Path:
        self._saving.result()
        return self._place

    def restore(self, checkpoint: Path) -> None:
        self.load(dict(self._manager.load(str(checkpoint), into=self.states(), strict=True)))
