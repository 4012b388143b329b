"""What holds for every test: the machine below is nobody's cloud, Ctrl-C is heard, and a property that is slow to try is not a wrong one."""

from __future__ import annotations

import os
import signal

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
