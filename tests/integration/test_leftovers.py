"""What dead sessions leave on this machine is used, and gone once the run is finished."""

from __future__ import annotations

import signal

import pytest

from benchmarks.machines import TOY, Machine
from supervisor.engine.identity import started

pytestmark = pytest.mark.slow


def test_a_finished_run_leaves_nothing_of_its_dead_sessions_on_this_machine(tmp_path) -> None:
    machine = Machine(tmp_path / "machine", tmp_path / "store")
    first = machine.start(TOY, "--save-every", "1s", arguments=("--steps", "400"))
    first.until("safe: step")
    first.kill("supervisor")
    first.wait()
    second = machine.start(TOY, "--save-every", "1s", arguments=("--steps", "400"))
    assert second.wait() == 0, second.text
    assert not [path for path in machine.local.rglob("step-*") if path.is_dir()]


SCRIPT = """
import os, subprocess, sys
import time
import supervisor

def note(pid):
    with open("pids.txt", "a") as file:
        file.write(f"{pid}\\n")

note(subprocess.Popen(["sleep", "600"]).pid)
note(subprocess.Popen(["sleep", "600"], start_new_session=True).pid)
if not os.fork():  # it keeps whatever the trainer had open
    os.setsid()
    if os.fork():
        os._exit(0)
    note(os.getpid())
    time.sleep(600)


class Model:
    def state_dict(self):
        return {"value": 1.0}

    def load_state_dict(self, state):
        pass


run = supervisor.attach(model=Model())
for step in run.steps(int(sys.argv[1])):
    time.sleep(0.02)
"""


def living(machine: Machine) -> list[int]:
    noted = machine.work / "pids.txt"
    pids = [int(line) for line in noted.read_text().split()] if noted.exists() else []
    return [pid for pid in pids if started(pid)]


@pytest.mark.parametrize("victim", ["supervisor", "both"])
def test_what_a_trainer_has_started_ends_at_the_next_start_and_keeps_it_waiting_for_nothing(machine, victim):
    script = machine.work / "train.py"
    script.write_text(SCRIPT)
    first = machine.start(script, "--save-every", "1s", arguments=("100000",))
    first.until("safe: step")
    left = living(machine)
    assert len(left) == 3
    first.kill(victim)
    first.wait()
    second = machine.start(script, "--save-every", "1s", arguments=("100000",))
    second.until(lambda: len(living(machine)) == 3 and not [pid for pid in left if started(pid)])
    second.until("safe: step")
    second.signal(signal.SIGTERM)
    second.wait()
    assert not living(machine), second.text


def test_a_run_that_ends_by_itself_leaves_no_process(machine):
    script = machine.work / "train.py"
    script.write_text(SCRIPT)
    turn = machine.start(script, arguments=("20",))
    assert turn.wait() == 0, turn.text
    assert not living(machine), turn.text
