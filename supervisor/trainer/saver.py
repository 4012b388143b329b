"""Stages checkpoints beside the training loop: a copy into the kept buffer, then a thread that writes it.

A save in progress is never overlapped. A save that fails is told and leaves no trace; the caller asks again.
"""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from supervisor.core.messages import Message, Note, SaveFailed, Staged
from supervisor.trainer import folder, writer
from supervisor.trainer.snapshot import HostBuffer, Piece, direct_chunks, plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from supervisor.trainer.clock import Clock
    from supervisor.trainer.folder import Draft
    from supervisor.trainer.leaf import Leaf

SAVES_PER_ATTEMPT_MAX = 1000


class Saver:
    """``staged_step`` is the newest step that was staged, by this process or before it."""

    def __init__(self, staging: Path, attempt: int, clock: Clock, say: Callable[[Message], None]) -> None:
        staging.mkdir(parents=True, exist_ok=True)
        writer.remove_leftovers(staging)
        self.staged_step: int | None = None
        self.after_staged: Callable[[Path], None] | None = None
        self._staging = staging
        self._number = _first_number(staging, attempt)
        self._clock = clock
        self._say = say
        self._buffer = HostBuffer()
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        """A save is being written."""
        return self._thread is not None and self._thread.is_alive()

    def begin(self, draft: Draft, leaves: dict[str, Leaf], reason: str, began_s: float) -> None:
        """Copy the leaves and write them beside the loop; they may change as soon as this returns.

        Without room for the copy they are written before it returns. ``began_s``: since when the loop stands still.
        """
        self.wait()
        pieces, split = plan(leaves)
        draft = replace(draft, split=split)
        try:
            self._buffer.take(pieces)
        except MemoryError as error:
            self._say(Note("warning", f"{error}: step {draft.step} is saved while training waits"))
            self._write(draft, pieces, direct_chunks, reason, (began_s, None))
            return
        self._thread = threading.Thread(
            target=self._write,
            args=(draft, pieces, self._buffer.chunks, reason, (began_s, self._clock() - began_s)),
            name="supervisor-writer",
        )
        self._thread.start()

    def save_now(self, draft: Draft, leaves: dict[str, Leaf], reason: str) -> bool:
        """Write the leaves in the calling thread, without a copy; return whether it is staged."""
        self.wait()
        pieces, split = plan(leaves)
        return self._write(replace(draft, split=split), pieces, direct_chunks, reason, (self._clock(), None))

    def wait(self) -> None:
        """Return when nothing is being written any more."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _write(
        self,
        draft: Draft,
        pieces: list[Piece],
        chunks: Callable[[Piece], Iterable[memoryview]],
        reason: str,
        stall: tuple[float, float | None],
    ) -> bool:
        began_s, stall_s = stall
        written_from_s = self._clock()
        name = f"step-{draft.step:09d}-{self._number}"
        self._number += 1
        try:
            size = folder.write(self._staging, name, draft, pieces, chunks)
            if self.after_staged is not None:
                self.after_staged(self._staging)
        except Exception as error:  # noqa: BLE001  # because whatever a save meets, training goes on and the word is out
            self._say(SaveFailed(draft.step, f"{type(error).__name__}: {error}"))
            return False
        now_s = self._clock()
        stall_s = now_s - began_s if stall_s is None else stall_s
        self.staged_step = draft.step
        self._say(Staged(draft.step, name, size, reason, stall_s, now_s - written_from_s))
        return True


def _first_number(staging: Path, attempt: int) -> int:
    """No two folders of one staging place ever have the same name, also when earlier ones are gone already."""
    numbers = [entry.name.rpartition("-")[2] for entry in os.scandir(staging) if entry.name.startswith("step-")]
    return max([attempt * SAVES_PER_ATTEMPT_MAX, *(int(number) for number in numbers if number.isdecimal())]) + 1
