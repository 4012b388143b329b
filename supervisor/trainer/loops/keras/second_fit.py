"""Training after the saved fit: another fit, or the script's own loop, which no checkpoint contains."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

import keras

from supervisor.core.wire.messages import TrainerNote
from supervisor.trainer import context as trainer_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.trainer.context import TrainerContext

NOT_KEPT = (
    "is not kept, because supervisor.KerasCallback keeps one fit() of a script, and that one is over: after a death "
    "this part begins again; give it a script of its own"
)
_warned: set[str] = set()
_finished_in: list[TrainerContext] = []  # the context whose fit was saved


def watch_for_more() -> None:
    """Warn at the first call of each from now on."""
    first, _finished_in[:] = not _warned, [trainer_context.current()]
    _warned.intersection_update({""})
    if first:
        _warned.add("")
        callback_list = keras.callbacks.CallbackList
        callback_list.on_train_begin = _warned_before(callback_list.on_train_begin, "this fit()", _is_kept)
        model = keras.Model
        model.train_on_batch = _warned_before(
            model.train_on_batch, "training by train_on_batch()", lambda _model: False
        )


def _warned_before(method: Callable[..., Any], what: str, is_kept: Callable[[Any], bool]) -> Callable[..., Any]:
    @wraps(method)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        if what not in _warned and trainer_context.current() in _finished_in and not is_kept(self):
            _warned.add(what)
            trainer_context.current().send(TrainerNote("warning", f"{what} {NOT_KEPT}"))
        return method(self, *args, **kwargs)

    return wrapper


def _is_kept(callback_list: Any) -> bool:
    return any(type(each).__name__ == "KerasCallback" for each in callback_list.callbacks)
