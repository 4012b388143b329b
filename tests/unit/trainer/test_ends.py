"""What is told of a script's end: kinds of errors, the script's own line, and loops that were left in the middle."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error

import pytest

from supervisor.core.messages import Finished, ScriptFailed
from supervisor.trainer import ends
from supervisor.trainer.hooks.unattached import Unattached
from supervisor.trainer.life import Life
from supervisor.trainer.settings import read_settings


class Run:
    """As much of a run as the kinds depend on."""

    def __init__(self, *, came_through_a_step):
        self.came_through_a_step = came_through_a_step

    def is_device_oom(self, error):
        return "CUDA out of memory" in str(error)


class Here:
    """As much of the process as the kinds depend on."""

    def __init__(self, *, steps=0):
        self.run = Run(came_through_a_step=bool(steps))
        self.unattached = None
        self.stopped = False


def raised(error):
    try:
        raise error
    except type(error) as caught:
        return caught


def within(error, cause):
    error.__cause__ = raised(cause)
    return error


class Wrapped(Exception):  # noqa: N818
    pass


@pytest.mark.parametrize(
    ("error", "kind", "later"),
    [
        (NameError("x"), "code", "code"),
        (UnboundLocalError("x"), "code", "code"),
        (ImportError("x"), "setup", "code"),
        (ModuleNotFoundError("x"), "setup", "code"),
        (IndentationError("x"), "setup", "code"),
        (TypeError("x"), "code", "script"),
        (AttributeError("x"), "code", "script"),
        (KeyError("x"), "script", "script"),
        (ValueError("x"), "script", "script"),
        (IndexError("x"), "script", "script"),
        (AssertionError("x"), "script", "script"),
        (ZeroDivisionError("x"), "script", "script"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "script", "script"),
        (FileNotFoundError("x"), "script", "script"),
        (OSError("x"), "outage", "outage"),
        (ConnectionResetError("x"), "outage", "outage"),
        (TimeoutError("x"), "outage", "outage"),
        (urllib.error.URLError("x"), "outage", "outage"),
        (MemoryError("x"), "outage", "outage"),
        (RuntimeError("CUDA error: an illegal memory access"), "outage", "outage"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal"), "outage", "outage"),
        (RuntimeError("CUDA out of memory"), "device-oom", "device-oom"),
        (within(Wrapped("download failed"), ConnectionError("x")), "outage", "outage"),
        (within(Wrapped("cannot read"), KeyError("x")), "script", "script"),
    ],
)
def test_errors_are_told_apart_before_and_after_the_first_step(error, kind, later):
    assert ends.failure(Here(), raised(error)).kind == kind
    assert ends.failure(Here(steps=9), raised(error)).kind == later


def test_a_script_that_is_not_attached_has_made_progress_only_after_a_step_was_seen():
    here = Life(read_settings({}, "train.py"))
    here.say = list[object]().append
    script = Unattached(here)
    here.watch(script)
    for begin in (lambda: None, script.begins):
        begin()
        assert ends.failure(here, raised(ImportError("x"))).kind == "setup"
        assert ends.failure(here, raised(TypeError("x"))).kind == "code"
        assert ends.chosen(here, raised(SystemExit(2))).kind == "setup"
    script.stepped()
    assert ends.failure(here, raised(ImportError("x"))).kind == "code"
    assert ends.failure(here, raised(TypeError("x"))).kind == "script"
    assert ends.chosen(here, raised(SystemExit(2))).kind == "exit"


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("no batch 31", "no batch 31"),
        (
            "Error downloading:\nTried a mirror, got:\n<urlopen error>\n",
            "Error downloading: Tried a mirror, got: <urlopen error>",
        ),
        (
            "Exception in call().\n\n\x1b[1mno attribute 'Variable'\x1b[0m",
            "Exception in call(). no attribute 'Variable'",
        ),
        ("x" * 900, "x" * 300 + " …"),
        ("", ""),
    ],
)
def test_an_error_is_told_in_one_line_whatever_its_message(message, told):
    failed = ends.failure(Here(), raised(ValueError(message)))
    assert failed.message == told


def test_the_line_is_the_scripts_own_also_where_a_library_fails():
    with pytest.raises(ValueError, match="Expecting") as caught:
        json.loads("{")
    told = ends.failure(Here(), caught.value)
    assert told.where.startswith(__file__)
    assert told.kind == "script"


def test_a_type_error_inside_a_library_may_be_anything():
    with pytest.raises(TypeError) as caught:
        json.loads(7)
    assert ends.failure(Here(), caught.value).kind == "script"


# --- the whole way, in a process of its own ----------------------------------------------------------------------

SCRIPT = """
import sys
sys.path.insert(0, ROOT)
from supervisor.core.messages import Finished
from supervisor.trainer import ends, life
import supervisor

