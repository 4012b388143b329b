"""Plain torch: steps from the optimizers' hook, the loss from the begin of backward, files from ``torch.save``.

The loop never waits for the device here. One detached scalar of the loss is kept, and read when a heartbeat is due.
"""

from __future__ import annotations

import weakref
from functools import wraps
from typing import TYPE_CHECKING, Any

from supervisor.trainer.hooks.error_guard import guarded
from supervisor.trainer.hooks.save_tracker import track_saves
from supervisor.trainer.hooks.unmodified_script import LOSS
from supervisor.trainer.hooks.writer_functions import by_argument

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from supervisor.trainer.hooks.unmodified_script import UnmodifiedScript

IDLE_STEPS = 100  # of another optimizer: then the one that was counted is not what trains any more


def install(torch: ModuleType, script: UnmodifiedScript) -> None:
    """Track optimizers, backward, ``Module.eval``, ``torch.save`` and the functions that load a state."""
    from torch.optim.optimizer import register_optimizer_step_post_hook  # a part of torch, which is there

    register_optimizer_step_post_hook(_step_counter(script))
    torch.autograd.backward = _track_loss(torch, script)
    _track_eval(torch.nn.Module, script)
    _track_loads(torch, script)
    track_saves(script, torch, "save", by_argument("f"))
    torch.serialization.save = torch.save


def _step_counter(script: UnmodifiedScript) -> Callable[..., None]:
    """Return the hook. Several optimizers make one step of a loop, so that only the first one counts."""
    clock: Any = lambda: None  # noqa: E731  # as a dead reference
    others = 0

    def on_step(optimizer: Any, _given: Any, _named: Any) -> None:
        nonlocal clock, others
        if script.loop is not None:
            return
        if clock() is not optimizer:
            others += 1
            if clock() is not None and others < IDLE_STEPS:
                return
            clock = weakref.ref(optimizer)
        others = 0
        script.on_step()

    # As torch.compiler.disable does, which would import the compiler: what is counted while a graph is made never counts.
    hook = guarded(script, "optimizer.step()", on_step)
    hook._torchdynamo_disable = True  # type: ignore[attr-defined]  # noqa: SLF001
    return hook


def _track_loss(torch: ModuleType, script: UnmodifiedScript) -> Callable[..., Any]:
    """Return ``torch.autograd.backward`` with the loss recorded. ``Tensor.backward`` calls it, too.

    A scaled loss was recorded before its scaling.
    """
    backward = torch.autograd.backward
    tensor, compiling = torch.Tensor, torch.compiler.is_compiling
    scaled: list[weakref.ref[Any]] = []
    _track_unscaled_loss(torch, script, scaled)

    def store_loss(tensors: Any) -> None:
        if not compiling() and type(tensors) is tensor and script.loop is None and tensors.numel() == 1:
            if not script.training_started:
                script.on_training_start()
            if scaled and scaled.pop()() is tensors:
                scaled.clear()
            else:
                script.values[LOSS] = tensors.detach()

    guarded_store = guarded(script, "the loss in backward()", store_loss)

    @wraps(backward)
    def wrapper(tensors: Any, *args: Any, **kwargs: Any) -> Any:
        guarded_store(tensors)
        return backward(tensors, *args, **kwargs)

    return wrapper


def _track_unscaled_loss(torch: ModuleType, script: UnmodifiedScript, scaled: list[weakref.ref[Any]]) -> None:
    """Record the loss that a GradScaler gets. Its result is thousands of times larger, and may be infinite."""
    scaler = torch.amp.GradScaler if hasattr(torch.amp, "GradScaler") else torch.cuda.amp.GradScaler
    scale = scaler.scale

    def store_loss(outputs: Any, result: Any) -> None:
        if type(outputs) is torch.Tensor and script.loop is None and outputs.numel() == 1:
            script.values[LOSS] = outputs.detach()
            scaled[:] = [weakref.ref(result)]

    guarded_store = guarded(script, "the loss in GradScaler.scale()", store_loss)

    @wraps(scale)
    def wrapper(self: Any, outputs: Any) -> Any:
        result = scale(self, outputs)
        guarded_store(outputs, result)
        return result

    scaler.scale = wrapper


def _track_eval(module: Any, script: UnmodifiedScript) -> None:
    """Track ``model.eval()``, which a plain loop calls before validation.

    The next optimizer step ends the validation.
    """
    evaluate = module.eval

    @wraps(evaluate)
    def wrapper(self: Any) -> Any:
        if script.loop is None and script.sections.name == "step":
            script.enter("eval")
        return evaluate(self)

    module.eval = wrapper


def _track_loads(torch: ModuleType, script: UnmodifiedScript) -> None:
    """Record whether a network or an optimizer loads a state before training begins: by its method, or unpickled."""
    loads = script.loads = set[str]()
    module = torch.nn.Module

    def track(owner: Any, name: str, what: Callable[[Any], str]) -> None:
        function = getattr(owner, name)

        @wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            if not script.training_started:
                loads.update(filter(None, [what(result)]))
            return result

        setattr(owner, name, wrapper)

    def in_pickle(result: Any) -> str:
        held = result.values() if type(result) is dict else [result]
        return "network" if any(isinstance(each, module) for each in held) else ""

    track(module, "load_state_dict", lambda _: "network")
    track(torch.optim.Optimizer, "load_state_dict", lambda _: "optimizer")
    track(torch.jit, "load", lambda _: "network")
    track(torch, "load", in_pickle)
