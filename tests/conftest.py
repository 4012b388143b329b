"""What holds for every test: the machine below is nobody's cloud, Ctrl-C is heard, and a property that is slow to try is not a wrong one."""

from __future__ import annotations

import gc
import os
import signal
import sys

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("SUPERVISOR_RUN_FIRMWARE", "")  # so that no test asks a metadata server

# A shell's background jobs ignore these, and what is started from here would too.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# By hand every run draws other examples; where what can be had must be had, as in CI, always the same ones.
settings.register_profile(
    "suite",
    deadline=None,
    derandomize="SUPERVISOR_TEST_EVERYTHING" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("suite")


@pytest.fixture(autouse=True)
def _no_worker_is_left():
    """A forked worker holds what its parent had open, so one that outlives its test may keep a later test waiting."""
    yield
    forked = sys.modules.get("multiprocessing")
    left = forked.active_children() if forked else []
    if not left:
        return
    gc.collect()  # a loader that nothing names any more ends its workers
    left = forked.active_children()
    for each in left:
        each.kill()
        each.join()
    assert not left, f"workers outlive the test: {left}"
