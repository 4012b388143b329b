"""Virtual time: machines that die, pause and wake, and the order in which everything on them happens.

A process that is paused inside a store operation is the zombie of design/store.md: while it stands still the world goes
on, and then it writes, last. This is done by running the rest of the world inside its operation.
"""

from __future__ import annotations

import heapq
import shutil
from dataclasses import dataclass, field
from itertools import count
from random import Random
from threading import get_ident
from typing import TYPE_CHECKING, Any, Protocol

from supervisor.core.instant import Instant

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NESTED_MAX = 3


class Died(BaseException):
    """The process ended between two instructions. Nothing may catch it: it is not an error, it is the end."""


class Process(Protocol):
    """Something that runs on a machine."""

    machine: Machine
    gone: bool

    def die(self) -> None: ...


@dataclass(eq=False)
class Machine:
    """A computer with its own clocks and its own local disk, which vanishes with it."""

    world: World
    number: int
    root: Path
    mono_origin_s: float
    wall_origin_s: float
    processes: list[Process] = field(default_factory=list)
    paused_until: float = 0.0
    gone: bool = False

    def now(self) -> Instant:
        """Return this machine's time; it implements core.ports.Clock."""
        return Instant(self.world.now + self.mono_origin_s, self.world.now + self.wall_origin_s)

    def die(self) -> None:
        """End at once, with everything that is on it."""
        self.gone = True
        for process in [*self.processes]:
            process.die()
        shutil.rmtree(self.root, ignore_errors=True)


@dataclass(frozen=True)
class Hostility:
    """How bad it is. Chances are for each store operation; times in seconds."""

    die_at_op: float = 0.0
    machine_dies_with_it: float = 0.5
    pause_at_op: float = 0.0
    error_at_op: float = 0.0
    lost_answer: float = 0.0
    pause_s: float = 900.0
    machine_life_s: float | None = None
    weather_every_s: float | None = None
    trainer_fails_every_s: float | None = None
    meddling_every_s: float | None = None
    damage_every_s: float | None = None
    twin: float = 0.01  # of a file on a drive


CALM = Hostility()
HOSTILE = Hostility(
    die_at_op=0.002,
    pause_at_op=0.003,
    error_at_op=0.01,
    lost_answer=0.004,
    machine_life_s=4000.0,
    weather_every_s=5000.0,
    trainer_fails_every_s=2500.0,
    meddling_every_s=2000.0,
    damage_every_s=3000.0,
)


class World:
    """Keeps the time and does everything in its order. All chance is in ``chance``."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.chance = Random(seed)
        self.folder = folder
        self.now = 0.0
        self.hostility = CALM
        self.machines: list[Machine] = []
        self._numbers = count(1)
        self._heap: list[tuple[float, int, Process | None, Callable[[], Any]]] = []
        self._nested = 0
        self._foreign = 0
        self._thread = get_ident()

    def machine(self) -> Machine:
        """Bring up a fresh machine; its clocks begin at different odd numbers."""
        number = len(self.machines) + 1
        root = self.folder / f"machine-{number}"
        made = Machine(self, number, root, self.chance.uniform(1, 1e6), self.chance.uniform(1e6, 2e9))
        self.machines.append(made)
        return made

    def after(self, seconds: float, process: Process | None, act: Callable[[], Any]) -> None:
        """Do something later, unless the process is gone by then."""
        self._foreign += get_ident() != self._thread
        heapq.heappush(self._heap, (self.now + seconds, next(self._numbers), process, act))

    def run_until(self, at: float) -> None:
        """Let the time pass until ``at``."""
        assert not self._foreign, "a real thread took part: the same seed would be another history each time"
        while self._heap and self._heap[0][0] <= at:
            due, _, process, act = heapq.heappop(self._heap)
            self.now = max(self.now, due)
            if process is None:
                act()
            elif process.gone:
                continue
            elif process.machine.paused_until > self.now:
                # a moment later or at once: whether the operation that stood still or another thread goes on first is chance
                self.after(process.machine.paused_until - self.now + self.chance.choice([0.0, 0.5]), process, act)
            else:
                self._let(process, act)
        self.now = max(self.now, at)

    def hazard(self, process: Process) -> None:
        """What may befall a process at any instruction: it is paused, or dies, alone or with its machine."""
        bad, roll = self.hostility, self.chance.random()
        if roll < bad.pause_at_op and self._nested < NESTED_MAX:
            self._pause_here(process, self.chance.expovariate(1 / bad.pause_s))
        elif bad.pause_at_op <= roll < bad.pause_at_op + bad.die_at_op:
            if self.chance.random() < bad.machine_dies_with_it:
                process.machine.die()
            raise Died

    def stall(self, process: Process, seconds: float) -> None:
        """Let an operation wait for an answer: its lane stands still, its process and its machine go on."""
        if self._nested < NESTED_MAX:
            self._nested += 1
            try:
                self.run_until(self.now + seconds)
            finally:
                self._nested -= 1
        if process.gone:
            raise Died

    def _pause_here(self, process: Process, seconds: float) -> None:
        until = self.now + seconds
        process.machine.paused_until = max(until, process.machine.paused_until)
        self._nested += 1
        try:
            self.run_until(until)
        finally:
            self._nested -= 1
        process.machine.paused_until = 0.0
        if process.gone:
            raise Died

    def _let(self, process: Process, act: Callable[[], Any]) -> None:
        try:
            act()
        except Died:
            process.die()
