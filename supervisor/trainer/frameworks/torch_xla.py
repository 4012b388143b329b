"""Tensors of torch_xla, on a TPU or whatever XLA runs on: where they lie, how they are read, and their random generator.

What the script does to them is only noted down until torch_xla.sync() or until somebody asks for a value. They have no
address of their own. torch_xla is never imported here for a script that has not done so.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from supervisor.trainer.frameworks.framework import DeviceCopy, Pending, Scalar, Slot

TYPE = "xla"


def is_started() -> bool:
    """Say whether the script uses XLA: to ask more would start it, and a TPU then belongs to this process alone."""
    there = sys.modules.get("torch_xla")
    return there is not None and bool(there._XLAC._xla_runtime_is_initialized())  # noqa: SLF001  # there is no other way


def described() -> str:
    """Return the device in words, once it is started."""
    import torch_xla

    return f"{torch_xla.core.xla_model.xla_device_hw(torch_xla.device())} through XLA"


def address(value: torch.Tensor) -> Hashable:
    """Return what stays while a tensor is changed in place, and is the same for all views that begin there."""
    return TYPE, value.untyped_storage()._cdata, value.storage_offset()  # noqa: SLF001  # its data pointer is always 0


def copied(
    slots: Sequence[Slot], whole: Callable[[memoryview, torch.Tensor], torch.Tensor],
    raw: Callable[[torch.Tensor], torch.Tensor],
) -> DeviceCopy:  # fmt: skip
    """Return the copy that fills the slots: one transfer for all, on the thread that trains, which waits for it.

    ``whole`` makes a tensor of a buffer like another, ``raw`` the bytes of a tensor.
    """
    numbers = sorted({slot.number for slot in slots})

    def copy(values: Sequence[Any]) -> Pending:
        fetched = dict(zip(numbers, fetch([values[number] for number in numbers]), strict=True))
        for slot in slots:
            value = fetched[slot.number]
            if slot.whole:
                whole(slot.view, value).copy_(value)
            else:
                part = raw(value)[slot.first : slot.first + len(slot.view)]
                torch.frombuffer(slot.view, dtype=torch.uint8).copy_(part)
        return _Done()

    return copy


def fetch(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return copies on the host, in one transfer.

    Without a sync() before it, because that moves the random generator on: the run would depend on when it was saved. A
    script that syncs at the end of its steps has nothing left to do here; for others these values are computed now.
    """
    import torch_xla

    with torch.no_grad():
        fetched: list[torch.Tensor] = torch_xla._XLAC._xla_get_cpu_tensors([each.detach() for each in tensors])  # noqa: SLF001  # what xm.save uses
    return fetched


def scalars(kept: Sequence[torch.Tensor]) -> list[Scalar]:
    """Return the numbers of tensors of one element, in one transfer."""
    return [value.item() for value in fetch(kept)]


def rng_state() -> list[int]:
    """Return the state of the device's random generator, where XLA is in use."""
    import torch_xla

    return [torch_xla.core.xla_model.get_rng_state()]


def set_rng_state(states: Sequence[int]) -> bool:
    """Put it back; False if there is no XLA device in use here to take it, or one too many."""
    if len(states) != is_started():
        return False
    if states:
        import torch_xla

        torch_xla.core.xla_model.set_rng_state(states[0])
    return True


class _Done:
    def fence(self) -> None:
        """The values were read before the copy returned."""

    def wait(self) -> None:
        """The bytes were there before the copy returned."""
