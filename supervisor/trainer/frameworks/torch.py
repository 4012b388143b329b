"""PyTorch: tensors with their dtype, shape and strides, Size, dtype and device, generators on the CPU, CUDA devices and XLA."""

from __future__ import annotations

import sys
from collections import defaultdict
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import torch

from supervisor.core.hardware import BFLOAT16, MEMORY_GB
from supervisor.trainer.frameworks import torch_copies, torch_memory, torch_modules, torch_xla
from supervisor.trainer.frameworks.framework import Copies, Framework, Target
from supervisor.trainer.leaf import Leaf
from supervisor.trainer.refused import RefusedError
from supervisor.trainer.typed_json import TAG

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Sequence

    from supervisor.trainer.buffer import HostBuffer
    from supervisor.trainer.frameworks.framework import Scalar, Skeleton, Slot, StateAccess

FIRST_WITH_BFLOAT16 = 8  # major compute capability (Ampere); before it, bfloat16 is emulated
_STORED = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
    "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8",
    "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip


class Torch(Framework):
    """The port's methods for this framework. State on accelerators is read when it is copied, not before."""

    name = "torch"

    def describe(self) -> tuple[str, str]:
        # A script that has not touched CUDA yet may not want it: asking for the name would start it.
        started = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        device = torch.cuda.get_device_name() if started else torch_xla.described() if torch_xla.is_started() else "cpu"
        return f"torch {torch.__version__}", device

    def describe_device(self) -> dict[str, str]:
        if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            return {}
        found = torch.cuda.get_device_properties(torch.cuda.current_device())
        has_it = found.major >= FIRST_WITH_BFLOAT16
        return {MEMORY_GB: f"{found.total_memory / 1e9:.1f}", BFLOAT16: "yes" if has_it else "no"}

    def keep(self, value: Any, path: str) -> tuple[dict[str, Any], Leaf | None] | None:
        if isinstance(value, torch.Tensor):
            return self._keep_tensor(value, path)
        if isinstance(value, torch.Size):
            return {TAG: "torch.Size", "items": list(value)}, None
        if isinstance(value, torch.dtype):
            return {TAG: "torch.dtype", "name": _dtype_name(value)}, None
        if isinstance(value, torch.device):
            return {TAG: "torch.device", "name": str(value)}, None
        return None

    def token(self, value: Any) -> Hashable:
        if not isinstance(value, torch.Tensor) or value.layout is not torch.strided:
            return None
        form = (value.shape, value.stride(), value.dtype, value.device)
        return form, type(value), _wants_gradient(value), value.is_conj(), value.is_neg()

    def address(self, value: Any) -> Hashable:
        if value.device.type == torch_xla.TYPE:
            return torch_xla.address(value) if value.numel() else None
        return value.data_ptr() if value.numel() else None

    def read(self, value: Any, first: int, out: memoryview) -> None:
        torch_copies.read(value, first, out)

    def copies(self, slots: Sequence[Slot], buffer: HostBuffer) -> Copies:
        return torch_copies.prepared(self, slots, buffer)

    def changed_by_updates(self, owner: Any) -> Collection[Hashable]:
        if isinstance(owner, torch.nn.Module):
            return [self.address(parameter) for parameter in owner.parameters()]
        if isinstance(owner, torch.optim.Optimizer):
            held = (each for state in owner.state.values() for each in state.values())
            return [self.address(each) for each in held if isinstance(each, torch.Tensor)]
        return ()

    def version(self, value: Any) -> int:
        return 0 if value.is_inference() else value._version  # noqa: SLF001  # what autograd itself goes by

    def target(self, node: dict[str, Any], size: int, live: Any, *, on_host: bool) -> Target:
        if live is not None:
            return torch_memory.into(live, size)
        where = torch.device("cpu") if on_host else torch_memory.here(node["device"])
        # Memory of torch's own, because results may depend on how memory is aligned.
        fresh = torch_memory.empty(node, where)
        return _Finished(torch_memory.into(fresh, size), lambda: _dressed(fresh, node))

    def give(self, node: dict[str, Any]) -> Any:
        kind = node[TAG].removeprefix("torch.")
        if kind == "Size":
            return torch.Size(node["items"])
        if kind == "dtype":
            return torch_memory.dtype_of(node["name"])
        return torch.device(node["name"])

    def access(self, value: Any) -> StateAccess | None:
        if isinstance(value, torch.Generator):
            return value.get_state, value.set_state
        return _loader().access(value) if "torch.utils.data" in sys.modules else None

    def advice(self, value: Any) -> tuple[str, str] | None:
        return _loader().advice(value) if "torch.utils.data" in sys.modules else None

    def caution(self, owner: Any) -> str:
        found: str = _loader().caution(owner) if "torch.utils.data" in sys.modules else ""
        return found

    def watch_unattached(self) -> None:
        if "torch.utils.data" in sys.modules:
            _loader().watch_unattached()

    def unattached(self, attached: Collection[Any]) -> str:
        found: str = _loader().unattached(attached) if "torch.utils.data" in sys.modules else ""
        return found

    def aliased(self, owner: Any) -> Literal["no", "state", "whole"]:
        return torch_memory.aliased(owner)

    def beside(self, owner: Any, attached: Collection[Any]) -> Any:
        if not isinstance(owner, torch.nn.Module):
            return None
        return torch_modules.beside(owner, [each for each in attached if isinstance(each, torch.optim.Optimizer)])

    def put_back_beside(self, owner: Any, kept: Any) -> None:
        torch_modules.put_back(owner, kept)

    def differing_flags(self, owner: Any, kept: Any) -> list[str]:
        return torch_modules.differing_flags(owner, kept)

    def skeleton(self, owner: Any) -> Skeleton | None:
        return torch_modules.Skeleton(owner) if isinstance(owner, torch.nn.Module | torch.optim.Optimizer) else None

    def fit(self, owner: Any, node: dict[str, Any]) -> None:
        torch_modules.fit(owner, node)

    def materialise(self, owner: Any) -> None:
        if isinstance(owner, torch.nn.Module):
            torch_memory.materialise(owner)

    def rng_state(self) -> Any:
        # Asking for CUDA's state before the script uses CUDA would start CUDA, which takes memory and seconds.
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
        state = {"cpu": torch.get_rng_state(), "cuda": cuda}
        return state | {"xla": torch_xla.rng_state()} if torch_xla.is_started() else state

    def set_rng_state(self, state: Any) -> str | None:
        torch.set_rng_state(state["cpu"])
        here = torch.cuda.device_count() if state["cuda"] else 0
        for index, one in enumerate(state["cuda"][:here]):
            torch.cuda.set_rng_state(one, index)
        if len(state["cuda"]) != here:
            return f"the random generators of {len(state['cuda'])} CUDA devices were kept, this machine has {here}"
        if not torch_xla.set_rng_state(state.get("xla", [])):
            return (
                "the random generator of an XLA device was kept or is here, not both: it goes on otherwise than before"
            )
        return None

    def logged(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor) and value.numel() == 1:
            return value.detach().clone()  # cloned, because scripts add to a running loss in place
        return None

    def scalars(self, kept: Sequence[Any]) -> list[Scalar] | None:
        """One transfer for each device and dtype, however many values there are."""
        groups: dict[Any, list[int]] = defaultdict(list)
        for index, tensor in enumerate(kept):
            groups[tensor.device, tensor.dtype].append(index)
        found: list[Scalar] = [None] * len(kept)
        for (device, _), indices in groups.items():
            if device.type == torch_xla.TYPE:
                numbers = torch_xla.scalars([kept[index] for index in indices])
            else:
                numbers = torch.stack([kept[index].reshape(()) for index in indices]).tolist()
            for index, number in zip(indices, numbers, strict=True):
                found[index] = number
        return found

    def places_itself(self, owner: Any) -> bool:
        return isinstance(owner, torch.nn.Module)

    def is_device_oom(self, error: BaseException) -> bool:
        return isinstance(error, torch.cuda.OutOfMemoryError) or (
            torch_xla.is_started() and "RESOURCE_EXHAUSTED" in str(error)
        )

    def _keep_tensor(self, value: torch.Tensor, path: str) -> tuple[dict[str, Any], Leaf]:
        _refuse_unkeepable(value, path)
        row_major = torch_memory.is_row_major(value)
        if not row_major and _overlaps(value):
            words = "a tensor that overlaps itself cannot be kept in a checkpoint"
            raise RefusedError(path, words, "return tensor.contiguous()")
        dtype = _dtype_name(value.dtype)
        node: dict[str, Any] = {
            TAG: "torch.Parameter" if type(value) is torch.nn.Parameter else "torch.Tensor",
            "dtype": dtype,
            "shape": list(value.shape),
            "device": _device_name(value.device),
            "requires_grad": _wants_gradient(value),
        }
        if not row_major:
            node["strides"] = list(value.stride())
        stored = _STORED.get(dtype)
        item_bytes = value.element_size() if stored else 1
        size = value.numel() * value.element_size()
        shape = tuple(value.shape) if stored else (size,)
        place = (value.device, self.address(value), value.stride(), value.is_conj(), value.is_neg())
        identity = ("torch", shape, dtype, place) if size else None
        return node, Leaf(stored or "U8", shape, item_bytes, size, identity, self)


