"""%supervise and %supervisor in a real kernel: interrupts, restarts, closed pages, errors; the run outlives them all."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.machines import until
from tests.notebook.machine import ROOT

pytest.importorskip("ipykernel", reason="ipykernel is not installed: these tests run cells in a real kernel")
Kernel = pytest.importorskip(
    "tests.notebook.kernel", reason="jupyter_client is not installed: it talks to kernels"
).Kernel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.notebook.machine import NotebookMachine

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
TOY = ROOT / "trainers" / "toy.py"
# It goes no further than the test has let it: however slow the machine is, it has not ended before its turn.
LED = """
import sys, time
from pathlib import Path
import supervisor

def allowed():
    return int(Path(sys.argv[1]).read_text())

for step in supervisor.attach().steps(300):
    while step >= allowed():
        time.sleep(0.01)  # until it is looked again
    time.sleep(0.01)  # the step's own work: it must be time for a save before all that is allowed is done
"""


@pytest.fixture
def machine(new_machine: Callable[..., NotebookMachine]) -> NotebookMachine:
    return new_machine()


@pytest.fixture
def kernel(machine: NotebookMachine) -> Iterator[Any]:
    kernel = Kernel(machine)
    yield kernel
    kernel.end()


class Led:
    """A script of 300 steps, and how far it may go."""

    def __init__(self, folder: Path) -> None:
        self.script, self.allowed = folder / "led.py", folder / "allowed"
        self.script.write_text(LED)

    def let(self, steps: int) -> None:
        written = self.allowed.with_suffix(".new")
        written.write_text(str(steps))
        written.replace(self.allowed)


@pytest.fixture
def led(tmp_path: Path) -> Led:
    return Led(tmp_path)


def test_an_interrupt_saves_first_and_the_same_cell_goes_on(kernel, machine) -> None:
    cell = kernel.begin(f"%supervise {TOY} --no-install -- --steps 100000 --state-mb 0.1")
    kernel.until(lambda: machine.step() > 20)
    kernel.panel(cell, "toy: running")
    kernel.interrupt()
    seen = kernel.ended(cell)
    assert kernel.status(cell) == "ok", seen
    assert "toy: stopped after saving; run this cell again to go on" in seen
    assert kernel.run("print(_exit_code)") == "130\n"
    reached = kernel.run("%supervisor status")
    assert "CANCELLED" in reached
    assert "%supervisor resume toy" in reached

    again = kernel.begin("%supervisor resume toy")
    assert "going on from step" in kernel.panel(again, "going on from step")
    kernel.until(lambda: "toy: running" in kernel.text(again))
    stopped = subprocess.run(
        [sys.executable, "-m", "supervisor", "stop", "toy"], cwd=machine.work, env=machine.environ() | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert stopped.returncode == 0, stopped.stderr
    assert "toy: stopped after saving" in kernel.ended(again)
    assert kernel.run("print(_exit_code)") == "143\n"


def test_two_interrupts_end_at_once(kernel, machine, tmp_path: Path) -> None:
    script = tmp_path / "long_steps.py"
    script.write_text("import supervisor, time\nfor _ in supervisor.attach().steps(9):\n    time.sleep(3600)\n")
    cell = kernel.begin(f"%supervise {script} --no-install")
    kernel.panel(cell, "long_steps: running")
    kernel.interrupt()
    kernel.panel(cell, "interrupted: saving first")
    kernel.interrupt()
    kernel.ended(cell)
    until(lambda: not machine.status() or machine.status()["state"] != "RUNNING")
    assert not [each for each in machine.processes() if b"long_steps" in cmdline(each)]


@pytest.mark.parametrize("now", [False, True], ids=["asked to end", "killed"])
def test_a_closed_page_and_a_restarted_kernel_leave_the_run_alone(kernel, machine, led: Led, now: bool) -> None:
    command = f"%supervise {led.script} --no-install --save-every 300ms -- {led.allowed}"
    led.let(100)
    cell = kernel.begin(command)
    kernel.until(lambda: machine.safe() > 0)
    kernel.panel(cell, "safe: step")
    kernel.close()
    led.let(200)
    until(lambda: machine.step() >= 190)
    kernel.restart(now=now)
    assert kernel.run("print(1)") == "1\n"
    led.let(280)
    until(lambda: machine.step() >= 270)

    cell = kernel.begin(command)
    kernel.panel(cell, "re-attached: nobody watched for")
    led.let(300)
    seen = kernel.ended(cell)
    assert "it went on by itself, from step" in seen
    assert "led: finished" in seen
    assert "step 300/300 (100 %)" in seen
    assert "session 1 · attempt 1" in seen, "it was the same session all the time"
    assert kernel.run("print(_exit_code)") == "0\n"
    panels = [each for each in kernel.shown[cell] if "display" in each]
    assert len(panels) == 1
    assert panels[0]["drawn"] > 1
    assert panels[0]["html"].startswith("<div")


def test_a_session_of_a_terminal_is_attended_too(kernel, machine, led: Led) -> None:
    command = [sys.executable, "-m", "supervisor", "start", str(led.script), "--no-install", "--", str(led.allowed)]
    led.let(100)
    started = subprocess.Popen(
        command, cwd=machine.work, env=machine.environ() | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL
    )
    until(lambda: machine.step() > 0)
    cell = kernel.begin(f"%supervise {led.script} --no-install -- {led.allowed}")
    kernel.panel(cell, "led: running")
    led.let(300)
    seen = kernel.ended(cell)
    assert started.wait(400) == 0
    assert "it was not started by a notebook" in seen
    assert "led: finished" in seen


def test_a_failure_is_two_lines_and_the_cells_below_do_not_run(kernel, tmp_path: Path) -> None:
    script = tmp_path / "broken.py"
    script.write_text("print('about to break')\nraise RuntimeError('on purpose')\n")
    failing = kernel.begin(f"%supervise {script} --no-install --max-restarts 0")
    below = kernel.begin("print('below')")
    seen = kernel.ended(failing)
    kernel.until(lambda: below in kernel.replies)
    assert kernel.status(failing) == "error"
    assert kernel.status(below) == "aborted"
    assert "RuntimeError: on purpose" in seen, "the script's own last words are shown"
    lines = last_error(kernel, failing)
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("  try: ")
    assert len(lines) == 2
    assert kernel.run("print(_exit_code)") == "1\n"


@pytest.mark.parametrize(
    ("line", "error", "hint"),
    [
        ("%supervise nowhere.py", "the script nowhere.py does not exist", "trainers/toy.py"),
        ("%supervise", "no script is named", "%supervise"),
        ("%supervise 'half", "no closing quotation", "quotes"),
        (f"%supervise {TOY} --keep-last none", "is not a whole number", "3"),
        (f"%supervise {TOY} --no-install --store /proc/nowhere/runs", "/proc/nowhere", ""),
        ("%supervisor stauts", "there is no command 'stauts'", "status"),
    ],
)
def test_what_a_person_gets_wrong_is_two_lines(shared_kernel, line: str, error: str, hint: str) -> None:
    cell = shared_kernel.begin(line)
    shared_kernel.ended(cell)
    assert shared_kernel.status(cell) == "error"
    lines = last_error(shared_kernel, cell)
    assert len(lines) == 2, lines
    assert error in lines[0]
    assert hint in lines[1]
    assert shared_kernel.run("print(_exit_code != 0)") == "True\n"


def test_verbs_show_what_they_show_on_a_command_line(shared_kernel) -> None:
    assert "verbs:" in shared_kernel.run("%supervisor")
    assert "no runs in" in shared_kernel.run("%supervisor status")
    assert shared_kernel.run("print(_exit_code)") == "2\n"
    assert "usage: %supervisor start" in shared_kernel.run("%supervise --help")
    assert "nothing to mount here" in shared_kernel.run("%supervisor mount")


@pytest.fixture(scope="module")
def shared_kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from tests.notebook.machine import NotebookMachine

    machine = NotebookMachine(tmp_path_factory.mktemp("shared") / "machine")
    kernel = Kernel(machine)
    yield kernel
    kernel.end()
    machine.end()


def last_error(kernel: Any, cell: str) -> list[str]:
    return next(each["text"] for each in kernel.shown[cell] if "error" in each).splitlines()


def cmdline(pid: int) -> bytes:
    from pathlib import Path

    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
