"""What comes after the fit that the callback kept: another fit, or a loop of the script's own, which nothing keeps."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

import keras

from supervisor.core.messages import Note
from supervisor.trainer import life

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.trainer.life import Life

NOT_KEPT = (
    "is not kept, because supervisor.KerasCallback keeps one fit() of a script, and that one is over: after a death "
    "this part begins again; give it a script of its own"
)
_told: set[str] = set()
_kept_in: list[Life] = []  # the life whose fit the callback kept


def tell_of_more() -> None:
    """From now on, say so at the first call of each."""
    first, _kept_in[:] = not _told, [life.here()]
    _told.intersection_update({""})
    if first:
        _told.add("")
        told = keras.callbacks.CallbackList
        told.on_train_begin = _said_before(told.on_train_begin, "this fit()", _is_kept)
        model = keras.Model
        model.train_on_batch = _said_before(model.train_on_batch, "training by train_on_batch()", lambda _model: False)


def _said_before(method: Callable[..., Any], what: str, is_kept: Callable[[Any], bool]) -> Callable[..., Any]:
    @wraps(method)
    def says(self: Any, *given: Any, **named: Any) -> Any:
        if what not in _told and life.here() in _kept_in and not is_kept(self):
            _told.add(what)
            life.here().say(Note("warning", f"{what} {NOT_KEPT}"))
        return method(self, *given, **named)

    return says


def _is_kept(told: Any) -> bool:
    return any(type(each).__name__ == "KerasCallback" for each in told.callbacks)
