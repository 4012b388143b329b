"""Reports the progress of one training process: sections, heartbeats that bring news, and anomalies of the loss.

``Run`` uses it for a script that calls attach(), ``UnmodifiedScript`` for a script that does not. The training loop enters
sections and observes values. The channel's thread asks for heartbeats.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from supervisor.core.wire.messages import Anomaly, TrainerNote
from supervisor.trainer.steps.loss_monitor import LossMonitor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from supervisor.trainer.clock import Clock
    from supervisor.trainer.context import TrainerContext
    from supervisor.trainer.steps.section_timer import SectionTimer

WAKE_INTERVAL_S = 0.05


class ProgressMonitor:
    """``anomaly_handled``: the supervisor decides on an anomaly, so nothing more may be saved.

    Args of the constructor:
        context: sends the messages and wakes the channel's thread.
        sections: the timer of the loop's sections.
        sampled: the observed losses are single batches now and then, as ``LossMonitor`` describes.
    """

    def __init__(self, context: TrainerContext, sections: SectionTimer, clock: Clock, *, sampled: bool = False) -> None:
        self.anomaly_handled = False
        self._context = context
        self._sections = sections
        self._clock = clock
        self._loss_monitor = LossMonitor(context.settings.anomalies.loss_names, self._on_anomaly, sampled=sampled)
        self._nonfinite_names: set[str] = set()
        self._last_wake_s = -math.inf
        self._last_heartbeat: tuple[int, str] | None = None

    def start_at(self, step: int) -> None:
        """Rows come from the index ``step`` on."""
        self._loss_monitor.start_at(step)

    def observe(self, step: int, values: Mapping[str, Any]) -> None:
        """Judge the losses among the values of the step with this index."""
        self._loss_monitor.observe(step, values)

    def warn_nonfinite(self, step: int, name: str, value: object) -> None:
        """Warn once of each name with a value that is not finite, unless the supervisor reports the anomaly itself."""
        if name not in self._nonfinite_names and not self.anomaly_handled:
            self._nonfinite_names.add(name)
            self._context.send(TrainerNote("warning", f"{name} is {value} at step {step}"))

    def rearm_nonfinite(self, name: str) -> None:
        """The value is finite again: the next one that is not is a new warning."""
        self._nonfinite_names.discard(name)

    def enter(self, name: str) -> None:
        """Begin the section ``name`` and send the change."""
        self._sections.enter(name)
        self.wake()

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Count the time within as ``name`` and send both changes."""
        with self._sections.within(name):
            self.wake()
            yield
        self.wake()

    def wake(self) -> None:
        """Have a change sent at once, at most every ``WAKE_INTERVAL_S``."""
        now_s = self._clock()
        if now_s - self._last_wake_s >= WAKE_INTERVAL_S:
            self._last_wake_s = now_s
            self._context.wake()

    def has_news(self, step: int) -> bool:
        """Return whether step or section differ from those of the last heartbeat, and note them as sent."""
        now = (step, self._sections.name)
        if now == self._last_heartbeat:
            return False
        self._last_heartbeat = now
        return True

    def force_heartbeat(self) -> None:
        """Have the next heartbeat sent although step and section may be the same: other values have changed."""
        self._last_heartbeat = None

    def _on_anomaly(self, anomaly: Anomaly) -> None:
        self.anomaly_handled |= self._context.report_anomaly(anomaly)
