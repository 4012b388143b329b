"""Skips steps after a rollback: advances the data past them and scales the learning rate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from supervisor.core.errors import SetupError
from supervisor.core.wire.messages import TrainerNote
from supervisor.trainer.steps.sampler import Order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from supervisor.core.wire.messages import Message

ROLLBACKS_KEY = (
    "rollbacks"  # key in a checkpoint's made_by: the rollbacks whose learning rate factor its state includes
)
_RATES = ("lr", "initial_lr", "max_lr", "min_lr")


class StepSkipper:
    """``rollbacks``: of each active rollback the session's name, the skipped indices and the learning rate factor.

    ``allow_most``: the user allows that most of the run is skipped.
    """

    def __init__(
        self,
        rollbacks: Iterable[tuple[str, range, float]],
        attached: Mapping[str, Any],
        send: Callable[[Message], None],
        *,
        allow_most: bool = False,
    ) -> None:
        self._allow_most = allow_most
        self._rollbacks, self._attached, self._send = tuple(rollbacks), dict(attached), send
        self._unskipped_reported = False
        self._immovable: set[str] = set()

    @property
    def active(self) -> bool:
        """There is at least one rollback."""
        return bool(self._rollbacks)

    def is_skipped(self, index: int) -> bool:
        """Return whether the step with this index is skipped."""
        return any(index in indices for _, indices, _ in self._rollbacks)

    def on_loop_start(self, step: int, total: int | None = None) -> None:
        """Report the steps that the loop will skip, and the data that can follow. ``step`` steps are done.

        Raises:
            SetupError: more than half of ``total`` steps would be skipped. A rollback record is a name in a folder, and any writer
                of the store can make one.
        """
        stop = math.inf if total is None else total
        ahead = _merged(range(max(step, each.start), int(min(each.stop, stop))) for _, each, _ in self._rollbacks)
        if not ahead:
            return
        message = " and ".join(f"steps {each.start:,} to {each.stop - 1:,}" for each in ahead)
        count = sum(each.stop - each.start for each in ahead)
        if total is not None and 2 * count > total and not self._allow_most:
            sessions = " and ".join(dict.fromkeys(name for name, indices, _ in self._rollbacks if indices.stop > step))
            raise SetupError(
                f"{count:,} of {total:,} steps would be left out ({message}), as rollback records of {sessions} say",
                "if that is right, start with --trust-store; if not, remove these rollback-… files from the store and start again",
            )
        named = [name for name, value in self._attached.items() if _can_skip(value)]
        data = f"{', '.join(named)} will be told" if named else (
            "what is drawn by the index of the step goes on behind them; no attached object can be told "
            "(skip_steps(count), or supervisor's Order), so data drawn one after the other would come again"
        )  # fmt: skip
        of = "" if total is None else f" ({count:,} of {total:,})"
        self._send(TrainerNote("info" if named else "warning", f"leaving out {message}{of}: {data}"))

    def advance_data(self, step: int) -> None:
        """Advance the attached data past the skipped step with this index."""
        for name, value in self._attached.items():
            if isinstance(value, Order):
                self._skip_samples(name, value, step)
            elif _can_skip(value):
                value.skip_steps(1)

    def on_unskipped(self, step: int) -> None:
        """Warn once that a loop repeated a step that it cannot skip."""
        if not self._unskipped_reported:
            message = f"step {step:,} was to be left out, but what drives this loop cannot do that: it was done again"
            self._send(TrainerNote("warning", message))
        self._unskipped_reported = True

    def scale_learning_rates(self, made_by: dict[str, str], restored: Mapping[str, str]) -> None:
        """Scale the learning rates for rollbacks that the ``restored`` state has not applied yet, and report it.

        Args:
            made_by: the record of the next checkpoints; the applied rollbacks are added, so that none is applied twice.
            restored: the record of the restored checkpoint.
        """
        known = restored.get(ROLLBACKS_KEY, "").split()
        new = [(name, rate) for name, _, rate in self._rollbacks if rate != 1.0 and name not in known]
        if known or new:
            made_by[ROLLBACKS_KEY] = " ".join([*known, *(name for name, _ in new)])
        for _, rate in new:
            changed = [name for name, value in self._attached.items() if scale_rates(value, rate)]
            if changed:
                self._send(
                    TrainerNote("info", f"learning rate of {', '.join(changed)} times {rate:g}, after the rollback")
                )
            else:
                self._send(TrainerNote("warning", "no attached object has a learning rate that can be made smaller"))

    def _skip_samples(self, name: str, order: Order, step: int) -> None:
        """Skip as many samples as each step has drawn so far."""
        if step and order.position % step == 0:
            order.skip(order.position // step)
        elif name not in self._immovable:
            self._immovable.add(name)
            known = f"{order.position:,} samples in {step:,} steps" if step else "no step has been done yet"
            message = f"{name} cannot leave out step {step:,}, because how many samples it draws is not known: {known}"
            self._send(TrainerNote("warning", message))


def scale_rates(value: Any, rate: float) -> bool:
    """Multiply the learning rate of an optimizer or scheduler; return whether it has one."""
    own = getattr(type(value), "scale_learning_rate", None)
    if callable(own):
        value.scale_learning_rate(rate)
        return True
    found = False
    groups = getattr(value, "param_groups", None)
    for group in groups if isinstance(groups, list) else ():
        for name in _RATES:
            if name in group:
                group[name] *= rate  # a tensor keeps its place: a compiled step reads it there
                found = True
    base = getattr(value, "base_lrs", None)
    if isinstance(base, list):
        base[:] = [each * rate for each in base]
        found = True
    for inner in getattr(value, "_schedulers", None) or ():
        found = scale_rates(inner, rate) or found
    for owner in () if found else (value, getattr(value, "optimizer", None)):
        variable: Any = getattr(owner, "learning_rate", None)
        if callable(getattr(variable, "assign", None)):
            variable.assign(variable * rate)  # Keras; where a schedule gives the rate there is nothing to assign to
            return True
    return found


def _merged(ranges: Iterable[range]) -> list[range]:
    merged: list[range] = []
    for each in sorted(filter(None, ranges), key=lambda each: each.start):
        if merged and each.start <= merged[-1].stop:
            merged[-1] = range(merged[-1].start, max(each.stop, merged[-1].stop))
        else:
            merged.append(each)
    return merged


def _can_skip(value: Any) -> bool:
    return isinstance(value, Order) or callable(getattr(type(value), "skip_steps", None))
