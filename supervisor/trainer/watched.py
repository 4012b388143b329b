"""Watches the logged losses for what shows that training has gone wrong: a value that is no number, or jumps far up.

A spike is a value over ``SPIKE_FACTOR`` times the median of the last ``SPIKE_WINDOW`` of its name, judged from
``SPIKE_SEEN_MIN`` of them on. The median, because one bad batch cannot move it; the factor, because batches of healthy
training scatter by less, and the spikes that papers on large language models tell of (PaLM, section 5.1; OPT, section 2.5)
multiply the loss before it. After a restart the window fills anew, so what is judged depends on the rows alone.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from typing import TYPE_CHECKING, Any

from supervisor.core.messages import Trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

TOLD_MAX = 10  # times that one name is told of: a value that is now and then no number must not fill the store
SPIKE_FACTOR, SPIKE_WINDOW, SPIKE_SEEN_MIN = 20.0, 100, 50
SMALL_SHARE = 0.01  # of the largest median of a loss: what is under it is small however far it jumps


class Watch:
    """Sees each row of the log once, in order. ``told`` hears the first trouble of each kind and name.

    Of a value that was a number again in between it hears anew.

    ``sampled``: what is seen are single batches now and then, whose losses scatter over orders of magnitude once they are
    small. A spike is then over all that was seen lately, too, and not small beside what the loss once was.
    """

    def __init__(self, names: Sequence[str], told: Callable[[Trouble], None], *, sampled: bool = False) -> None:
        self._names, self._told, self._sampled = frozenset(names), told, sampled
        self._recent: dict[str, _Recent] = {}
        self._known: set[tuple[str, str]] = set()
        self._times: dict[str, int] = {}
        self._fine = self._seen = -1

    def begins(self, step: int) -> None:
        """Rows come from the index ``step`` on: whether the checkpoint there is good, only they can tell."""
        self._fine = self._seen = step - 1

    def see(self, step: int, values: Mapping[str, Any]) -> None:
        """Look at the row of the step with this index; ``values`` are numbers already."""
        if step <= self._seen:
            return
        self._seen = step
        numbers = [(name, value) for name, value in values.items() if type(value) in {float, int} and self._is(name)]
        troubles = [found for name, value in numbers if (found := self._trouble(step, name, value)) is not None]
        if numbers and not troubles:
            self._fine = step
        self._over({name for name, value in numbers if math.isfinite(value)})
        for each in troubles:
            if (each.kind, each.name) not in self._known:
                self._known.add((each.kind, each.name))
                self._told(each)
                self._times[each.name] = self._times.get(each.name, 0) + 1

    def _over(self, finite: set[str]) -> None:
        """A value that is a number again may be told of once more, so many times at most."""
        self._known -= {("nan", name) for name in finite if self._times.get(name, 0) < TOLD_MAX}

    def _is(self, name: str) -> bool:
        return name in self._names if self._names else "loss" in name.lower()

    def _trouble(self, step: int, name: str, value: float) -> Trouble | None:
        if not math.isfinite(value):
            return Trouble(step, name, str(value), "nan", self._fine)
        recent = self._recent.setdefault(name, _Recent())
        noise = self._sampled and (value <= recent.largest or value <= SMALL_SHARE * recent.once)
        spiked = recent.takes(value) and not noise
        return Trouble(step, name, f"{value:.4g}", "spike", self._fine) if spiked else None


class _Recent:
    """The last values of one name, also in order of size. ``once``: the largest median that they ever had."""

    def __init__(self) -> None:
        self._values: deque[float] = deque()
        self._ordered: list[float] = []
        self.once = 0.0

    @property
    def largest(self) -> float:
        """The largest of them."""
        return self._ordered[-1] if self._ordered else 0.0

    def takes(self, value: float) -> bool:
        """Say whether the value is a spike over those before it, and count it among them."""
        seen = len(self._ordered)
        median = self._ordered[seen // 2] if seen >= SPIKE_SEEN_MIN else 0.0
        self.once = max(self.once, median)
        self._values.append(value)
        insort(self._ordered, value)
        if len(self._values) > SPIKE_WINDOW:
            del self._ordered[bisect_left(self._ordered, self._values.popleft())]
        return median > 0.0 and value > SPIKE_FACTOR * median
