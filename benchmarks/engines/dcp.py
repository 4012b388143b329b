"""PyTorch's distributed checkpoint in one process: blocking, and asynchronous with a thread or a process."""

from __future__ import annotations

import warnings
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed as dist
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint.staging import AsyncStager, DefaultStager, StagingOptions
from torch.distributed.checkpoint.state_dict_saver import AsyncCheckpointerType, AsyncSaveResponse

from benchmarks.engines.engine import TorchEngine

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.measuring.state import TorchState


UNPINNED = {
    "use_pinned_memory": False,
    "use_async_staging": False,
    "use_non_blocking_copy": False,
}  # the rest needs CUDA


class Save(TorchEngine):
    """Blocking, one thread."""

    version = torch.__version__

    def __init__(self, state: TorchState, folder: Path) -> None:
        super().__init__(state, folder)
        warnings.simplefilter("ignore")  # because it speaks of process groups at every save

    def save(self) -> None:
        self._place = self.next_place()
        dcp.save(self.states(), checkpoint_id=self._place)

    def restore(self, checkpoint: Path) -> None:
        states = self.states()
        dcp.load(states, checkpoint_id=checkpoint)
        self.load(states)


class Async(Save):
    """A copy, then a thread."""

    where = AsyncCheckpointerType.THREAD

    def __init__(self, state: TorchState, folder: Path) -> None:
        super().__init__(state, folder)
        self._stager = self.stager()
        self._saving: Future[Any] = Future()

    def stager(self) -> AsyncStager | None:
        """Return what makes the copy; None is the library's own choice, made anew for each save."""
        return None

    def save(self) -> None:
        self._place = self.next_place()
        answer = dcp.async_save(
            self.states(), checkpoint_id=self._place, async_checkpointer_type=self.where, async_stager=self._stager
        )
        self._saving = answer.upload_completion if isinstance(answer, AsyncSaveResponse) else answer

    def commit(self) -> Path:
        self._saving.result()
        return self._place


class AsyncCached(Async):
    """A copy into memory that is kept, then a thread."""

    def stager(self) -> AsyncStager | None:
        return DefaultStager(StagingOptions(**UNPINNED, use_shared_memory=False))


class AsyncProcess(Async):
    """A copy, then a process, which needs a process group of one."""

    where = AsyncCheckpointerType.PROCESS

    def __init__(self, state: TorchState, folder: Path) -> None:
        store = dist.FileStore(str(folder / "group"), 1)
        dist.init_process_group("gloo", store=store, rank=0, world_size=1)
        super().__init__(state, folder)


class AsyncProcessCached(AsyncProcess):
    """A copy into shared memory that is kept, then a process."""

    def stager(self) -> AsyncStager | None:
        return DefaultStager(StagingOptions(**UNPINNED, use_shared_memory=True))
