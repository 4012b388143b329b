"""What stays on a narrow terminal is never broken inside a word, and errors are coloured there."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from benchmarks.machines import TOY
from supervisor.views.wrapping import GREEN, RED, width

if TYPE_CHECKING:
    from benchmarks.machines import Machine

pytestmark = pytest.mark.slow
REDRAWN = re.compile(r"[^\n]*\r\x1b\[K")  # the live line, which is made to fit


def on_a_terminal(machine: Machine, columns: int, *words: str) -> str:
    ours, theirs = pty.openpty()
    environ = machine.environ(COLUMNS=str(columns), TERM="xterm")
    environ.pop("NO_COLOR", None)
    with subprocess.Popen(
        machine.command(*words), cwd=machine.work, env=environ, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:
                break  # Linux says so at the end of a terminal
            if not piece:
                break
            shown += piece
        process.wait()
    os.close(ours)
    return shown.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("columns", [60, 80])
def test_no_permanent_line_is_broken_inside_a_word(machine: Machine, columns: int) -> None:
    arguments = ("--save-every", "100ms", "--", "--steps", "30")
    shown = [
        on_a_terminal(machine, columns, "start", str(TOY), *arguments),
        on_a_terminal(machine, columns, "status"),
        on_a_terminal(machine, columns, "list"),
        on_a_terminal(machine, columns, "doctor"),
        on_a_terminal(machine, columns, "checkpoints"),
        on_a_terminal(machine, columns, "start", str(TOY), "--keep-last", "1"),
        on_a_terminal(machine, columns, "status", "another"),
    ]
    for text in shown:
        for line in REDRAWN.sub("", text).splitlines():
            assert width(line) <= columns or len(line.strip().removesuffix(" \\").split()) == 1, line
    assert RED in shown[-1]
    assert all(f"{GREEN}SUCCEEDED" in text for text in shown[:3]), shown[:3]
    assert all("\x1b" not in machine.run(verb).stdout for verb in ("status", "list"))