def _loader() -> Any:
    from supervisor.trainer.frameworks import torch_loader  # only for scripts that have data of torch's

    return torch_loader


@cache
def _device_name(device: torch.device) -> str:
    return str(device)


@cache
def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _wants_gradient(value: torch.Tensor) -> bool:
    """Say whether gradients gather in the tensor; of one with a history the value is kept, not the history."""
    return value.requires_grad and value.grad_fn is None


def _refuse_unkeepable(value: torch.Tensor, path: str) -> None:
    """Look at nothing that a tensor without memory, or with memory of another kind, does not have."""
    name = type(value).__name__
    if torch.nn.parameter.is_lazy(value):
        hint = "run the model once on a batch of the usual shape, before supervisor.attach()"
        raise RefusedError(path, f"an {name} has no shape yet: it cannot be kept in a checkpoint", hint)
    if type(value) not in {torch.Tensor, torch.nn.Parameter}:
        hint = (
            "return a plain tensor (for example .to_local())" if hasattr(value, "to_local") else
            "attach an object whose state_dict() returns plain tensors; restored values would not be of this class"
        )  # fmt: skip
        raise RefusedError(path, f"a {name} cannot be kept in a checkpoint", hint)
    if value.is_nested:
        hint = "return its parts from state_dict(), as tensor.unbind() gives them"
        raise RefusedError(path, "a nested tensor cannot be kept in a checkpoint", hint)
    if value.layout is not torch.strided or value.is_quantized or value.is_meta:
        what = "quantized" if value.is_quantized else "meta" if value.is_meta else "sparse"
        hint = "return dense tensors from state_dict()"
        if value.is_meta:
            hint = "a first start has no checkpoint to fill it from: build the model on a real device"
        raise RefusedError(path, f"a {what} tensor cannot be kept in a checkpoint", hint)


def _overlaps(value: torch.Tensor) -> bool:
    """Say whether two indices share memory in another way than by expand()."""
    reach = 0
    dims = sorted(
        (stride, size) for stride, size in zip(value.stride(), value.shape, strict=True) if size > 1 and stride
    )
    for stride, size in dims:
        if stride <= reach:
            return value.numel() > 0
        reach += stride * (size - 1)
    return False


class _Finished:
    """A target whose value is made of what was read."""

    def __init__(self, read: Target, finish: Any) -> None:
        self.room, self.took = read.room, read.took
        self._read, self._finish = read, finish

    def value(self) -> Any:
        self._read.value()
        return self._finish()


def _dressed(tensor: torch.Tensor, node: dict[str, Any]) -> torch.Tensor:
    if node[TAG] == "torch.Parameter":
        return torch.nn.Parameter(tensor, requires_grad=node["requires_grad"])
    return tensor.requires_grad_(node["requires_grad"]) if node["requires_grad"] else tensor
