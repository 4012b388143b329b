"""stdin, stdout and stderr closed, full or without a reader: a run goes on, and every other command ends in words."""

from __future__ import annotations

import json
import shlex
import subprocess
from typing import TYPE_CHECKING

import pytest

from benchmarks.machines import TOY, WAIT_S_MAX

if TYPE_CHECKING:
    from benchmarks.machines import Machine

pytestmark = pytest.mark.slow
ENDS = (">&-", "<&-", "2>&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full", "| true")


def shell(machine: Machine, streams: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the product with its streams led elsewhere; the exit code is the command's own."""
    line = f"{shlex.join(machine.command(*words))} {streams}; exit ${{PIPESTATUS[0]}}"
    return subprocess.run(
        ["bash", "-c", line], cwd=machine.work, env=machine.environ(), capture_output=True, text=True,
        timeout=WAIT_S_MAX, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("streams", ENDS)
def test_a_run_goes_to_its_end_whoever_reads_of_it(machine, streams):
    ended = shell(machine, streams, "start", str(TOY), "--", "--steps", "30", "--step-ms", "1")
    assert "Traceback" not in ended.stdout + ended.stderr
    assert ended.returncode == 0, ended.stderr
    [told] = json.loads(machine.run("list", "--json").stdout)
    assert (told["state"], told["checkpoints"]["durable"]) == ("SUCCEEDED", 30)


@pytest.mark.parametrize(
    "verb", [("list",), ("status",), ("logs",), ("checkpoints",), ("nosuch",), ("--help",)], ids=" ".join
)
def test_what_only_tells_ends_in_words_or_in_silence(machine, verb):
    machine.run("start", str(TOY), "--", "--steps", "30", "--step-ms", "1")
    whole = machine.run(*verb)
    for streams in ENDS:
        ended = shell(machine, streams, *verb)
        assert "Traceback" not in ended.stdout + ended.stderr, streams
        assert "Exception ignored" not in ended.stderr, streams
        full = streams == ">/dev/full" and whole.stdout
        assert ended.returncode == (4 if full else whole.returncode), streams
        assert ("the output cannot be written: No space left on device" in ended.stderr) == bool(full)
