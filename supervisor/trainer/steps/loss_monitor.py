"""Detects anomalies in the logged losses: NaN or infinite values, and spikes.

A spike is a value over ``SPIKE_FACTOR`` times the median of the last ``SPIKE_WINDOW`` values of its name. At least
``SPIKE_VALUES_MIN`` values must be known. The median is used because one bad batch cannot move it. The factor is larger than
the scatter of healthy training; published loss spikes of large language models exceed it (PaLM, section 5.1; OPT, section
2.5). After a restart the window fills again, so that a judgement depends on the rows alone.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from typing import TYPE_CHECKING, Any

from supervisor.core.wire.messages import Anomaly

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

REPORTS_MAX = 10  # reports of one name: a value that is NaN now and then must not fill the store
SPIKE_FACTOR, SPIKE_WINDOW, SPIKE_VALUES_MIN = 20.0, 100, 50
SMALL_SHARE = 0.01  # of the largest median of a loss: what is under it is small however far it jumps


class LossMonitor:
    """Observes each row of the log once, in order. ``on_anomaly`` gets the first anomaly of each kind and name.

    After a finite value, the next NaN of the same name is reported again. ``sampled``: the values are single batches now and
    then, whose small losses scatter over orders of magnitude. A spike must then exceed all recent values, and must not be small
    beside the loss's largest median.
    """

    def __init__(self, names: Sequence[str], on_anomaly: Callable[[Anomaly], None], *, sampled: bool = False) -> None:
        self._names, self._on_anomaly, self._sampled = frozenset(names), on_anomaly, sampled
        self._recent: dict[str, _RecentValues] = {}
        self._reported: set[tuple[str, str]] = set()
        self._report_counts: dict[str, int] = {}
        self._last_good_step = self._last_step = -1

    def start_at(self, step: int) -> None:
        """Expect rows from the index ``step`` on.

        Only these rows can show whether the checkpoint at ``step`` is good.
        """
        self._last_good_step = self._last_step = step - 1

    def observe(self, step: int, values: Mapping[str, Any]) -> None:
        """Judge the row of the step with this index; ``values`` are numbers already."""
        if step <= self._last_step:
            return
        self._last_step = step
        numbers = [
            (name, value) for name, value in values.items() if type(value) in {float, int} and self._is_monitored(name)
        ]
        anomalies = [found for name, value in numbers if (found := self._anomaly_in(step, name, value)) is not None]
        if numbers and not anomalies:
            self._last_good_step = step
        self._rearm({name for name, value in numbers if math.isfinite(value)})
        for each in anomalies:
            if (each.kind, each.name) not in self._reported:
                self._reported.add((each.kind, each.name))
                self._on_anomaly(each)
                self._report_counts[each.name] = self._report_counts.get(each.name, 0) + 1

    def _rearm(self, finite: set[str]) -> None:
        """Allow another report for names that are finite again, up to ``REPORTS_MAX`` reports a name."""
        self._reported -= {("nan", name) for name in finite if self._report_counts.get(name, 0) < REPORTS_MAX}

    def _is_monitored(self, name: str) -> bool:
        return name in self._names if self._names else "loss" in name.lower()

    def _anomaly_in(self, step: int, name: str, value: float) -> Anomaly | None:
        if not math.isfinite(value):
            return Anomaly(step, name, str(value), "nan", self._last_good_step)
        recent = self._recent.setdefault(name, _RecentValues())
        is_noise = self._sampled and (value <= recent.largest or value <= SMALL_SHARE * recent.largest_median)
        spiked = recent.add(value) and not is_noise
        return Anomaly(step, name, f"{value:.4g}", "spike", self._last_good_step) if spiked else None


class _RecentValues:
    """The last values of one name, also sorted by size. ``largest_median``: the largest median so far."""

    def __init__(self) -> None:
        self._values: deque[float] = deque()
        self._ordered: list[float] = []
        self.largest_median = 0.0

    @property
    def largest(self) -> float:
        """The largest recent value."""
        return self._ordered[-1] if self._ordered else 0.0

    def add(self, value: float) -> bool:
        """Add the value; return whether it is a spike over the values before it."""
        seen = len(self._ordered)
        median = self._ordered[seen // 2] if seen >= SPIKE_VALUES_MIN else 0.0
        self.largest_median = max(self.largest_median, median)
        self._values.append(value)
        insort(self._ordered, value)
        if len(self._values) > SPIKE_WINDOW:
            del self._ordered[bisect_left(self._ordered, self._values.popleft())]
        return median > 0.0 and value > SPIKE_FACTOR * median
