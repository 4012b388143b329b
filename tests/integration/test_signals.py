"""What people and systems do to a supervisor: Ctrl-C, SIGTERM, a closed terminal, kill -9."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from benchmarks.machines import TOY, WAIT_S_MAX, Machine, Turn, final_state
from supervisor.engine.claims import END
from supervisor.engine.identity import started

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.slow
FOREVER = ("--steps", "1000000", "--step-ms", "5", "--state-mb", "0.1")
FAR = 20_000  # steps: further than the first comes, on however busy a machine the test looks at it


def running(machine: Machine, *options: str) -> Turn:
    turn = machine.start(TOY, *options, arguments=FOREVER)
    turn.until("safe: step")
    return turn


def ends(store: Path) -> list[str]:
    return [path.name for path in sorted((store / "toy").glob("e*/end-*.json")) if END.fullmatch(path.name)]


def next_start_goes_on(machine: Machine, from_step: int) -> None:
    turn = machine.start(TOY, arguments=["--steps", str(from_step + 20), *FOREVER[2:]])
    assert turn.wait() == 0, turn.text
    assert f"going on from step {from_step:,}" in turn.text


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_asked_to_end_it_saves_first_and_says_what_is_safe(machine: Machine, number: int, code: int) -> None:
    turn = running(machine, "--save-every", "200ms")
    turn.signal(number)
    assert turn.wait() == code
    step = final_state(machine.store, "toy")["step"]
    assert f"safe: step {step:,}" in turn.text.rpartition("CANCELLED")[2]
    assert ends(machine.store) == ["end-stopped.json"]
    assert turn.trainer() is None
    next_start_goes_on(machine, step)


def test_a_second_ctrl_c_ends_at_once(machine: Machine, tmp_path: Path) -> None:
    script = tmp_path / "slow.py"
    script.write_text(
        "import time, supervisor\nrun = supervisor.attach()\n"
        "for step in run.steps(100):\n    print('in step', step, flush=True)\n    time.sleep(600)\n"
    )
    turn = machine.start(script)
    turn.until("in step 0")
    turn.signal(signal.SIGINT)
    turn.until("once more ends it at once")
    turn.signal(signal.SIGINT)
    assert turn.wait() == 130, turn.text
    assert turn.trainer() is None


@pytest.mark.parametrize("turns", range(3))
def test_after_a_second_ctrl_c_every_screen_says_what_the_last_line_said(machine: Machine, turns: int) -> None:
    turn = machine.start(
        TOY, "--save-every", "300ms", arguments=("--steps", "100000", "--step-ms", "1", "--state-mb", "80")
    )
    turn.until(lambda: turn.text.count("safe: step") > turns)
    turn.signal(signal.SIGINT)
    turn.until("once more ends it at once")
    turn.signal(signal.SIGINT)
    assert turn.wait() == 130, turn.text
    last = re.search(r"safe: step ([0-9,]+)", turn.text.rpartition("CANCELLED")[2])
    assert last is not None, turn.text
    step = int(last[1].replace(",", ""))
    assert json.loads(machine.run("status", "toy", "--json").stdout)["checkpoints"]["durable"] == step
    [listed] = json.loads(machine.run("list", "--json").stdout)
    assert listed["checkpoints"]["durable"] == step
    rows = json.loads(machine.run("checkpoints", "toy", "--json").stdout)
    assert max(row["step"] for row in rows if row["state"] == "DURABLE") == step
    assert "upload" not in machine.run("status", "toy").stdout


def test_a_closed_terminal_is_survived_in_the_background(machine: Machine) -> None:
    ours, theirs = pty.openpty()
    command = machine.command("start", str(TOY), "--save-every", "300ms", "--", "--steps", "600", "--step-ms", "5")
    process = subprocess.Popen(
        command, cwd=machine.work, env=machine.environ(TERM="xterm"), stdin=theirs, stdout=theirs, stderr=theirs,
        preexec_fn=_own_terminal,  # noqa: PLW1509  a terminal of its own cannot be had in another way
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    while b"safe: step" not in seen:
        seen += os.read(ours, 65536)
    os.close(ours)  # the terminal is gone: SIGHUP to its processes, and every write fails from now on
    assert process.wait(WAIT_S_MAX) == 0
    assert final_state(machine.store, "toy")["step"] == 600
    assert ends(machine.store) == ["end-succeeded.json"]


def test_a_reader_that_stops_reading_does_not_stop_the_run(machine: Machine) -> None:
    command = machine.command("start", str(TOY), "--save-every", "200ms", "--", "--steps", "300", "--step-ms", "5")
    process = subprocess.Popen(command, cwd=machine.work, env=machine.environ(), stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(WAIT_S_MAX) == 0
    assert final_state(machine.store, "toy")["step"] == 300


def test_a_killed_supervisor_leaves_no_trainer_and_its_last_checkpoint_is_adopted(machine: Machine) -> None:
    turn = running(machine, "--save-every", "200ms")
    trainer = turn.trainer()
    assert trainer is not None
    turn.kill("supervisor")
    before = final_state(machine.store, "toy")["step"]
    again = machine.start(TOY, arguments=["--steps", str(FAR), "--step-ms", "0", *FOREVER[4:]])
    again.until("going on from step")
    assert started(trainer) is None
    assert again.wait() == 0, again.text
    began = int(again.text.partition("going on from step ")[2].partition(",")[0].replace(",", ""))
    assert began > before
    assert [row["step"] for row in final_state(machine.store, "toy")["log"]] == list(range(FAR))


def test_an_orphan_ends_by_itself_and_writes_nothing_after_that(
    fresh_machine: Callable[[], Machine], store: Path
) -> None:
    turn = running(fresh_machine(), "--save-every", "200ms")
    trainer = turn.trainer()
    assert trainer is not None
    turn.kill("supervisor")
    _until_gone(trainer)
    after = {path: path.stat().st_mtime_ns for path in turn.local.rglob("*")}
    elsewhere = fresh_machine().start(TOY, arguments=["--steps", str(FAR), "--step-ms", "0", *FOREVER[4:]])
    assert elsewhere.wait() == 0, elsewhere.text
    assert {path: path.stat().st_mtime_ns for path in turn.local.rglob("*")} == after
    assert [row["step"] for row in final_state(store, "toy")["log"]] == list(range(FAR))


def _until_gone(pid: int) -> None:
    end_s = time.perf_counter() + WAIT_S_MAX
    while started(pid) is not None:
        assert time.perf_counter() < end_s, f"process {pid} lives on"
        time.sleep(0.01)  # because it is no child of this process


def _own_terminal() -> None:
    import fcntl
    import termios

    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
