"""A machine with an end: the last checkpoint is safe before it, and the next start goes on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from benchmarks.machines import TOY, Machine, final_state
from supervisor.engine import checkpoints
from supervisor.engine.place import RunPlace
from supervisor.stores.folder import FolderStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.slow


def test_a_used_up_budget_hands_over_in_time_and_the_next_start_ends_the_run(
    fresh_machine: Callable[[], Machine], store: Path
) -> None:
    job = ("--steps", "60", "--state-mb", "0.5")
    slowly = ("--step-ms", "1500")  # twice the longest step is kept free besides, which is what a busy machine needs
    for budget_s in (11.0, 33.0, 99.0):  # a machine that is so busy that it does not come to a step needs a longer one
        began_s = time.perf_counter()
        options = ("--budget", f"{budget_s:.0f}s", "--save-every", "auto")
        first = fresh_machine().start(TOY, *options, arguments=[*job, *slowly])
        assert first.wait() == 42, first.text
        in_time = time.perf_counter() - began_s < budget_s
        if in_time and checkpoints.find(FolderStore(str(store)), RunPlace("toy")):
            break
    assert in_time, "it must be gone before the machine is"
    handed_over = final_state(store, "toy")["step"]
    assert handed_over > 0
    assert f"HANDED_OVER: The time budget of this machine is used up · safe: step {handed_over:,}" in first.text
    second = fresh_machine().start(TOY, arguments=[*job, "--step-ms", "1"])
    assert second.wait() == 0, second.text
    assert f"going on from step {handed_over:,}, verified" in second.text
    assert "ended as planned" in second.text
    assert [row["step"] for row in final_state(store, "toy")["log"]] == list(range(60))
