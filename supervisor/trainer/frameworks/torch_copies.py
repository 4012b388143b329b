"""Copies of torch tensors into the host buffer: prepared once, then one call for many tensors, without Python for each.

From CUDA the copies run on a stream of their own into pinned memory; the stream that trains waits for them on the device,
while the host goes on at once.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import torch

from supervisor.trainer.frameworks import torch_xla
from supervisor.trainer.frameworks.framework import Copies, copy_by_read
from supervisor.trainer.frameworks.torch_memory import is_lazy, is_row_major

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.trainer.buffer import HostBuffer
    from supervisor.trainer.frameworks.framework import DeviceCopy, Framework, HostCopy, Pending, Slot

BATCH_BYTES = 8 * 1024 * 1024  # what one thread takes at a time
BATCH_TENSORS = 256


def prepared(framework: Framework, slots: Sequence[Slot], buffer: HostBuffer) -> Copies:
    """Return the copies that fill the slots."""
    by_device: dict[torch.device, list[Slot]] = defaultdict(list)
    for slot in slots:
        if slot.view:
            by_device[slot.value.device].append(slot)
    copies = Copies([], [])
    for device, found in by_device.items():
        if device.type == "cuda":
            copies.device.append(_from_cuda(device, found, buffer))
        elif device.type == torch_xla.TYPE:
            copies.device.append(torch_xla.copied(found, _whole, _raw))
        else:
            copies.host.extend(_from_host(framework, found))
    return copies


def read(value: torch.Tensor, first: int, out: memoryview) -> None:
    """Copy row-major bytes of a tensor, on whatever device, from ``first`` on into ``out``."""
    if not out:
        return
    with torch.no_grad():
        if first == 0 and len(out) == value.nbytes and _is_aligned(out, value):
            _whole(out, value).copy_(value)
        else:
            _flat(out).copy_(_raw(value)[first : first + len(out)])


def _raw(value: torch.Tensor) -> torch.Tensor:
    return value.detach().resolve_conj().resolve_neg().contiguous().view(-1).view(torch.uint8)


def _flat(view: memoryview) -> torch.Tensor:
    return torch.frombuffer(view, dtype=torch.uint8)


def _whole(view: memoryview, value: torch.Tensor) -> torch.Tensor:
    return torch.frombuffer(view, dtype=value.dtype).view(value.shape)


def _is_aligned(view: memoryview, value: torch.Tensor) -> bool:
    """Say whether the view may be written as items of that dtype: of complex ones, which files hold as bytes, it may not."""
    return _flat(view).data_ptr() % value.element_size() == 0


def _from_host(framework: Framework, slots: Sequence[Slot]) -> list[HostCopy]:
    copies: list[HostCopy] = []
    batch: list[Slot] = []
    size = 0
    for slot in slots:
        if len(slot.view) > BATCH_BYTES and is_row_major(slot.value) and not is_lazy(slot.value):
            copies += [_slice(slot, begin) for begin in range(0, len(slot.view), BATCH_BYTES)]
        elif slot.whole and _is_aligned(slot.view, slot.value):
            batch.append(slot)
            size += len(slot.view)
            if size >= BATCH_BYTES or len(batch) >= BATCH_TENSORS:
                copies.append(_batch(batch))
                batch, size = [], 0
        else:
            copies.append(copy_by_read(framework, slot))
    return [*copies, _batch(batch)] if batch else copies


def _batch(slots: Sequence[Slot]) -> HostCopy:
    outs = [_whole(slot.view, slot.value) for slot in slots]
    numbers = [slot.number for slot in slots]

    def copy(values: Sequence[Any]) -> None:
        with torch.no_grad():
            torch._foreach_copy_(outs, [values[number] for number in numbers])  # as torch.optim does

    return copy


def _slice(slot: Slot, begin: int) -> HostCopy:
    out = _flat(slot.view[begin : begin + BATCH_BYTES])
    number, first, size = slot.number, slot.first + begin, out.numel()

    def copy(values: Sequence[Any]) -> None:
        with torch.no_grad():
            out.copy_(values[number].view(-1).view(torch.uint8)[first : first + size])

    return copy


def _from_cuda(device: torch.device, slots: Sequence[Slot], buffer: HostBuffer) -> DeviceCopy:
    _pin(buffer)
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    whole = [slot.whole and _is_aligned(slot.view, slot.value) for slot in slots]
    outs = [
        _whole(slot.view, slot.value) if each else _flat(slot.view) for slot, each in zip(slots, whole, strict=True)
    ]
    parts = [
        (slot.number, None if each else slice(slot.first, slot.first + len(slot.view)))
        for slot, each in zip(slots, whole, strict=True)
    ]

    def copy(values: Sequence[Any]) -> Pending:
        training = torch.cuda.current_stream(device)
        stream.wait_stream(training)
        with torch.no_grad(), torch.cuda.stream(stream):
            sources = [values[number] if part is None else _raw(values[number])[part] for number, part in parts]
            torch._foreach_copy_(outs, sources, non_blocking=True)  # one call for all
            return _OnStream(training, stream.record_event())

    return copy


class _OnStream:
    def __init__(self, training: torch.cuda.Stream, done: torch.cuda.Event) -> None:
        self._training, self._done = training, done

    def fence(self) -> None:
        self._training.wait_event(self._done)

    def wait(self) -> None:
        self._done.synchronize()


def _pin(buffer: HostBuffer) -> None:
    """Lock the buffer into memory, which lets the device write into it by itself; refused, copies are only slower."""
    runtime: Any = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    if int(runtime.cudaHostRegister(buffer.address, len(buffer.view), 0)) == 0:
        address = buffer.address
        buffer.before_release(lambda: runtime.cudaHostUnregister(address))
