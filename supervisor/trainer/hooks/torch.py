"""Plain torch: steps from the optimizers' own hook, the loss from where backward begins, files from ``torch.save``.

The loop never waits for the device here: of the loss one detached scalar is kept, and looked at when a beat is due.
"""

from __future__ import annotations

import weakref
from functools import wraps
from typing import TYPE_CHECKING, Any

from supervisor.trainer.hooks.guard import guarded
from supervisor.trainer.hooks.saves import tell_after
from supervisor.trainer.hooks.unattached import LOSS
from supervisor.trainer.hooks.writers import by_argument

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from supervisor.trainer.hooks.unattached import Unattached

IDLE_STEPS = 100  # of another optimizer: then the one that was counted is not what trains any more


def install(torch: ModuleType, script: Unattached) -> None:
    """Follow optimizers, backward, ``Module.eval``, ``torch.save`` and what loads a state."""
    from torch.optim.optimizer import register_optimizer_step_post_hook  # a part of torch, which is there

    register_optimizer_step_post_hook(_counting(script))
    torch.autograd.backward = _keeping_loss(torch, script)
    _follow_eval(torch.nn.Module, script)
    _follow_loading(torch, script)
    tell_after(script, torch, "save", by_argument("f"))
    torch.serialization.save = torch.save


def _counting(script: Unattached) -> Callable[..., None]:
    """Return the hook: several optimizers make one step of a loop, so that the first one is the clock."""
    clock: Any = lambda: None  # noqa: E731  # as a dead reference
    others = 0

    def stepped(optimizer: Any, _given: Any, _named: Any) -> None:
        nonlocal clock, others
        if script.driver is not None:
            return
        if clock() is not optimizer:
            others += 1
            if clock() is not None and others < IDLE_STEPS:
                return
            clock = weakref.ref(optimizer)
        others = 0
        script.stepped()

    # As torch.compiler.disable does, which would import the compiler: what is counted while a graph is made never counts.
    hook = guarded(script, "optimizer.step()", stepped)
    hook._torchdynamo_disable = True  # type: ignore[attr-defined]  # noqa: SLF001
    return hook


def _keeping_loss(torch: ModuleType, script: Unattached) -> Callable[..., Any]:
    """Return ``torch.autograd.backward``, to which ``Tensor.backward`` comes too. A scaled loss was kept before scaling."""
    backward = torch.autograd.backward
    tensor, compiling = torch.Tensor, torch.compiler.is_compiling
    scaled: list[weakref.ref[Any]] = []
    _before_scaling(torch, script, scaled)

    def keep(tensors: Any) -> None:
        if not compiling() and type(tensors) is tensor and script.driver is None and tensors.numel() == 1:
            if not script.began:
                script.begins()
            if scaled and scaled.pop()() is tensors:
                scaled.clear()
            else:
                script.values[LOSS] = tensors.detach()

    kept = guarded(script, "the loss in backward()", keep)

    @wraps(backward)
    def keeps_loss(tensors: Any, *given: Any, **named: Any) -> Any:
        kept(tensors)
        return backward(tensors, *given, **named)

    return keeps_loss


def _before_scaling(torch: ModuleType, script: Unattached, scaled: list[weakref.ref[Any]]) -> None:
    """Keep the loss that a GradScaler is given: what comes out is thousands of times larger, and may be infinite."""
    scaler = torch.amp.GradScaler if hasattr(torch.amp, "GradScaler") else torch.cuda.amp.GradScaler
    scale = scaler.scale

    def keep(outputs: Any, result: Any) -> None:
        if type(outputs) is torch.Tensor and script.driver is None and outputs.numel() == 1:
            script.values[LOSS] = outputs.detach()
            scaled[:] = [weakref.ref(result)]

    kept = guarded(script, "the loss in GradScaler.scale()", keep)

    @wraps(scale)
    def keeps_loss(self: Any, outputs: Any) -> Any:
        result = scale(self, outputs)
        kept(outputs, result)
        return result

    scaler.scale = keeps_loss


def _follow_eval(module: Any, script: Unattached) -> None:
    """A plain loop calls ``model.eval()`` before it validates; the next optimizer step says that it trains again."""
    evaluate = module.eval

    @wraps(evaluate)
    def enters_eval(self: Any) -> Any:
        if script.driver is None and script.sections.name == "step":
            script.enter("eval")
        return evaluate(self)

    module.eval = enters_eval


def _follow_loading(torch: ModuleType, script: Unattached) -> None:
    """Note whether a network or an optimizer loads a state before training begins: by its method, or unpickled whole."""
    loads = script.loads = set[str]()
    module = torch.nn.Module

    def noting(owner: Any, name: str, what: Callable[[Any], str]) -> None:
        function = getattr(owner, name)

        @wraps(function)
        def notes(*given: Any, **named: Any) -> Any:
            result = function(*given, **named)
            if not script.began:
                loads.update(filter(None, [what(result)]))
            return result

        setattr(owner, name, notes)

    def in_pickle(result: Any) -> str:
        held = result.values() if type(result) is dict else [result]
        return "network" if any(isinstance(each, module) for each in held) else ""

    noting(module, "load_state_dict", lambda _: "network")
    noting(torch.optim.Optimizer, "load_state_dict", lambda _: "optimizer")
    noting(torch.jit, "load", lambda _: "network")
    noting(torch, "load", in_pickle)
