"""``--attach auto``: our own callback joins the framework's loop, so that a script that was not changed resumes exactly.

The callback is added when the loop is called, not when the framework is imported: only then its objects are there. The first
loop of a process gets it, because a run keeps one loop. Where the callback refuses (several processes, a loop that it does
not know), the reason is said and the script is watched as without the option.
"""

from __future__ import annotations

import sys
from functools import wraps
from typing import TYPE_CHECKING, Any

from supervisor.core.errors import UserError
from supervisor.core.messages import Note

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from supervisor.trainer.hooks.unattached import Unattached

CALLBACKS_BY_POSITION = 6  # fit(x, y, batch_size, epochs, verbose, callbacks)
ATTACHED = (
    "--attach auto: {} keeps this loop; model, optimizer, data order and callbacks resume in the middle of an epoch"
)


def into_keras(keras: ModuleType, script: Unattached) -> None:
    """Add ``KerasCallback`` to the callbacks of the first ``fit``."""
    fit = keras.Model.fit

    def join(model: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:  # noqa: ARG001  # as the others
        if len(given) >= CALLBACKS_BY_POSITION:
            raise UserError("fit() was given its callbacks by position", "name them: callbacks=[…]")
        callbacks = named.get("callbacks")
        if callbacks is not None and not isinstance(callbacks, list | tuple):
            raise UserError("fit() was given a CallbackList", "give it a list of callbacks")
        from supervisor.trainer.callbacks.keras import KerasCallback

        if any(isinstance(each, KerasCallback) for each in callbacks or ()):
            return
        named["callbacks"] = [*(callbacks or ()), KerasCallback()]
        _say(script, "KerasCallback")

    keras.Model.fit = _joined(script, fit, join)


def into_transformers(module: ModuleType, script: Unattached) -> None:
    """Add ``TransformersCallback`` in front of the callbacks of the first Trainer that trains."""

    def join(trainer: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        from supervisor.trainer.callbacks.transformers import TransformersCallback

        callbacks = trainer.callback_handler.callbacks
        if any(isinstance(each, TransformersCallback) for each in callbacks):
            return
        if any(given) or named.get("resume_from_checkpoint"):
            raise UserError("train() was told what to resume from", "call train() without arguments")
        callbacks.insert(0, TransformersCallback(trainer))
        _say(script, "TransformersCallback")

    module.Trainer.train = _joined(script, module.Trainer.train, join)


def into_lightning(module: ModuleType, script: Unattached) -> None:
    """Add ``LightningCallback`` to the Trainer of the first ``fit``."""

    def join(trainer: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:  # noqa: ARG001  # as the others
        from supervisor.trainer.callbacks.lightning import LightningCallback, refuse_what_cannot_be_kept

        if any(isinstance(each, LightningCallback) for each in trainer.callbacks):
            return
        if named.get("ckpt_path"):
            raise UserError("fit() was told what to resume from", "call fit() without ckpt_path")
        refuse_what_cannot_be_kept(trainer)
        trainer.callbacks.insert(0, LightningCallback())
        _say(script, "LightningCallback")

    module.Trainer.fit = _joined(script, module.Trainer.fit, join)


def _joined(script: Unattached, loop: Callable[..., Any], join: Callable[..., None]) -> Callable[..., Any]:
    """Return the framework's function with ``join`` before its first call. Whatever join raises, the loop is called."""

    @wraps(loop)
    def joined(self: Any, *given: Any, **named: Any) -> Any:
        if script.attaches and not script.silent:
            script.attaches = False
            try:
                join(self, given, named)
            except UserError as error:
                _say_not(script, f"{error.what}; {error.hint}")
            except Exception as error:  # noqa: BLE001  # the script is right without us
                _say_not(script, f"{type(error).__name__}: {error}".partition("\n")[0])
        return loop(self, *given, **named)

    return joined


def _say(script: Unattached, name: str) -> None:
    script.say(Note("info", ATTACHED.format(name)))


def _say_not(script: Unattached, why: str) -> None:
    script.say(Note("warning", f"--attach auto: this loop cannot be kept ({why}); the files that it saves are kept"))


def unused(script: Unattached) -> None:
    """Say at the end of a script that asked for it that no loop was found."""
    frameworks = {"keras", "transformers.trainer", "lightning.pytorch", "pytorch_lightning"} & sys.modules.keys()
    if script.attaches and not script.silent:
        found = f"it never called the loop of {', '.join(sorted(frameworks))}" if frameworks else "it has no such loop"
        script.say(Note("warning", f"--attach auto joins Keras, transformers and Lightning: {found}"))
