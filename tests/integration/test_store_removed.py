"""A store that is taken away while a run lives: what the farewell says can be done, and step 0 never follows staged work."""

from __future__ import annotations

import re
import shutil
import signal

import pytest

from benchmarks.machines import TOY
from supervisor.core.errors import FAILED_PRECHECKS

pytestmark = pytest.mark.slow
LONG = ("--steps", "100000", "--step-ms", "5")


def test_work_that_waits_for_a_store_that_is_gone_is_neither_forgotten_nor_begun_anew(machine, store, tmp_path):
    turn = machine.start(TOY, "--save-every", "1s", arguments=LONG)
    turn.until("safe: step")
    shutil.move(store, tmp_path / "away")
    turn.until("does not answer")
    turn.signal(signal.SIGINT)
    turn.until("once more ends it at once")
    turn.signal(signal.SIGINT)
    turn.wait()
    assert "-m supervisor resume toy" in turn.text
    refused = machine.start(TOY, "--save-every", "1s", arguments=LONG)
    assert refused.wait() == FAILED_PRECHECKS, refused.text
    assert "has no run 'toy', and this machine holds step" in refused.text
    resumed = machine.run("resume", "toy")
    assert resumed.returncode == 2
    assert "has no run 'toy', and this machine holds step" in resumed.stderr
    shutil.rmtree(store, ignore_errors=True)
    shutil.move(tmp_path / "away", store)
    again = machine.start(TOY, "--save-every", "1s", arguments=LONG)
    again.until("safe: step")
    again.signal(signal.SIGTERM)
    again.wait()
    assert "beginning at step 0" not in again.text
    assert re.search(r"going on from step [1-9]", again.text)
    # The first line of progress may come before what waited here is proved in the store.
    _, safe, since = again.text.partition("safe: step")
    assert safe
    assert "nothing safe" not in since
