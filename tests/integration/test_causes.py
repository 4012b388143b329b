"""Why a trainer died, told apart; what is tried again, and what is given up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.machines import ROOT, Machine, final_state
from supervisor.engine.identity import started

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.slow
CGROUPS = Path("/sys/fs/cgroup")
STEPS = """
import os, signal, sys, time
import supervisor
run = supervisor.attach()
for step in run.steps(20):
    run.log(value=step)
    time.sleep(0.02)
    {body}
"""


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "script.py"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def small_memory() -> Iterator[Path]:
    """A control group of 300 MB (version 1 or 2); only root may make one."""
    first = (CGROUPS / "memory").is_dir()
    group = (CGROUPS / "memory" if first else CGROUPS) / f"training-supervisor-test-{os.getpid()}"
    limit = group / ("memory.limit_in_bytes" if first else "memory.max")
    try:
        group.mkdir()
        with limit.open("r+") as file:  # never made where it is not there already
            file.write("300000000")
    except OSError as error:
        if group.exists():
            group.rmdir()
        pytest.skip(f"no control group with a memory limit can be made here: {error}")
    yield group
    for _ in range(100):
        with suppress(OSError):  # its last process may still be on its way out
            group.rmdir()
        if not group.exists():
            break
        time.sleep(0.05)


def test_an_exit_code_is_named_with_its_line_and_given_up_the_second_time(
    machine: Machine, script: Callable[[str], Path]
) -> None:
    path = script("raise SystemExit(7)")
    done = machine.run("start", str(path))
    assert done.returncode == 93
    assert done.stdout.count(f"the script ended with exit code 7 ({path}:1)") == 1
    assert done.stdout.count("restarting it in") == 1
    assert f"the script ended with exit code 7 ({path}:1); the same twice, without a new step in between" in done.stderr


def test_what_ends_without_a_word_is_given_up_without_progress(machine: Machine, script: Callable[[str], Path]) -> None:
    done = machine.run("start", str(script("import os\nos._exit(7)")), "--max-restarts", "2")
    assert done.returncode == 93
    assert done.stdout.count("the script ended with exit code 7") == 2
    assert done.stdout.count("restarting it in") == 2
    assert "3 attempts in a row ended without a new checkpoint" in done.stderr


def test_progress_pays_back_the_budget_of_restarts(
    machine: Machine, store: Path, script: Callable[[str], Path]
) -> None:
    body = "if step % 3 == 2 and step < 18 and step >= run.attempt: run.save(); sys.exit(7) if step > 3 * run.attempt else None"
    done = machine.run("start", str(script(STEPS.format(body=body))), "--max-restarts", "1", "--save-every", "1steps")
    assert done.returncode == 0, done.stdout
    assert [row["step"] for row in final_state(store, "script")["log"]] == list(range(20))


def test_an_exception_is_named_with_its_place(machine: Machine, script: Callable[[str], Path]) -> None:
    path = script("import supervisor\nraise RuntimeError('the loss is gone')\n")
    done = machine.run("start", str(path), "--max-restarts", "0")
    assert done.returncode == 1
    assert f"RuntimeError: the loss is gone ({path}:2)" in done.stderr
    assert "--max-restarts 0" in done.stderr
    assert "Traceback" in done.stdout


def test_a_signal_is_named(machine: Machine, script: Callable[[str], Path]) -> None:
    body = "if step == 5 and run.attempt == 1: os.kill(os.getpid(), signal.SIGSEGV)"
    done = machine.run("start", str(script(STEPS.format(body=body))))
    assert done.returncode == 0, done.stdout
    assert "the trainer was killed by SIGSEGV" in done.stdout


def test_running_out_of_memory_is_told_from_any_other_kill(
    machine: Machine, script: Callable[[str], Path], small_memory: Path
) -> None:
    body = "kept = [bytearray(b'x' * 50_000_000) for _ in range(20)] if step == 5 and run.attempt == 1 else None"
    command = machine.command("start", str(script(STEPS.format(body=body))))

    def inside() -> None:
        (small_memory / "cgroup.procs").write_text(str(os.getpid()))

    done = subprocess.run(
        command, cwd=machine.work, env=machine.environ(), capture_output=True, text=True, timeout=400, check=False,
        preexec_fn=inside,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the kernel killed the trainer because memory ran out" in done.stdout


def test_a_plain_kill_is_not_taken_for_want_of_memory(machine: Machine, script: Callable[[str], Path]) -> None:
    body = "if step == 5 and run.attempt == 1: os.kill(os.getpid(), signal.SIGKILL)"
    done = machine.run("start", str(script(STEPS.format(body=body))))
    assert done.returncode == 0
    assert "the trainer was killed by SIGKILL" in done.stdout


def test_a_script_without_attach_runs_to_its_end(machine: Machine, script: Callable[[str], Path]) -> None:
    done = machine.run("start", str(script("import sys\nprint('hello', sys.argv[1:])\n")), "--", "--flag", "value")
    assert done.returncode == 0
    assert "hello ['--flag', 'value']" in done.stdout
    assert "SUCCEEDED" in done.stdout
    again = machine.run("start", str(script("import sys\nprint('hello', sys.argv[1:])\n")), "--", "--flag", "value")
    assert again.returncode == 0
    assert "hello" not in again.stdout
    assert "finished already" in again.stdout


def test_a_script_sees_what_plain_python_shows_it(machine: Machine, script: Callable[[str], Path]) -> None:
    text = """
import json, os, sys
from concurrent.futures import ProcessPoolExecutor
def square(number): return number * number
if __name__ == "__main__":
    with ProcessPoolExecutor(1) as pool:
        print("SEEN", json.dumps([sys.argv, __file__, __name__, os.getcwd(), list(pool.map(square, [3])),
                                  sys.stdin.read()]))
"""
    path = script(text)
    done = machine.run("start", str(path), "--", "a b", "c")
    assert done.returncode == 0, done.stdout + done.stderr
    seen: list[Any] = json.loads(done.stdout.partition("SEEN ")[2].splitlines()[0])
    assert seen == [[str(path), "a b", "c"], str(path), "__main__", str(machine.work), [9], ""]


def test_the_children_of_a_dead_trainer_are_gone_too(machine: Machine, script: Callable[[str], Path]) -> None:
    text = """
import os, subprocess, sys, time, supervisor
run = supervisor.attach()
for step in run.steps(3):
    if run.attempt == 1:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        print("CHILD", child.pid, flush=True)
        os._exit(9)
"""
    done = machine.run("start", str(script(text)))
    assert done.returncode == 0, done.stdout
    child = int(done.stdout.partition("CHILD ")[2].split()[0])
    assert started(child) is None


def test_help_and_version_need_nothing() -> None:
    for words in (["--help"], ["--version"], ["start", "--help"]):
        done = subprocess.run(
            [sys.executable, "-S", "-m", "supervisor", *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout
