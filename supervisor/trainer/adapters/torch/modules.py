"""A torch module's extra state beside its state_dict(): unused gradients and flags; and the structure that a checkpoint needs.

A fresh process must build the same parameters and parameter groups. Buffers that a module registers late, and strides that
training changed, are added to the fresh module.
"""

from __future__ import annotations

import weakref
from functools import wraps
from typing import TYPE_CHECKING, Any

import torch

from supervisor.trainer.adapters.torch import memory as torch_memory
from supervisor.trainer.state import typed_json
from supervisor.trainer.state.typed_json import TAG

if TYPE_CHECKING:
    from collections.abc import Iterable

    from supervisor.trainer.state.typed_json import Node

NAMES_MAX = 3


class _BackwardCounts:
    """The number of backward calls in this process, and that number at each optimizer's last step."""

    def __init__(self) -> None:
        self.backwards = 0
        self.stepped: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self.counting = False


_counts = _BackwardCounts()


def count_backwards() -> None:
    """Count backward calls and optimizer steps from now on. Once a process."""
    if _counts.counting:
        return
    _counts.counting = True
    from torch.optim.optimizer import register_optimizer_step_post_hook

    backward, compiling = torch.autograd.backward, torch.compiler.is_compiling

    @wraps(backward)
    def counted(*args: Any, **kwargs: Any) -> Any:
        if not compiling():
            _counts.backwards += 1
        return backward(*args, **kwargs)

    def stepped(optimizer: Any, _given: Any, _named: Any) -> None:
        _counts.stepped[optimizer] = _counts.backwards

    stepped._torchdynamo_disable = True  # type: ignore[attr-defined]  # noqa: SLF001  # as in hooks/torch.py
    torch.autograd.backward = counted
    register_optimizer_step_post_hook(stepped)


def extra_state(module: torch.nn.Module, attached: Iterable[torch.optim.Optimizer]) -> dict[str, Any]:
    """Return unusual flags, and gradients that no optimizer has used, by name."""
    count_backwards()
    frozen, evaluating, parameters = [], [], {}
    for path, part in module.named_modules():
        if not part.training:
            evaluating.append(path)
        for name, parameter in part._parameters.items():  # noqa: SLF001  # named_parameters() takes three times as long
            if parameter is not None:
                parameters[f"{path}.{name}" if path else name] = parameter
    frozen = [name for name, parameter in parameters.items() if not parameter.requires_grad]
    stored = {"frozen": frozen, "eval": evaluating}
    gradients = _open_gradients(parameters, attached) if _counts.backwards else {}
    return stored | {"gradients": gradients} if gradients else stored


def _open_gradients(
    parameters: dict[str, torch.nn.Parameter], attached: Iterable[torch.optim.Optimizer]
) -> dict[str, torch.Tensor]:
    """Return the gradients that an optimizer has not used yet: backward ran since its last step."""
    known = dict.fromkeys(attached, 0) | dict(_counts.stepped)
    if known and min(known.values()) == _counts.backwards:
        return {}
    of = [(at, parameter) for each, at in known.items() for group in each.param_groups for parameter in group["params"]]
    waiting = {id(parameter) for at, parameter in of if at < _counts.backwards} if of else None
    return {
        name: parameter.grad.detach()
        for name, parameter in parameters.items()
        if (waiting is None or id(parameter) in waiting) and parameter.grad is not None
    }


def restore_extra_state(module: torch.nn.Module, stored: dict[str, Any]) -> None:
    """Restore flags and unused gradients."""
    frozen, evaluating = set(stored["frozen"]), set(stored["eval"])
    for name, part in module.named_modules():
        part.training = name not in evaluating
    gradients = stored.get("gradients", {})
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if parameter.requires_grad == (name in frozen):
            parameter.requires_grad_(name not in frozen)
        if name in gradients:
            parameter.grad = gradients[name].to(parameter.device)
    _counts.backwards += bool(gradients)


