"""After a rollback: which steps are passed over, who is told so that the data go on behind them, and the smaller rate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from supervisor.core.errors import SetupError
from supervisor.core.messages import Note
from supervisor.trainer.order import Order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from supervisor.core.messages import Message

MADE_BY = "rollbacks"  # key of what a checkpoint says of its maker: whose smaller rates its state has already
_RATES = ("lr", "initial_lr", "max_lr", "min_lr")


class Passing:
    """``rolled``: of each rollback that holds, the name of its session, the indices to pass over, the rate.

    ``most``: a person says that most of the run may be passed over.
    """

    def __init__(
        self,
        rolled: Iterable[tuple[str, range, float]],
        attached: Mapping[str, Any],
        say: Callable[[Message], None],
        *,
        most: bool = False,
    ) -> None:
        self._most = most
        self._rolled, self._attached, self._say = tuple(rolled), dict(attached), say
        self._done_again = False
        self._stuck: set[str] = set()

    @property
    def any(self) -> bool:
        """Whether there is anything to heed at all."""
        return bool(self._rolled)

    def skips(self, index: int) -> bool:
        """Say whether the step with this index is passed over."""
        return any(index in indices for _, indices, _ in self._rolled)

    def begins(self, step: int, total: int | None = None) -> None:
        """The loop begins at ``step``: say what it will pass over, and what of the data can be.

        Raises SetupError where most of the ``total`` steps would be left out: that is no training, and a record of a
        rollback is a name in a folder, which anybody who writes into the store can make.
        """
        stop = math.inf if total is None else total
        ahead = _united(range(max(step, each.start), int(min(each.stop, stop))) for _, each, _ in self._rolled)
        if not ahead:
            return
        words = " and ".join(f"steps {each.start:,} to {each.stop - 1:,}" for each in ahead)
        count = sum(each.stop - each.start for each in ahead)
        if total is not None and 2 * count > total and not self._most:
            sessions = " and ".join(dict.fromkeys(name for name, indices, _ in self._rolled if indices.stop > step))
            raise SetupError(
                f"{count:,} of {total:,} steps would be left out ({words}), as rollback records of {sessions} say",
                "if that is right, start with --trust-store; if not, remove these rollback-… files from the store and start again",
            )
        named = [name for name, value in self._attached.items() if _follows(value)]
        data = f"{', '.join(named)} will be told" if named else (
            "what is drawn by the index of the step goes on behind them; no attached object can be told "
            "(skip_steps(count), or supervisor's Order), so data drawn one after the other would come again"
        )  # fmt: skip
        of = "" if total is None else f" ({count:,} of {total:,})"
        self._say(Note("info" if named else "warning", f"leaving out {words}{of}: {data}"))

    def tell(self, step: int) -> None:
        """The step with the index ``step`` is passed over: have the data go on behind it."""
        for name, value in self._attached.items():
            if isinstance(value, Order):
                self._move(name, value, step)
            elif _follows(value):
                value.skip_steps(1)

    def missed(self, step: int) -> None:
        """A loop that cannot leave out steps has done one again that was to be passed over."""
        if not self._done_again:
            words = f"step {step:,} was to be left out, but what drives this loop cannot do that: it was done again"
            self._say(Note("warning", words))
        self._done_again = True

    def slow_down(self, made_by: dict[str, str], restored: Mapping[str, str]) -> None:
        """Multiply the learning rates for those rollbacks whose rate the ``restored`` state does not have; say so.

        ``made_by``: what the next checkpoints will say, so that nobody does it twice.
        """
        known = restored.get(MADE_BY, "").split()
        new = [(name, rate) for name, _, rate in self._rolled if rate != 1.0 and name not in known]
        if known or new:
            made_by[MADE_BY] = " ".join([*known, *(name for name, _ in new)])
        for _, rate in new:
            changed = [name for name, value in self._attached.items() if multiply(value, rate)]
            if changed:
                self._say(Note("info", f"learning rate of {', '.join(changed)} times {rate:g}, after the rollback"))
            else:
                self._say(Note("warning", "no attached object has a learning rate that can be made smaller"))

    def _move(self, name: str, order: Order, step: int) -> None:
        """As many samples as each step so far has drawn."""
        if step and order.position % step == 0:
            order.skip(order.position // step)
        elif name not in self._stuck:
            self._stuck.add(name)
            known = f"{order.position:,} samples in {step:,} steps" if step else "no step has been done yet"
            words = f"{name} cannot leave out step {step:,}, because how many samples it draws is not known: {known}"
            self._say(Note("warning", words))


def multiply(value: Any, rate: float) -> bool:
    """Multiply the learning rate of an optimizer or scheduler; say whether it had one that could be."""
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
        found = multiply(inner, rate) or found
    for owner in () if found else (value, getattr(value, "optimizer", None)):
        variable: Any = getattr(owner, "learning_rate", None)
        if callable(getattr(variable, "assign", None)):
            variable.assign(variable * rate)  # Keras; where a schedule gives the rate there is nothing to assign to
            return True
    return found


def _united(ranges: Iterable[range]) -> list[range]:
    united: list[range] = []
    for each in sorted(filter(None, ranges), key=lambda each: each.start):
        if united and each.start <= united[-1].stop:
            united[-1] = range(united[-1].start, max(each.stop, united[-1].stop))
        else:
            united.append(each)
    return united


def _follows(value: Any) -> bool:
    return isinstance(value, Order) or callable(getattr(type(value), "skip_steps", None))
