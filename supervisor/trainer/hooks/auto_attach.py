"""``--attach auto``: our callback joins the framework's loop, so that an unmodified script resumes exactly.

The callback is added when the loop is called, not when the framework is imported, because its objects exist only then. The
first loop of a process gets it, because a run has one loop. If the callback rejects the loop (several processes, an unknown
version), the reason is reported, and the script is hooked as without the option.
"""

from __future__ import annotations

import sys
from functools import wraps
from typing import TYPE_CHECKING, Any

from supervisor.core.errors import UserError
from supervisor.core.wire.messages import TrainerNote

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from supervisor.trainer.hooks.unmodified_script import UnmodifiedScript

CALLBACKS_BY_POSITION = 6  # fit(x, y, batch_size, epochs, verbose, callbacks)
ATTACHED = (
    "--attach auto: {} keeps this loop; model, optimizer, data order and callbacks resume in the middle of an epoch"
)


def join_keras(keras: ModuleType, script: UnmodifiedScript) -> None:
    """Add ``KerasCallback`` to the callbacks of the first ``fit``."""
    fit = keras.Model.fit

    def join(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:  # noqa: ARG001  # as the others
        if len(args) >= CALLBACKS_BY_POSITION:
            raise UserError("fit() was given its callbacks by position", "name them: callbacks=[…]")
        callbacks = kwargs.get("callbacks")
        if callbacks is not None and not isinstance(callbacks, list | tuple):
            raise UserError("fit() was given a CallbackList", "give it a list of callbacks")
        from supervisor.trainer.loops.keras.callback import KerasCallback

        if any(isinstance(each, KerasCallback) for each in callbacks or ()):
            return
        kwargs["callbacks"] = [*(callbacks or ()), KerasCallback()]
        _note_joined(script, "KerasCallback")

    keras.Model.fit = _joined(script, fit, join)


def join_transformers(module: ModuleType, script: UnmodifiedScript) -> None:
    """Add ``TransformersCallback`` in front of the callbacks of the first Trainer that trains."""

    def join(trainer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        from supervisor.trainer.loops.transformers.callback import TransformersCallback

        callbacks = trainer.callback_handler.callbacks
        if any(isinstance(each, TransformersCallback) for each in callbacks):
            return
        if any(args) or kwargs.get("resume_from_checkpoint"):
            raise UserError("train() was told what to resume from", "call train() without arguments")
        callbacks.insert(0, TransformersCallback(trainer))
        _note_joined(script, "TransformersCallback")

    module.Trainer.train = _joined(script, module.Trainer.train, join)


def join_lightning(module: ModuleType, script: UnmodifiedScript) -> None:
    """Add ``LightningCallback`` to the Trainer of the first ``fit``."""

    def join(trainer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:  # noqa: ARG001  # as the others
        from supervisor.trainer.loops.lightning.callback import LightningCallback, require_supported

        if any(isinstance(each, LightningCallback) for each in trainer.callbacks):
            return
        if kwargs.get("ckpt_path"):
            raise UserError("fit() was told what to resume from", "call fit() without ckpt_path")
        require_supported(trainer)
        trainer.callbacks.insert(0, LightningCallback())
        _note_joined(script, "LightningCallback")

    module.Trainer.fit = _joined(script, module.Trainer.fit, join)


def _joined(script: UnmodifiedScript, loop: Callable[..., Any], join: Callable[..., None]) -> Callable[..., Any]:
    """Return the framework's function with ``join`` before its first call.

    The loop is called even if ``join`` raises.
    """

    @wraps(loop)
    def joined(self: Any, *args: Any, **kwargs: Any) -> Any:
        if script.auto_attach and not script.silent:
            script.auto_attach = False
            try:
                join(self, args, kwargs)
            except UserError as error:
                _warn_not_joined(script, f"{error.what}; {error.hint}")
            except Exception as error:  # noqa: BLE001  # the script is right without us
                _warn_not_joined(script, f"{type(error).__name__}: {error}".partition("\n")[0])
        return loop(self, *args, **kwargs)

    return joined


def _note_joined(script: UnmodifiedScript, name: str) -> None:
    script.send(TrainerNote("info", ATTACHED.format(name)))


def _warn_not_joined(script: UnmodifiedScript, why: str) -> None:
    script.send(
        TrainerNote("warning", f"--attach auto: this loop cannot be kept ({why}); the files that it saves are kept")
    )


def warn_if_unused(script: UnmodifiedScript) -> None:
    """Warn at the end of a script with this option that no loop was found."""
    frameworks = {"keras", "transformers.trainer", "lightning.pytorch", "pytorch_lightning"} & sys.modules.keys()
    if script.auto_attach and not script.silent:
        found = f"it never called the loop of {', '.join(sorted(frameworks))}" if frameworks else "it has no such loop"
        script.send(TrainerNote("warning", f"--attach auto joins Keras, transformers and Lightning: {found}"))
