"""How a script may end, and what is said of it: exit code 0 in the middle, a process that goes on, errors that come again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.machines import Machine, final_state

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.slow
LOOP = """
import os, sys, time
import supervisor
run = supervisor.attach()
for step in run.steps(40):
    run.log(value=step)
    time.sleep(0.005)
    {body}
{after}
"""
QUIET = ("--save-every", "10steps")


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., Path]:
    def write(body: str = "pass", after: str = "", text: str = LOOP) -> Path:
        path = tmp_path / "ending.py"
        path.write_text(text.replace("{body}", body).replace("{after}", after))
        return path

    return write


def state_of(machine: Machine) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(machine.run("status", "ending", "--json").stdout)
    return told


# --- exit code 0 -------------------------------------------------------------------------------------------------


def test_a_process_that_ends_inside_the_loop_with_exit_code_0_is_no_success(
    machine: Machine, script: Callable[..., Path]
) -> None:
    done = machine.run("start", str(script("os._exit(0) if step == 26 else None")), *QUIET)
    assert done.returncode == 93, done.stdout
    assert "SUCCEEDED" not in done.stdout
    assert "the process ended with exit code 0 at step 2" in done.stdout
    assert "of 40, before the script came to its end" in done.stdout
    assert state_of(machine)["state"] == "FAILED"


def test_a_process_that_ended_once_with_exit_code_0_goes_on_from_its_last_checkpoint(
    machine: Machine, store: Path, script: Callable[..., Path]
) -> None:
    done = machine.run("start", str(script("os._exit(0) if step == 26 and run.attempt == 1 else None")), *QUIET)
    assert done.returncode == 0, done.stdout
    assert "restarting it in" in done.stdout
    assert [row["step"] for row in final_state(store, "ending")["log"]] == list(range(40))


def test_sys_exit_0_inside_the_loop_is_named_with_its_line_and_the_same_command_goes_on(
    machine: Machine, store: Path, script: Callable[..., Path]
) -> None:
    path = script("sys.exit(0) if step == 26 else None")
    done = machine.run("start", str(path), *QUIET)
    assert done.returncode == 1, done.stdout
    words = f"the script ended itself with exit code 0 inside its loop, at step 27 of 40 ({path}:8)"
    assert done.stderr.count(words) == 1
    assert "`break`" in done.stderr
    assert "restarting" not in done.stdout
    again = machine.run("start", str(script()), *QUIET)
    assert again.returncode == 0, again.stdout
    assert "going on from step 27" in again.stdout
    assert [row["step"] for row in final_state(store, "ending")["log"]] == list(range(40))


def test_break_is_the_end_and_says_of_how_many_steps(machine: Machine, script: Callable[..., Path]) -> None:
    path = script("\n    if step == 26: break", "sys.exit(0)")
    done = machine.run("start", str(path), *QUIET)
    assert done.returncode == 0, done.stdout
    assert "SUCCEEDED: The script finished at step 27 of 40, because it left its loop · safe: step 27" in done.stdout


def test_exit_code_0_right_after_the_loop_is_the_end(machine: Machine, script: Callable[..., Path]) -> None:
    done = machine.run("start", str(script(after="os._exit(0)")), *QUIET)
    assert done.returncode == 0, done.stdout
    assert "safe: step 40" in done.stdout


# --- a process that goes on ---------------------------------------------------------------------------------------

THREAD = "import threading; threading.Thread(target=time.sleep, args=(10_000,), name='uploader').start()"
ATEXIT = "import atexit; atexit.register(time.sleep, 10_000)"
CHILD = (
    "import multiprocessing; "
    "multiprocessing.get_context('fork').Process(target=time.sleep, args=(10_000,), daemon=False).start()"
)


@pytest.mark.parametrize(
    ("after", "named"),
    [(THREAD, "it waits for the thread 'uploader'"), (ATEXIT, "ending it"), (CHILD, "it waits for child processes")],
    ids=["a thread", "an atexit handler", "a child process"],
)
def test_a_process_that_goes_on_after_the_end_of_its_script_is_ended_and_succeeded(
    machine: Machine, script: Callable[..., Path], after: str, named: str
) -> None:
    done = machine.run("start", str(script(after=after)), *QUIET, "--hang-after", "2s")
    assert done.returncode == 0, done.stdout + done.stderr
    assert named in done.stdout
    assert "restarting" not in done.stdout
    assert "SUCCEEDED: The script finished at step 40; its process did not end by itself and was ended" in done.stdout
    assert state_of(machine)["state"] == "SUCCEEDED"


def test_a_child_that_keeps_the_output_open_holds_nothing_up(machine: Machine, script: Callable[..., Path]) -> None:
    after = (
        "import subprocess; print('CHILD', subprocess.Popen(['sleep', '600'], start_new_session=True).pid, flush=True)"
    )
    done = machine.run("start", str(script(after=after)), *QUIET)
    child = int(done.stdout.partition("CHILD ")[2].split()[0])
    machine_ends(child)
    assert done.returncode == 0, done.stdout
    assert "SUCCEEDED" in done.stdout


def machine_ends(pid: int) -> None:
    import os
    import signal
    from contextlib import suppress

    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def test_a_crash_while_the_process_of_a_finished_script_ends_is_said_and_no_failure(
    machine: Machine, script: Callable[..., Path]
) -> None:
    after = "import atexit, signal; atexit.register(os.kill, os.getpid(), signal.SIGSEGV)"
    done = machine.run("start", str(script(after=after)), *QUIET)
    assert done.returncode == 0, done.stdout
    assert "the script was done when its process was killed by SIGSEGV" in done.stdout


# --- errors that come again ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failing", "code", "tracebacks", "line"),
    [
        (("undefined_name if step == 3 else None", ""), 1, 1, 8),
        (("run.no_such_thing if step == 0 else None", ""), 1, 1, 8),
        (("len(5) if step == 3 else None", ""), 93, 2, 8),
        (("{}['x'] if step == 26 else None", ""), 93, 2, 8),
        (("pass", "open('/no/such/best.pt')"), 93, 2, 9),
        (("pass", "undefined_name"), 1, 1, 9),
    ],
    ids=[
        "NameError",
        "AttributeError at first",
        "TypeError",
        "KeyError",
        "after the last step",
        "NameError at the end",
    ],
)
def test_an_error_that_would_come_again_is_not_tried_again_and_again(
    machine: Machine, script: Callable[..., Path], *, failing: tuple[str, str], code: int, tracebacks: int, line: int
) -> None:
    path = script(*failing)
    done = machine.run("start", str(path), *QUIET)
    assert done.returncode == code, done.stdout
    assert done.stdout.count("Traceback") == tracebacks
    [error] = [each for each in done.stderr.splitlines() if each.startswith("error:")]
    assert error.count(f"{path}:{line}") == 1


def test_arguments_that_are_refused_end_at_once_also_behind_attach(
    machine: Machine, script: Callable[..., Path]
) -> None:
    text = "import argparse, supervisor\nrun = supervisor.attach()\nargparse.ArgumentParser().parse_args()\n"
    path = script(text=text)
    done = machine.run("start", str(path), "--", "--epochs", "3")
    assert done.returncode == 3, done.stdout
    assert f"error: the script refused its arguments (exit code 2) ({path}:3)" in done.stderr
    assert "restarting" not in done.stdout


def test_an_outage_is_tried_as_often_as_it_may_be(machine: Machine, script: Callable[..., Path]) -> None:
    text = "import urllib.error\nraise urllib.error.URLError('no route to host')\n"
    done = machine.run("start", str(script(text=text)))
    assert done.returncode == 93, done.stdout
    assert done.stdout.count("Traceback") == 4
    assert "4 attempts in a row ended without a new checkpoint" in done.stderr
