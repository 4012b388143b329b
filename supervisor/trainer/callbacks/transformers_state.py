"""What a transformers Trainer holds beside model, optimizer and schedule: its progress and the states of its callbacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from supervisor.core.messages import Note

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from transformers import Trainer

# Of TrainerState what training makes; the rest follows from the arguments.
_FIELDS = (
    "epoch", "global_step", "num_input_tokens_seen", "total_flos", "best_metric", "best_global_step", "best_model_checkpoint",
)  # fmt: skip
_OF_TRAINER = (
    "_tr_loss", "_total_loss_scalar", "_globalstep_last_logged", "_initial_global_step",
    "_initial_num_input_tokens_seen", "current_flos",
)  # fmt: skip
_TIMES = ("_runtime", "_per_second")


def without_times(logs: dict[str, Any]) -> dict[str, Any]:
    """Return what was logged without how long it took: seconds are not part of the state, because no two runs have the same."""
    return {name: value for name, value in logs.items() if not name.endswith(_TIMES)}


class Progress:
    """Steps, epochs, history, best value, and the running loss that the next log line is made from."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer

    def state_dict(self) -> dict[str, Any]:
        """Return it as it is now."""
        state = self._trainer.state
        return {
            "state": {name: getattr(state, name) for name in _FIELDS},
            "history": [without_times(row) for row in state.log_history],
            "trainer": {name: getattr(self._trainer, name) for name in _OF_TRAINER},
        }

    def load_state_dict(self, kept: dict[str, Any]) -> None:
        """Put it back."""
        for name, value in kept["state"].items():
            setattr(self._trainer.state, name, value)
        self._trainer.state.log_history = kept["history"]
        for name, value in kept["trainer"].items():
            setattr(self._trainer, name, value)


class Callbacks:
    """The Trainer's control flags, and the state of every callback that has one (``state()``, or ``state_dict()``)."""

    def __init__(self, trainer: Trainer, say: Callable[[Note], None]) -> None:
        self._trainer, self._say = trainer, say

    def state_dict(self) -> dict[str, Any]:
        """Return the states in the order of the callbacks."""
        return {
            "control": dict(self._trainer.control.state()["args"]),
            "states": [[type(callback).__name__, _state_of(callback)] for callback in self._stateful()],
        }

    def load_state_dict(self, kept: dict[str, Any]) -> None:
        """Give each callback the state of the one with the same name and turn; say whose state has no owner any more."""
        for name, value in kept["control"].items():
            setattr(self._trainer.control, name, value)
        waiting = list(self._stateful())
        for name, state in kept["states"]:
            owner = next((each for each in waiting if type(each).__name__ == name), None)
            if owner is None:
                self._say(
                    Note("warning", f"the checkpoint has a state for {name}, which is no callback of this Trainer")
                )
                continue
            waiting.remove(owner)
            if _exports(owner):
                vars(owner).update(state)
            else:
                owner.load_state_dict(state)

    def _stateful(self) -> Iterator[Any]:
        for callback in self._trainer.callback_handler.callbacks:
            if _exports(callback) or callable(getattr(callback, "load_state_dict", None)):
                yield callback


def _exports(callback: Any) -> bool:
    return callable(getattr(callback, "state", None)) and callable(getattr(type(callback), "from_state", None))


def _state_of(callback: Any) -> Any:
    return callback.state()["attributes"] if _exports(callback) else callback.state_dict()