def steps_of(total):
    yield from run.steps(total)

def through(loop):
    for each in loop:
        yield each

def ends_here():
    sys.exit(0)

run = supervisor.attach()
def body():
{body}
try:
    body()
except SystemExit as ended:
    told = ends.word(life.here(), ended)
else:
    told = ends.word(life.here(), None)
print("TOLD", type(told).__name__, run.step)
"""
LOOP = "for step in {loop}:\n    run.log(value=step)\n    if step == 25: {then}\n"


def told(tmp_path, body):
    script = tmp_path / "script.py"
    root = str(ends.Path(ends.__file__).resolve().parents[2])
    indented = "".join(f"    {line}\n" for line in body.splitlines())
    script.write_text(SCRIPT.replace("ROOT", repr(root)).replace("{body}", indented))
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "TOLD" in done.stdout, done.stderr
    return done.stdout.partition("TOLD ")[2].split()


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["run.steps(40)", "through(run.steps(40))", "steps_of(40)", "zip(run.steps(40))"])
def test_a_script_that_exits_inside_its_loop_has_not_finished(tmp_path, loop):
    loop = f"(each for each, in {loop})" if loop.startswith("zip") else loop
    kind, step = told(tmp_path, LOOP.format(loop=loop, then="sys.exit(0)"))
    assert (kind, step) == (ScriptFailed.__name__, "26")


@pytest.mark.slow
@pytest.mark.parametrize(
    "body",
    [
        LOOP.format(loop="run.steps(40)", then="ends_here()"),
        "try:\n"
        + "".join(f"    {line}\n" for line in LOOP.format(loop="run.steps(40)", then="exit()").splitlines())
        + "finally:\n    print('tidy')",
        "with open(__file__):\n"
        + "".join(f"    {line}\n" for line in LOOP.format(loop="run.steps(40)", then="sys.exit()").splitlines()),
        "loop = run.steps(40)\nglobals()['kept'] = loop\n" + LOOP.format(loop="loop", then="sys.exit(0)"),
        "run.begin(40)\nfor step in range(40):\n    run.advance()\n    if step == 25: sys.exit(0)",
    ],
    ids=["in a function", "try", "with", "a loop that is kept", "a framework's loop"],
)
def test_however_it_exits_inside_its_loop_it_has_not_finished(tmp_path, body):
    assert told(tmp_path, body)[0] == ScriptFailed.__name__


@pytest.mark.slow
@pytest.mark.parametrize(
    "body",
    [
        LOOP.format(loop="run.steps(40)", then="break"),
        LOOP.format(loop="run.steps(40)", then="break") + "sys.exit(0)",
        LOOP.format(loop="through(run.steps(40))", then="break") + "ends_here()",
        "def train():\n"
        + "".join(f"    {line}\n" for line in LOOP.format(loop="run.steps(40)", then="return 0").splitlines())
        + "sys.exit(train())",
        "for step in run.steps(26):\n    run.log(value=step)\nsys.exit(0)",
        "for step in run.steps(26):\n    run.log(value=step)\n    if step == 25: sys.exit(0)",
        "run.begin(40)\nfor step in range(40):\n    run.advance()\n    if step == 25: break\nrun.end()\nsys.exit(0)",
        "sys.exit(0)",
    ],
    ids=[
        "break",
        "break and exit",
        "break of a wrapped loop",
        "return and exit",
        "all",
        "in the last step",
        "ended",
        "none",
    ],
)
def test_a_loop_that_was_left_by_the_script_and_then_an_exit_is_the_end(tmp_path, body):
    assert told(tmp_path, body)[0] == Finished.__name__
