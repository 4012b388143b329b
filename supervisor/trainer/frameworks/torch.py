"""PyTorch: tensors with their dtype, shape and strides, Size, dtype and device, generators on the CPU and every CUDA device."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import torch

from supervisor.trainer.leaf import Leaf
from supervisor.trainer.refused import RefusedError
from supervisor.trainer.typed_json import TAG

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from supervisor.trainer.frameworks.framework import Scalar, StateAccess

_STORED = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
    "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8",
    "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip


class Torch:
    """The port's methods for this framework. State on accelerators is read when it is copied, not before."""

    name = "torch"

    def describe(self) -> tuple[str, str]:
        # A script that has not touched CUDA yet may not want it: asking for the name would start it.
        started = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        device = torch.cuda.get_device_name() if started else "cpu"
        return f"torch {torch.__version__}", device

    def keep(self, value: Any, path: str) -> tuple[dict[str, Any], Leaf | None] | None:
        if isinstance(value, torch.Tensor):
            return _keep_tensor(value, path)
        if isinstance(value, torch.Size):
            return {TAG: "torch.Size", "items": list(value)}, None
        if isinstance(value, torch.dtype):
            return {TAG: "torch.dtype", "name": _dtype_name(value)}, None
        if isinstance(value, torch.device):
            return {TAG: "torch.device", "name": str(value)}, None
        return None

    def give(self, node: dict[str, Any], parts: Sequence[memoryview], *, on_host: bool) -> Any:
        kind = node[TAG].removeprefix("torch.")
        if kind == "Size":
            return torch.Size(node["items"])
        if kind == "dtype":
            return getattr(torch, node["name"])
        if kind == "device":
            return torch.device(node["name"])
        tensor = _host_tensor(node, parts)
        if not on_host and node["device"] != "cpu":
            tensor = tensor.to(node["device"])
        if kind == "Parameter":
            return torch.nn.Parameter(tensor, requires_grad=node["requires_grad"])
        return tensor.requires_grad_(node["requires_grad"]) if node["requires_grad"] else tensor

    def access(self, value: Any) -> StateAccess | None:
        return (value.get_state, value.set_state) if isinstance(value, torch.Generator) else None

    def places_itself(self, value: Any) -> bool:
        return isinstance(value, torch.nn.Module | torch.optim.Optimizer)

    def rng_state(self) -> Any:
        # Asking for CUDA's state before the script uses CUDA would start CUDA, which takes memory and seconds.
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
        return {"cpu": torch.get_rng_state(), "cuda": cuda}

    def set_rng_state(self, state: Any) -> str | None:
        torch.set_rng_state(state["cpu"])
        here = torch.cuda.device_count() if state["cuda"] else 0
        for index, one in enumerate(state["cuda"][:here]):
            torch.cuda.set_rng_state(one, index)
        if len(state["cuda"]) != here:
            return f"the random generators of {len(state['cuda'])} CUDA devices were kept, this machine has {here}"
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
        for indices in groups.values():
            numbers = torch.stack([kept[index].reshape(()) for index in indices]).tolist()
            for index, number in zip(indices, numbers, strict=True):
                found[index] = number
        return found

    def is_device_oom(self, error: BaseException) -> bool:
        return isinstance(error, torch.cuda.OutOfMemoryError)


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _keep_tensor(value: torch.Tensor, path: str) -> tuple[dict[str, Any], Leaf]:
    _refuse_inexact(value, path)
    dtype = _dtype_name(value.dtype)
    node: dict[str, Any] = {
        TAG: "torch.Parameter" if type(value) is torch.nn.Parameter else "torch.Tensor",
        "dtype": dtype,
        "shape": list(value.shape),
        "device": str(value.device),
        "requires_grad": value.requires_grad,
    }
    if not value.is_contiguous() or value.stride() != _row_major(value.shape):
        node["strides"] = list(value.stride())
    source = value.detach().resolve_conj().resolve_neg()
    stored = _STORED.get(dtype)
    item_bytes = source.element_size() if stored else 1
    size = source.numel() * source.element_size()
    shape = tuple(source.shape) if stored else (size,)
    identity = ("torch", str(value.device), source.data_ptr(), shape, source.stride(), dtype) if size else None
    return node, Leaf(stored or "U8", shape, item_bytes, size, identity, _copier(source, item_bytes))


def _refuse_inexact(value: torch.Tensor, path: str) -> None:
    if type(value) not in {torch.Tensor, torch.nn.Parameter}:
        name = type(value).__name__
        raise RefusedError(
            path, f"a {name} cannot be kept in a checkpoint", "return a plain tensor (for example .to_local())"
        )
    if value.layout is not torch.strided or value.is_quantized or value.is_meta:
        what = "quantized" if value.is_quantized else "meta" if value.is_meta else "sparse"
        raise RefusedError(
            path, f"a {what} tensor cannot be kept in a checkpoint", "return dense tensors from state_dict()"
        )
    if value.grad_fn is not None:
        raise RefusedError(
            path, "a tensor inside the autograd graph cannot be kept in a checkpoint", "return tensor.detach()"
        )
    if _overlaps(value):
        raise RefusedError(
            path, "a tensor that overlaps itself cannot be kept in a checkpoint", "return tensor.contiguous()"
        )


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


def _row_major(shape: Sequence[int]) -> tuple[int, ...]:
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def _copier(source: torch.Tensor, item_bytes: int) -> Callable[[memoryview, int], None]:
    def copy_items(out: memoryview, first: int) -> None:
        if not out:
            return
        if first == 0 and len(out) == source.numel() * source.element_size():
            torch.frombuffer(out, dtype=source.dtype).view(source.shape).copy_(source)
            return
        begin = first * item_bytes
        raw = source.reshape(-1).view(torch.uint8)[begin : begin + len(out)]
        torch.frombuffer(out, dtype=torch.uint8).copy_(raw)

    return copy_items


def _host_tensor(node: dict[str, Any], parts: Sequence[memoryview]) -> torch.Tensor:
    """Return a tensor in memory of torch's own, because results may depend on how memory is aligned."""
    dtype, shape = getattr(torch, node["dtype"]), node["shape"]
    strides = node.get("strides", _row_major(shape))
    flat = torch.empty(shape, dtype=dtype).view(-1)
    raw, begin = flat.view(torch.uint8) if flat.numel() else flat, 0
    for part in parts:
        if part:
            raw[begin : begin + len(part)].copy_(torch.frombuffer(part, dtype=torch.uint8))
            begin += len(part)
    packed = flat.view(shape)
    if "strides" not in node:
        return packed
    narrow = packed
    for dim, stride in enumerate(strides):
        narrow = narrow.narrow(dim, 0, 1) if stride == 0 and shape[dim] > 1 else narrow
    return torch.empty_strided(narrow.shape, strides, dtype=dtype).copy_(narrow).as_strided(shape, strides)
