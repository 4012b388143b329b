"""Two supervisors on one run: one waits or takes over as asked, and the other never writes over it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks.machines import ROOT, TOY, Machine, Turn, final_state, last_step

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.slow
SLOW_TOY = ROOT / "tests/machines/held.py"
FOREVER = ("--steps", "1000000", "--step-ms", "5", "--state-mb", "0.1")
FAR = 20_000  # steps: further than the first comes, on however busy a machine the test looks at it
OFTEN = ("--save-every", "200ms")


def published(store: Path, epoch: int) -> set[str]:
    """What a session has put into the store of its checkpoints and their step log."""
    session = next((store / "toy").glob(f"e{epoch:08d}-*"))
    files = (Path(above, name) for above, _, names in os.walk(session) for name in names)  # rglob() fails on what goes
    return {str(path.relative_to(session)) for path in files if path.parent != session or path.name.startswith("log-")}


def saving(machine: Machine, *options: str) -> Turn:
    turn = machine.start(TOY, *OFTEN, *options, arguments=FOREVER)
    turn.until("safe: step")
    return turn


def test_the_second_waits_aloud_and_finds_the_run_finished(
    fresh_machine: Callable[[], Machine], tmp_path: Path
) -> None:
    job, environ = ("--steps", "600", "--step-ms", "1"), {"HELD": str(tmp_path / "let-go")}
    first = fresh_machine().start(SLOW_TOY, *OFTEN, arguments=job, environ=environ)
    first.until("safe: step")
    second = fresh_machine().start(SLOW_TOY, *OFTEN, arguments=job, environ=environ)
    second.until("waiting until it ends")
    assert "--takeover" in second.text
    (tmp_path / "let-go").touch()
    assert first.wait() == 0, first.text
    assert second.wait() == 0, second.text
    assert "finished" in second.text
    assert "beginning at step" not in second.text


def test_the_second_goes_on_when_the_first_is_killed(fresh_machine: Callable[[], Machine], store: Path) -> None:
    first = saving(fresh_machine())
    second = fresh_machine().start(TOY, *OFTEN, arguments=["--steps", str(FAR), "--step-ms", "0", *FOREVER[4:]])
    second.until("waiting until it ends")
    first.kill("both")
    assert second.wait() == 0, second.text
    assert [row["step"] for row in final_state(store, "toy")["log"]] == list(range(FAR))


def test_a_takeover_ends_the_first_with_75_and_nothing_of_its_own_changes(
    fresh_machine: Callable[[], Machine], store: Path
) -> None:
    first = saving(fresh_machine())
    second = fresh_machine().start(TOY, *OFTEN, "--takeover", arguments=FOREVER)
    second.until("going on from step")
    before = published(store, 1)
    assert first.wait() == 75, first.text
    assert "another machine has taken over" in first.text
    assert published(store, 1) <= before
    assert first.trainer() is None
    second.until("safe: step")
    second.signal(signal.SIGINT)
    assert second.wait() == 130, second.text


def test_a_paused_and_woken_first_publishes_nothing_and_exits_75(
    fresh_machine: Callable[[], Machine], store: Path
) -> None:
    first = saving(fresh_machine())
    first.signal(signal.SIGSTOP)  # its trainer goes on, and stages what the supervisor will find when it wakes
    second = saving(fresh_machine(), "--takeover")
    before = published(store, 1)
    second.until(lambda: list(first.local.rglob("step-*")))  # so that the zombie wakes with checkpoints to publish
    first.signal(signal.SIGCONT)
    assert first.wait() == 75, first.text
    assert published(store, 1) <= before
    reached = last_step(store, "toy")
    second.until(lambda: last_step(store, "toy") > reached)
    second.signal(signal.SIGINT)
    assert second.wait() == 130, second.text
    log = final_state(store, "toy")
    assert [row["step"] for row in log["log"]] == list(range(log["step"]))