def differing_flags(module: torch.nn.Module, stored: dict[str, Any]) -> list[str]:
    """Return the names of parameters whose ``requires_grad`` differs from the checkpoint's."""
    frozen = set(stored["frozen"])
    return [name for name, each in module.named_parameters() if each.requires_grad == (name in frozen)]


class TorchSkeleton:
    """The structure of a module or optimizer that a checkpoint needs in a fresh process."""

    def __init__(self, owner: Any) -> None:
        self._modules = {name for name, _ in owner.named_modules()} if isinstance(owner, torch.nn.Module) else set()
        self._parameters = _parameters(owner)
        self._groups = _groups(owner)

    def changes(self, owner: Any) -> str:
        """Return a message on added or removed parts of the owner; "" if there are none."""
        groups = _groups(owner)
        if groups != self._groups:
            return f"it has {_describe_groups(groups)}, at attach() it had {_describe_groups(self._groups)}"
        new = sorted(_parameters(owner) - self._parameters)
        gone = sorted(self._parameters - _parameters(owner))
        if isinstance(owner, torch.nn.Module):
            buffers = (name for name, _ in owner.named_buffers())
            new += [name for name in buffers if name.rpartition(".")[0] not in self._modules]
        if new:
            return f"it has {_shortened(new)}, which it did not have at attach()"
        return f"it has no longer {_shortened(gone)}, which it had at attach()" if gone else ""


def _parameters(owner: Any) -> set[str]:
    return {name for name, _ in owner.named_parameters()} if isinstance(owner, torch.nn.Module) else set()


def _groups(owner: Any) -> list[int]:
    if not isinstance(owner, torch.optim.Optimizer):
        return []
    return [len(group["params"]) for group in owner.param_groups]


def _describe_groups(groups: list[int]) -> str:
    return f"{len(groups)} parameter group{'s' if len(groups) != 1 else ''} of {', '.join(map(str, groups))}"


def _shortened(names: list[str]) -> str:
    more = f" and {len(names) - NAMES_MAX} more" if len(names) > NAMES_MAX else ""
    return f"{', '.join(names[:NAMES_MAX])}{more}"


def adapt_structure(owner: Any, node: Node) -> None:
    """Add the checkpoint's missing buffers to a fresh module, and its strides where the module's own memory allows."""
    if not isinstance(owner, torch.nn.Module):
        return
    live = dict(owner.named_parameters(remove_duplicate=False)) | dict(owner.named_buffers(remove_duplicate=False))
    addresses = [each.data_ptr() for each in {id(each): each for each in live.values()}.values() if each.numel()]
    modules = dict(owner.named_modules(remove_duplicate=False))
    for name, stored in typed_json.children(node) or ():
        if not (
            isinstance(stored, dict) and stored.get(TAG) in {"torch.Tensor", "torch.Parameter"} and type(name) is str
        ):
            continue
        path, _, last = name.rpartition(".")
        if name in live:
            if "strides" in stored and addresses.count(live[name].data_ptr()) == 1:
                _restride(live[name], stored)
        elif path in modules and stored[TAG] == "torch.Tensor":
            _register(modules[path], last, stored)


def _register(module: torch.nn.Module, name: str, stored: dict[str, Any]) -> None:
    if hasattr(module, name) and name not in module._buffers:  # noqa: SLF001  # a place that holds something else
        return
    reference = next(module.parameters(), None)
    device = reference.device if reference is not None and not reference.is_meta else "cpu"
    module.register_buffer(
        name, torch.empty(stored["shape"], dtype=torch_memory.dtype_of(stored["dtype"]), device=device)
    )


def _restride(tensor: torch.Tensor, stored: dict[str, Any]) -> None:
    same = list(tensor.shape) == stored["shape"] and str(tensor.dtype) == f"torch.{stored['dtype']}"
    plain = tensor.layout is torch.strided and not tensor.is_meta and tensor._base is None  # noqa: SLF001  # no view
    whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size() if plain else False
    if same and whole and list(tensor.stride()) != stored["strides"] and 0 not in stored["strides"]:
        tensor.data = torch.empty_strided(stored["shape"], stored["strides"], dtype=tensor.dtype, device=tensor.device)
