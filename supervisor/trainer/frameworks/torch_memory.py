"""The memory of torch tensors: where a checkpoint is read to, on the host and on devices."""

from __future__ import annotations

import ctypes
import mmap
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Literal

import torch

from supervisor.trainer.frameworks import torch_xla
from supervisor.trainer.frameworks.framework import HostTarget, Target

if TYPE_CHECKING:
    from collections.abc import Sequence

HUGE_FROM_BYTES = 4 * 1024 * 1024


def is_row_major(value: torch.Tensor) -> bool:
    """Say whether the tensor's strides are those of a fresh tensor of its shape."""
    return value.is_contiguous() and value.stride() == row_major(value.shape)


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the strides of a fresh tensor."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def bytes_of(value: torch.Tensor) -> memoryview:
    """Return a writable view of a contiguous host tensor's bytes; the caller keeps the tensor alive."""
    size = value.numel() * value.element_size()
    if not size:
        return memoryview(bytearray())
    return memoryview((ctypes.c_char * size).from_address(value.data_ptr())).cast("B")


def here(device: str) -> torch.device:
    """Return the device if this machine has it, else the CPU."""
    found = torch.device(device)
    if found.type == "cuda" and torch.cuda.is_available() and (found.index or 0) < torch.cuda.device_count():
        return found
    if found.type == torch_xla.TYPE and torch_xla.is_started():
        return found
    return torch.device("cpu")


def into(live: torch.Tensor, size: int) -> Target:
    """Return a target that fills this tensor; ValueError if it does not have ``size`` bytes."""
    tensor = live.detach()
    if tensor.numel() * tensor.element_size() != size:
        raise ValueError(f"{size} bytes for a tensor of {tensor.numel() * tensor.element_size()}")
    if tensor.is_contiguous() and not is_lazy(tensor):
        if tensor.device.type == "cpu":
            return HostTarget(bytes_of(tensor), lambda: live)
        if tensor.device.type == "cuda":
            return _CudaTarget(live)
    return _PackedTarget(live)


def is_lazy(value: torch.Tensor) -> bool:
    """Say whether the memory holds other bits than the value: conj() and its like are done when it is read."""
    return value.is_conj() or value.is_neg()


def dtype_of(name: object) -> torch.dtype:
    """Return the dtype of this name. Raises ValueError for a name of anything else that the module has."""
    found = getattr(torch, name, None) if isinstance(name, str) else None
    if not isinstance(found, torch.dtype):
        raise ValueError(f"{name!r:.40} is no dtype of torch")  # noqa: TRY004  # to the reader it is damage
    return found


def empty(node: dict[str, Any], device: torch.device) -> torch.Tensor:
    """Return a new tensor with the dtype, shape and strides that a node names, and any values."""
    dtype, shape = dtype_of(node["dtype"]), node["shape"]
    if "strides" not in node:
        return _of_large_pages(torch.empty(shape, dtype=dtype, device=device))
    strides = node["strides"]
    once = [1 if stride == 0 and size > 1 else size for size, stride in zip(shape, strides, strict=True)]
    return torch.empty_strided(once, strides, dtype=dtype, device=device).as_strided(shape, strides)


def _of_large_pages(tensor: torch.Tensor) -> torch.Tensor:
    """Ask for large pages under a large new tensor: the system provides them several times faster. Return the tensor."""
    advice, size = getattr(mmap, "MADV_HUGEPAGE", None), tensor.numel() * tensor.element_size()
    if tensor.device.type == "cpu" and size >= HUGE_FROM_BYTES and advice is not None:
        begin = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        pages = (tensor.data_ptr() + size - begin) // mmap.PAGESIZE
        # it is advice: where it is not taken, small pages do
        ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), ctypes.c_size_t(pages * mmap.PAGESIZE), advice)
    return tensor


def stored_once(value: torch.Tensor, strides: Sequence[int]) -> torch.Tensor:
    """Return the part of a tensor that is really stored where these strides repeat it, as expand() does."""
    for dim, stride in enumerate(strides):
        value = value.narrow(dim, 0, 1) if stride == 0 and value.shape[dim] > 1 else value
    return value


