"""What the system says of processes: when one began, and how long a group of them has computed."""

import os
import subprocess
import sys

import pytest

from supervisor.engine.identity import PROC, cpu_s, started

needs_proc = pytest.mark.skipif(not PROC.joinpath("self/stat").exists(), reason="needs /proc")


@needs_proc
def test_the_processor_time_of_a_group_counts_its_children():
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'while True: pass'])\n"
        "print(child.pid, flush=True)\n"
        "sys.stdin.read()\nchild.kill()"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, start_new_session=True)
    assert parent.stdout.readline().strip().isdigit()
    first = cpu_s(parent.pid)
    while cpu_s(parent.pid) - first < 0.2:  # the parent waits: only its child computes
        os.sched_yield()
    parent.communicate()
    assert cpu_s(-1) is None


@needs_proc
def test_a_process_that_has_ended_began_at_no_time():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert started(os.getpid()) is not None
    assert started(child.pid) is None
