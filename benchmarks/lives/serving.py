"""One row over the trace: blank machine after blank machine, the same command on each, until all of them have died."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.lives import Row, ledger
from benchmarks.lives.drive import ROOT, Limits, Machine
from benchmarks.lives.job import EPOCH_STEPS
from benchmarks.measuring import environments
from supervisor.stores import mounted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HERE = Path(__file__).resolve().parent
STEPS_MAX = 10_000_000
START_S_MAX = 90.0
STARTS_MAX = 4  # on one machine: a person gives up then
LOOK_EVERY_S = 0.005
ARRIVAL_EVERY_S = 0.02
SUPERVISED = "train_supervised.py"
STEP = re.compile(r"step-(\d+)")


class Trace(NamedTuple):
    """The lives in hours, how many seconds of ours an hour takes, what a step takes, and the drive."""

    lives_h: Sequence[float]
    hour_s: float
    step_s: float
    limits: Limits
    place: Path


class Served(NamedTuple):
    """What a row left. ``arrivals_s``: of ours, by step, how long a save took until another machine could restore it.

    ``waits_s``: seconds of a start that our protocol waits by default; the trace counts them, nobody sits through them.
    ``halves``: uploads that deaths cut off.
    """

    lives: list[ledger.Life]
    arrivals_s: dict[int, float]
    waits_s: float
    halves: int


class Turn(NamedTuple):
    """One machine's turn at a row. ``wait_s`` of its life goes by, beside the start that is seen."""

    row: Row
    place: Path
    python: str
    number: int
    wait_s: float

    @property
    def far(self) -> Path:
        return self.place / "far"


def serve(row: Row, trace: Trace) -> Served:
    """Let the row live all its lives; print a line a machine."""
    python = environments.interpreter(row.environment, row.packages)
    place = trace.place / re.sub(r"\W+", "-", row.name)
    (place / "far").mkdir(parents=True)
    watch = Watch(place / "far", row.kept)
    lives: list[ledger.Life] = []
    cut = 0
    try:
        for number, life_h in enumerate([*trace.lives_h, None]):
            turn = Turn(row, place, python, number, _wait_s(row))
            life, halves = _lived(turn, trace, life_h)
            lives.append(life)
            cut += len(halves)
            print(f"{row.name}: {_said(number, life, life_h)}", file=sys.stderr, flush=True)
    finally:
        watch.end()
    arrivals_s = watch.delays_s(lives) if row.script == SUPERVISED else {}
    return Served(lives, arrivals_s, _wait_s(row), cut)


def _wait_s(row: Row) -> float:
    """Return what a start of ours waits that its wall time does not show: the settle time of a Drive."""
    return mounted.SETTLE_S if row.script == SUPERVISED else 0.0


def _lived(turn: Turn, trace: Trace, life_h: float | None) -> tuple[ledger.Life, list[str]]:
    """Let one machine live: a start takes what it takes, and from the first step on an hour takes ``hour_s``."""
    had = any(path.stat().st_size for path in turn.far.glob(f"run/{turn.row.kept}"))
    life = ledger.Life(time.perf_counter(), had, turn.wait_s)
    machine = Machine(turn.place, turn.far, trace.limits)
    halves: list[str] = []
    try:
        while not life.lines and life.raised < STARTS_MAX:
            book = turn.place / f"ledger-{turn.number}-{life.raised}.txt"
            command = _command(turn, trace, machine, book, life.raised)
            job = machine.start(command, turn.place / f"said-{turn.number}.txt")
            _until(lambda book=book: _begun(book), job, time.perf_counter() + START_S_MAX)
            life.lines = ledger.read(book)
            life.raised += not life.lines
            if not life.lines and job.poll() is None:
                break  # it hangs; a machine's time is not given to two
        if life.start_s is not None and life_h is not None:
            end_s = life.lines[0].ended_s + (life_h - life.start_s / 3600) * trace.hour_s
            _until(lambda: False, job, end_s)
    finally:
        halves = machine.die()
    if life.lines:
        life.lines = ledger.read(book)
    return life, halves