class _PackedTarget:
    """Fills a tensor of other strides from memory that is there no longer than it takes."""

    def __init__(self, live: torch.Tensor) -> None:
        self._live = live
        self._left = live.numel() * live.element_size()
        self._packed: torch.Tensor | None = None
        self._lock = threading.Lock()  # the parts of a tensor larger than a piece lie in several files

    def room(self, begin: int, count: int) -> memoryview:
        with self._lock:
            if self._packed is None:
                # not torch.empty: between the tensors that stay, the allocator finds no use for what was given back
                memory = mmap.mmap(-1, self._left)
                self._packed = torch.frombuffer(memory, dtype=self._live.dtype).view(self._live.shape)
            return bytes_of(self._packed)[begin : begin + count]

    def took(self, begin: int, count: int) -> None:  # noqa: ARG002  # how many is enough
        with self._lock:
            self._left -= count
            packed, self._packed = self._packed, None if self._left == 0 else self._packed
        if self._packed is None and packed is not None:
            tensor, strides = self._live.detach(), self._live.stride()
            stored_once(tensor, strides).copy_(stored_once(packed, strides))

    def value(self) -> Any:
        return self._live


class _CudaTarget:
    """Fills a tensor on a device through pinned slices: some travel while the next are read from the disk.

    Two threads may ask at once: the parts of a tensor larger than a piece lie in several files.
    """

    AHEAD = 4  # slices of one tensor that may be on their way

    def __init__(self, live: torch.Tensor) -> None:
        self._live = live
        self._bytes = live.detach().view(-1).view(torch.uint8)
        self._rooms: dict[int, torch.Tensor] = {}
        self._sent: deque[Any] = deque()

    def room(self, begin: int, count: int) -> memoryview:
        self._rooms[begin] = _pinned(count)
        return bytes_of(self._rooms[begin])

    def took(self, begin: int, count: int) -> None:
        with torch.cuda.device(self._bytes.device):
            # torch gives the pinned memory out again when the copy is done, not before
            self._bytes[begin : begin + count].copy_(self._rooms.pop(begin), non_blocking=True)
            self._sent.append(torch.cuda.current_stream().record_event())
        if len(self._sent) > self.AHEAD:
            self._sent.popleft().synchronize()

    def value(self) -> Any:
        for event in self._sent:
            event.synchronize()
        return self._live


def _pinned(size: int) -> torch.Tensor:
    return torch.empty(size, dtype=torch.uint8, pin_memory=True)


def aliased(owner: Any) -> Literal["no", "state", "whole"]:
    """See the port. A module that does something of its own when it is loaded is left to do it."""
    if isinstance(owner, torch.optim.Optimizer):
        return "state" if _is_torchs(type(owner), "load_state_dict", "state_dict", "__setstate__") else "no"
    if isinstance(owner, torch.nn.Module) and all(map(_loads_plainly, owner.modules())):
        return "whole"
    return "no"


_LOADING = (
    "load_state_dict",
    "_load_from_state_dict",
    "state_dict",
    "_save_to_state_dict",
    "get_extra_state",
    "set_extra_state",
)
_HOOKS = (
    "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks", "_state_dict_hooks", "_state_dict_pre_hooks",
)  # fmt: skip


def _loads_plainly(module: torch.nn.Module) -> bool:
    if not vars(module).keys().isdisjoint(_LOADING):
        return False  # replaced in this one object, as adapters of large models do
    return _is_torchs(type(module), *_LOADING) and not any(getattr(module, name, None) for name in _HOOKS)


def _is_torchs(kind: type, *methods: str) -> bool:
    """Say whether a class takes these methods from torch's own plain layers and optimizers."""
    return all(
        getattr(getattr(kind, name, None), "__module__", "torch.nn.modules").startswith(
            ("torch.nn.modules", "torch.optim")
        )
        for name in methods
    )


def materialise(module: torch.nn.Module) -> None:
    """Give parameters and buffers on the meta device memory on the CPU, keeping each object, which an optimizer may hold.

    Not the buffers that are in no checkpoint: they would hold anything, while on the meta device they say so when used.
    """
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            if parameter.is_meta:
                real = torch.nn.Parameter(torch.empty_like(parameter, device="cpu"), parameter.requires_grad)
                torch.utils.swap_tensors(getattr(part, name), real)  # type: ignore[no-untyped-call]
        for name, buffer in part.named_buffers(recurse=False):
            if buffer.is_meta and name not in part._non_persistent_buffers_set:  # noqa: SLF001  # torch has no other way
                part._buffers[name] = torch.empty_like(buffer, device="cpu")  # noqa: SLF001  # setattr would ask hooks
