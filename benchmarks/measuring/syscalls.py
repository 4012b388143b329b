"""Counts the flushes of one save with strace, between two marks that the traced process leaves."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from benchmarks.engines.engine import Engine
    from benchmarks.measuring.state import State

FLUSHES = ("fsync", "fdatasync", "syncfs", "sync", "msync")
MARK = "/mark-of-the-benchmark"  # a name asked for and never there
TRACED = ",".join(("?access", "?faccessat", "?faccessat2", *(f"?{name}" for name in FLUSHES)))


def between_marks(engine: Engine, state: State) -> None:
    """Save once so that everything is in place, then once between the marks."""
    for mark in ("", MARK):
        state.touch()
        if mark:
            os.access(mark, os.F_OK)
        engine.save()
        engine.before_update()
        engine.commit()
        if mark:
            os.access(mark, os.F_OK)


def flushes(command: Sequence[str], environ: Mapping[str, str], trace: Path, seconds: float) -> int | None:
    """Run the command under strace and return the flushes between its marks; None where strace is absent or fails."""
    strace = shutil.which("strace")
    if strace is None:
        return None
    traced = [strace, "-f", "--seccomp-bpf", "-qq", "-e", f"trace={TRACED}", "-o", str(trace), *command]
    with subprocess.Popen(
        traced, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            return None
    return counted(trace.read_text(errors="replace").splitlines()) if trace.is_file() else None


def counted(lines: Sequence[str]) -> int | None:
    """Return how many flushes a trace shows between its two marks; None if it has not both."""
    marks = [number for number, line in enumerate(lines) if MARK in line and "resumed" not in line]
    if len(marks) < 2:
        return None
    called = re.compile(rf"^\d+\s+(?:{'|'.join(FLUSHES)})\(")
    return sum(bool(called.match(line)) for line in lines[marks[0] : marks[1]])
