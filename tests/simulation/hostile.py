"""Hostile hours: machines die and pause, the store fails and rots, two supervisors meet, people meddle; a run survives."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core import events as ev
from supervisor.core.deadline import Lifetime
from supervisor.core.session import Config, SaveEvery
from supervisor.engine import steplog
from tests.simulation.observer import Observer, Violation
from tests.simulation.virtual_store import Shelf, View
from tests.simulation.virtual_supervisor import KEEP, RUN, Supervisor, stop_request
from tests.simulation.virtual_trainer import Chain, Trainer
from tests.simulation.world import CALM, HOSTILE, Hostility, Machine, World

if TYPE_CHECKING:
    from collections.abc import Iterator

HOUR_S = 3600.0
STEP_S = 20.0
CALM_HOURS_MAX = 12.0


@dataclass
class Report:
    """What was lived through."""

    hours: float = 0.0
    machines: int = 0
    sessions: int = 0
    finished: int = 0
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, history: History) -> None:
        """Count a history in."""
        self.hours += history.hostile_s / HOUR_S
        self.machines += len(history.world.machines)
        self.sessions += len(history.observer.sessions)
        self.finished += history.observer.finished
        for name, number in history.observer.counts.items():
            self.counts[name] = self.counts.get(name, 0) + number


class History:
    """One run, from its first start through hostile hours to its end in calm ones."""

    def __init__(self, seed: int, hours: float, folder: Path, hostility: Hostility = HOSTILE) -> None:
        self.world = World(seed, folder)
        chance = self.world.chance
        self.hostility, self.hours = hostility, hours
        self.hostile_s = 0.0
        self.shelf = Shelf(lag_s=chance.choice([0.0, 0.0, 0.0, 20.0]))
        self.chain = Chain(seed, int(hours * HOUR_S / STEP_S * chance.uniform(0.3, 0.6)))
        self.observer = Observer(self.world, self.shelf, self.chain, KEEP)
        self.config = Config(
            save_every=chance.choice([SaveEvery(), SaveEvery("s", 240.0)]),
            lifetime=chance.choice([None, Lifetime(HOUR_S, hard=False), Lifetime(1.5 * HOUR_S, hard=True)]),
            settle_s=1.5 * self.shelf.lag_s,
            fence_every_s=chance.choice([20.0, 60.0]),
        )

    def live(self) -> None:
        """Go through the hostile hours, then see the run to its end. Raises Violation."""
        self.world.hostility = self.hostility
        self._fleet()
        self._every("weather_every_s", self._weather)
        self._every("trainer_fails_every_s", self._fail_trainer)
        self._every("meddling_every_s", self._meddle)
        self._every("damage_every_s", self.observer.damage_newest)
        while self.world.now < self.hours * HOUR_S and not self.observer.finished:
            self.world.run_until(self.world.now + 60.0)
        self.hostile_s = self.world.now
        self.world.hostility, self.shelf.broken = CALM, ""
        while not self.observer.finished:
            self.world.run_until(self.world.now + 60.0)
            if self.world.now > self.hostile_s + CALM_HOURS_MAX * HOUR_S:
                raise Violation(f"I16: the run does not end in {CALM_HOURS_MAX} calm hours")
        self._check_log()

    def _check_log(self) -> None:
        self.world.run_until(self.world.now + 100.0)
        view = View(self.shelf, self.world, self.observer)
        view.process = next(iter(self.observer.sessions.values()))
        rows = list(steplog.joined(view, RUN))
        if rows != self.chain.rows():
            steps = [each["step"] for each in rows]
            missing = sorted(set(range(self.chain.total)) - set(steps))
            raise Violation(f"I18: the step log has {len(rows)} of {self.chain.total} rows, without {missing[:5]}")

    # --- people and machines ------------------------------------------------------------------------------------------

    def _alive(self) -> list[Supervisor]:
        return [each for each in self.observer.sessions.values() if not each.gone]

    def _fleet(self) -> None:
        """Somebody sees to it that the run is served: on a machine that still lives, or on a fresh one."""
        if not self._alive() and not self.observer.finished:
            self._start(takeover=False)
        self.world.after(self.world.chance.uniform(20, 200), None, self._fleet)

    def _start(self, *, takeover: bool) -> None:
        chance = self.world.chance
        here = [each for each in self.world.machines if not each.gone and each.paused_until <= self.world.now]
        machine = chance.choice(here) if here and chance.random() < 0.5 else self._fresh()
        config = replace(self.config, takeover=takeover)
        Supervisor(machine, View(self.shelf, self.world, self.observer), self.chain, config, self.observer)

    def _fresh(self) -> Machine:
        machine = self.world.machine()
        if self.hostility.machine_life_s:
            life_s = self.world.chance.expovariate(1 / self.hostility.machine_life_s)
            self.world.after(life_s, None, lambda: self._reclaim(machine))
        return machine

    def _reclaim(self, machine: Machine) -> None:
        if self.world.hostility is not CALM:
            machine.die()

    def _every(self, name: str, act: object) -> None:
        mean_s = getattr(self.world.hostility, name)
        if mean_s:
            self.world.after(self.world.chance.expovariate(1 / mean_s), None, lambda: self._again(name, act))

    def _again(self, name: str, act: object) -> None:
        if self.world.hostility is not CALM:
            act()  # type: ignore[operator]
            self._every(name, act)

    def _weather(self) -> None:
        self.shelf.broken = self.world.chance.choice(["unreadable", "gone", "full", "full"])
        self.world.after(self.world.chance.expovariate(1 / 400), None, self._clear_up)

    def _clear_up(self) -> None:
        self.shelf.broken = ""

    def _fail_trainer(self) -> None:
        chance = self.world.chance
        trainers = [each for each in self._trainers() if not each.gone]
        if not trainers:
            return
        victim = chance.choice(trainers)
        roll = chance.random()
        if roll < 0.3:
            victim.hangs = True
            victim.deaf = chance.random() < 0.5
        elif roll < 0.5:
            victim.exit(-9, oom=True)
        else:
            victim.exit(chance.choice([1, -9, -11]))

    def _trainers(self) -> list[Trainer]:
        return [each for machine in self.world.machines for each in machine.processes if isinstance(each, Trainer)]

    def _meddle(self) -> None:
        chance, serving = self.world.chance, self._alive()
        roll = chance.random()
        if roll < 0.4 or not serving:
            self._start(takeover=chance.random() < 0.5)
            return
        one = chance.choice(serving)
        if roll < 0.6:
            one.machine.paused_until = self.world.now + chance.expovariate(1 / self.hostility.pause_s)
        elif roll < 0.7:
            one.hear(ev.Signalled(chance.choice(["SIGINT", "SIGTERM", "SIGHUP"])))
        elif roll < 0.75:
            one.hear(ev.Notice(120.0, "spot"))
        elif roll < 0.85:
            self._ask_to_stop(one)
        else:
            one.die()

    def _ask_to_stop(self, one: Supervisor) -> None:
        rank = one.executor.storing.rank
        if rank.epoch:
            how = self.world.chance.choice(["save", "now"])
            name = stop_request(rank, how, self.world.chance.getrandbits(32))
            self.shelf.put(name, b"{}", None, self.world.now)


def live_through(
    hours: float, first_seed: int, hostility: Hostility = HOSTILE, each_hours: float = 4.0
) -> Iterator[Report]:
    """Live through at least so many hostile hours, one history after the other; yield the report after each."""
    report, seed = Report(), first_seed
    memory = Path("/dev/shm")
    while report.hours < hours:
        folder = Path(tempfile.mkdtemp(prefix="simulation-", dir=memory if memory.is_dir() else None))
        try:
            history = History(seed, each_hours, folder, hostility)
            history.live()
        except Violation as violation:
            raise AssertionError(f"seed {seed}: {violation}") from violation
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        report.add(history)
        seed += 1
        yield report
