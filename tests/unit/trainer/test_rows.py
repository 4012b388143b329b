"""The step log keeps every row, and of each name the newest value for whoever looks."""

from __future__ import annotations

from supervisor.trainer.rows import Rows


def test_a_value_that_is_logged_at_few_steps_stays_among_the_newest() -> None:
    rows = Rows(lambda *_: None)
    rows.add(0, {"loss": 2.0})
    rows.add(1, {"loss": 1.0, "exact": 0.5})
    rows.add(2, {"loss": 0.5})
    assert rows.metrics() == {"loss": 0.5, "exact": 0.5}