def _command(turn: Turn, trace: Trace, machine: Machine, book: Path, skip: int) -> list[str]:
    store, script = str(machine.mount / "run"), str(HERE / turn.row.script)
    told = ["--ledger", str(book), "--steps", str(STEPS_MAX), "--step-s", str(trace.step_s)]
    if turn.row.script != SUPERVISED:
        return [turn.python, script, "--store", store, *told, "--skip", str(skip)]
    every = ["--save-every", f"{EPOCH_STEPS}steps"] if turn.row.each == "epoch" else []
    # Who knows that the last machine is gone, as on Colab where one runs at a time, says so always.
    own = ["--takeover", *every]
    factor = f"{3600 / trace.hour_s:g}"
    start = [turn.python, "-m", "benchmarks.lives.lapse", factor, "start", script, "--store", store]
    return [*start, *own, "--", *told]


def reference(row: Row, steps: int, place: Path) -> dict[int, str]:
    """Return the losses of the run that nothing interrupts, without pace and drive; torch's is the same for all torch rows."""
    script, python = ("train_keras.py", environments.interpreter(row.environment, row.packages))
    if row.reference == "torch":
        script, python = "train_torch.py", sys.executable
    book, store = place / f"reference-{row.reference}.txt", place / f"reference-{row.reference}"
    command = [
        python, str(HERE / script), "--store", str(store), "--ledger", str(book), "--steps", str(steps), "--step-s", "0",
        "--every", str(STEPS_MAX * EPOCH_STEPS),
    ]  # fmt: skip
    own = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, env={**os.environ, **own}, cwd=place, check=True, capture_output=True)
    shutil.rmtree(store, ignore_errors=True)
    return {line.step: line.loss for line in ledger.read(book)}


class Watch:
    """Notes when each checkpoint's last file shows on the far side: from then on another machine can restore it."""

    def __init__(self, far: Path, kept: str) -> None:
        self._far, self._kept = far, f"run/{kept}"
        self._seen_s: dict[int, float] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Look no longer."""
        self._end.set()
        self._thread.join()

    def delays_s(self, lives: Sequence[ledger.Life]) -> dict[int, float]:
        """Return for each checkpoint that arrived, by its step, how long after that step's end it was."""
        found: dict[int, float] = {}
        for life in lives:
            for line in life.lines:
                seen_s = self._seen_s.get(line.step + 1)
                if seen_s is not None and line.ended_s < seen_s:
                    found[line.step + 1] = seen_s - line.ended_s
        return found

    def _look(self) -> None:
        while not self._end.wait(ARRIVAL_EVERY_S):
            with contextlib.suppress(FileNotFoundError):  # a folder was removed just now
                for path in self._far.glob(self._kept):
                    if match := STEP.search(path.parent.name):
                        self._seen_s.setdefault(int(match[1]), time.perf_counter())


def _until(seen: Callable[[], bool], job: subprocess.Popen[bytes], end_s: float) -> None:
    while not seen() and job.poll() is None and time.perf_counter() < end_s:
        time.sleep(LOOK_EVERY_S)  # because the moment of the death is what was drawn


def _begun(book: Path) -> bool:
    return book.exists() and book.stat().st_size > 0


def _said(number: int, life: ledger.Life, life_h: float | None) -> str:
    lived = f"lived {life_h:.2f} h" if life_h is not None else "after the last death"
    failed = f"; {life.raised} starts failed" if life.raised else ""
    if not life.lines or life.start_s is None:
        return f"machine {number + 1}, {lived}: no step{failed}"
    return (
        f"machine {number + 1}, {lived}: first step {life.lines[0].step:,} after {life.start_s:.1f} s, "
        f"last {life.lines[-1].step:,}{failed}"
    )
