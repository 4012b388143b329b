"""What a torch module has beside its state_dict(): gradients that no optimizer has used yet, and the flags of its parts.

And what a fresh process must have built for a checkpoint to fit: parameters and parameter groups. Buffers that a module
registers late, and strides that training changed, are given to the fresh module.
"""

from __future__ import annotations

import weakref
from functools import wraps
from typing import TYPE_CHECKING, Any

import torch

from supervisor.trainer import typed_json
from supervisor.trainer.frameworks import torch_memory
from supervisor.trainer.typed_json import TAG

if TYPE_CHECKING:
    from collections.abc import Iterable

    from supervisor.trainer.typed_json import Node

NAMES_MAX = 3


class _Counts:
    """How often backward ran in this process, and how often it had when each optimizer last stepped."""

    def __init__(self) -> None:
        self.backwards = 0
        self.stepped: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self.counting = False


_counts = _Counts()


def count() -> None:
    """Count from now on where gradients are made and where they are used. Once a process."""
    if _counts.counting:
        return
    _counts.counting = True
    from torch.optim.optimizer import register_optimizer_step_post_hook

    backward, compiling = torch.autograd.backward, torch.compiler.is_compiling

    @wraps(backward)
    def counted(*given: Any, **named: Any) -> Any:
        if not compiling():
            _counts.backwards += 1
        return backward(*given, **named)

    def stepped(optimizer: Any, _given: Any, _named: Any) -> None:
        _counts.stepped[optimizer] = _counts.backwards

    stepped._torchdynamo_disable = True  # type: ignore[attr-defined]  # noqa: SLF001  # as in hooks/torch.py
    torch.autograd.backward = counted
    register_optimizer_step_post_hook(stepped)


def beside(module: torch.nn.Module, attached: Iterable[torch.optim.Optimizer]) -> dict[str, Any]:
    """Return the flags that are not as usual, and the gradients that are open, by name."""
    count()
    frozen, evaluating, parameters = [], [], {}
    for path, part in module.named_modules():
        if not part.training:
            evaluating.append(path)
        for name, parameter in part._parameters.items():  # noqa: SLF001  # named_parameters() takes three times as long
            if parameter is not None:
                parameters[f"{path}.{name}" if path else name] = parameter
    frozen = [name for name, parameter in parameters.items() if not parameter.requires_grad]
    kept = {"frozen": frozen, "eval": evaluating}
    gradients = _open(parameters, attached) if _counts.backwards else {}
    return kept | {"gradients": gradients} if gradients else kept


def _open(
    parameters: dict[str, torch.nn.Parameter], attached: Iterable[torch.optim.Optimizer]
) -> dict[str, torch.Tensor]:
    """Return the gradients that an optimizer is still to use: backward ran since it last stepped."""
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


def put_back(module: torch.nn.Module, kept: dict[str, Any]) -> None:
    """Set flags and open gradients as they were."""
    frozen, evaluating = set(kept["frozen"]), set(kept["eval"])
    for name, part in module.named_modules():
        part.training = name not in evaluating
    gradients = kept.get("gradients", {})
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if parameter.requires_grad == (name in frozen):
            parameter.requires_grad_(name not in frozen)
        if name in gradients:
            parameter.grad = gradients[name].to(parameter.device)
    _counts.backwards += bool(gradients)


def differing_flags(module: torch.nn.Module, kept: dict[str, Any]) -> list[str]:
    """Return the names of the parameters that are frozen here and were not, or the other way round."""
    frozen = set(kept["frozen"])
    return [name for name, each in module.named_parameters() if each.requires_grad == (name in frozen)]


class Skeleton:
    """What of a module or optimizer a checkpoint must find in a fresh process."""

    def __init__(self, owner: Any) -> None:
        self._modules = {name for name, _ in owner.named_modules()} if isinstance(owner, torch.nn.Module) else set()
        self._parameters = _parameters(owner)
        self._groups = _groups(owner)

    def outgrown(self, owner: Any) -> str:
        """Return words on what the owner has that this skeleton lacks, or lacks that it has; "" for nothing."""
        groups = _groups(owner)
        if groups != self._groups:
            return f"it has {_sizes(groups)}, at attach() it had {_sizes(self._groups)}"
        new = sorted(_parameters(owner) - self._parameters)
        gone = sorted(self._parameters - _parameters(owner))
        if isinstance(owner, torch.nn.Module):
            buffers = (name for name, _ in owner.named_buffers())
            new += [name for name in buffers if name.rpartition(".")[0] not in self._modules]
        if new:
            return f"it has {_shown(new)}, which it did not have at attach()"
        return f"it has no longer {_shown(gone)}, which it had at attach()" if gone else ""


def _parameters(owner: Any) -> set[str]:
    return {name for name, _ in owner.named_parameters()} if isinstance(owner, torch.nn.Module) else set()


def _groups(owner: Any) -> list[int]:
    if not isinstance(owner, torch.optim.Optimizer):
        return []
    return [len(group["params"]) for group in owner.param_groups]


def _sizes(groups: list[int]) -> str:
    return f"{len(groups)} parameter group{'s' if len(groups) != 1 else ''} of {', '.join(map(str, groups))}"


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - NAMES_MAX} more" if len(names) > NAMES_MAX else ""
    return f"{', '.join(names[:NAMES_MAX])}{more}"


def fit(owner: Any, node: Node) -> None:
    """Give a fresh module the buffers that the checkpoint has and it lacks, and the strides where its own memory allows."""
    if not isinstance(owner, torch.nn.Module):
        return
    live = dict(owner.named_parameters(remove_duplicate=False)) | dict(owner.named_buffers(remove_duplicate=False))
    addresses = [each.data_ptr() for each in {id(each): each for each in live.values()}.values() if each.numel()]
    modules = dict(owner.named_modules(remove_duplicate=False))
    for name, kept in typed_json.children(node) or ():
        if not (isinstance(kept, dict) and kept.get(TAG) in {"torch.Tensor", "torch.Parameter"} and type(name) is str):
            continue
        path, _, last = name.rpartition(".")
        if name in live:
            if "strides" in kept and addresses.count(live[name].data_ptr()) == 1:
                _restride(live[name], kept)
        elif path in modules and kept[TAG] == "torch.Tensor":
            _register(modules[path], last, kept)


def _register(module: torch.nn.Module, name: str, kept: dict[str, Any]) -> None:
    if hasattr(module, name) and name not in module._buffers:  # noqa: SLF001  # a place that holds something else
        return
    reference = next(module.parameters(), None)
    device = reference.device if reference is not None and not reference.is_meta else "cpu"
    module.register_buffer(name, torch.empty(kept["shape"], dtype=torch_memory.dtype_of(kept["dtype"]), device=device))


def _restride(tensor: torch.Tensor, kept: dict[str, Any]) -> None:
    same = list(tensor.shape) == kept["shape"] and str(tensor.dtype) == f"torch.{kept['dtype']}"
    plain = tensor.layout is torch.strided and not tensor.is_meta and tensor._base is None  # noqa: SLF001  # no view
    whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size() if plain else False
    if same and whole and list(tensor.stride()) != kept["strides"] and 0 not in kept["strides"]:
        tensor.data = torch.empty_strided(kept["shape"], kept["strides"], dtype=tensor.dtype, device=tensor.device)
