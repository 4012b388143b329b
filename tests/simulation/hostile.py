"""Hostile hours: machines die and pause, the store fails and rots, two supervisors meet, people meddle; a run survives."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core import events as ev
from supervisor.core.deadline import Lifetime
from supervisor.core.ports import StoreError
from supervisor.core.session import Config, SaveEvery
from supervisor.engine import steplog
from tests.simulation.drive_view import DriveView
from tests.simulation.observer import Observer, Violation
from tests.simulation.troubles import Bad, final_state
from tests.simulation.virtual_drive import CONFIRM_EVERY_S, Drive, Habits, Weather
from tests.simulation.virtual_store import Shelf, View
from tests.simulation.virtual_supervisor import KEEP, RUN, Supervisor, stop_request
from tests.simulation.virtual_trainer import Chain, Trainer
from tests.simulation.world import CALM, HOSTILE, Hostility, Machine, World

if TYPE_CHECKING:
    from collections.abc import Iterator

HOUR_S = 3600.0
STEP_S = 20.0
CALM_HOURS_MAX = 12.0
ANSWER_MARGIN_S = 30.0


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
        drive = history.shelf.counts if isinstance(history.shelf, Drive) else {}
        for name, number in (*history.observer.counts.items(), *drive.items()):
            self.counts[name] = self.counts.get(name, 0) + number


class History:
    """One run, from its first start through hostile hours to its end in calm ones."""

    def __init__(
        self, seed: int, hours: float, folder: Path, hostility: Hostility = HOSTILE, *, drive: bool = False,
        troubled: bool = False,
    ) -> None:  # fmt: skip
        self.world = World(seed, folder)
        chance = self.world.chance
        self.hostility, self.hours = hostility, hours
        self.hostile_s = 0.0
        self.shelf: Shelf | Drive = (
            Drive(self.world, Habits.drawn(chance, hostility.twin))
            if drive
            else Shelf(lag_s=chance.choice([0.0, 0.0, 0.0, 20.0]))
        )
        total = int(hours * HOUR_S / STEP_S * chance.uniform(0.2, 0.45))
        self.chain = Chain(seed, total, Bad.drawn(seed, total) if troubled else None)
        self.observer = Observer(self.world, self.shelf, self.chain, KEEP)
        fence_every_s = chance.choice([10.0, 20.0, 60.0])
        self.config = Config(
            save_every=chance.choice([SaveEvery(), SaveEvery("s", 240.0)]),
            lifetime=chance.choice([None, Lifetime(HOUR_S, hard=False), Lifetime(1.5 * HOUR_S, hard=True)]),
            settle_s=self.shelf.settle_s,
            fence_every_s=fence_every_s,
            answer_s=2 * self.shelf.settle_s + 2 * fence_every_s + ANSWER_MARGIN_S,
            confirm_every_s=CONFIRM_EVERY_S if drive else 0.0,
            can_flush=drive and chance.random() < 0.3,
            upload_wait_s=1800.0 if drive else 600.0,
            on_nan="rollback" if troubled else "ignore",
        )

    def live(self) -> None:
        """Go through the hostile hours, then see the run to its end. Raises Violation."""
        self.world.hostility = self.hostility
        for _ in range(self.world.chance.choice([0, 0, 1, 2]) if self.shelf.mounted else 0):
            self._start(takeover=False)  # several at once
        self._fleet()
        self._every("weather_every_s", self._weather)
        self._every("trainer_fails_every_s", self._fail_trainer)
        self._every("meddling_every_s", self._meddle)
        self._every("damage_every_s", self.observer.damage_newest)
        while self.world.now < self.hours * HOUR_S and not self.observer.finished:
            self.world.run_until(self.world.now + 60.0)
        self.hostile_s = self.world.now
        self.world.hostility = CALM
        self.shelf.calm()
        while not self.observer.finished:
            self.world.run_until(self.world.now + 60.0)
            if self.world.now > self.hostile_s + CALM_HOURS_MAX * HOUR_S:
                raise Violation(f"I16: the run does not end in {CALM_HOURS_MAX} calm hours")
        self._check_log()

    def _check_log(self) -> None:
        self.world.run_until(self.world.now + 100.0)
        self.observer.all_load()
        view = self._view()
        view.process = Reader(self.world.machine())  # type: ignore[assignment]
        try:
            rows = list(steplog.joined(view, RUN))
        except StoreError as error:
            raise Violation(f"I18: {error}") from error
        if self.chain.bad.batches:
            self.observer.withdrawals.replays(rows, final_state(self.observer))
        elif rows != self.chain.rows():
            steps = [each["step"] for each in rows]
            missing = sorted(set(range(self.chain.total)) - set(steps))
            raise Violation(f"I18: the step log has {len(rows)} of {self.chain.total} rows, without {missing[:5]}")

    def _view(self) -> View:
        if isinstance(self.shelf, Drive):
            return DriveView(self.shelf, self.world, self.observer)
        return View(self.shelf, self.world, self.observer)

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
        resume = "never" if self.observer.may_begin_anew() else "auto"
        config = replace(self.config, takeover=takeover, resume=resume)
        Supervisor(machine, self._view(), self.chain, config, self.observer)

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
        chance = self.world.chance
        lasts_s = chance.expovariate(1 / 400)
        if isinstance(self.shelf, Drive) and chance.random() < 0.7:
            self._trouble(self.shelf, lasts_s)
            return
        self.shelf.broken = chance.choice(["unreadable", "gone", "full", "full"])
        self.world.after(lasts_s, None, self._clear_up)

    def _trouble(self, drive: Drive, lasts_s: float) -> None:
        """What befalls a drive and no folder."""
        chance, now = self.world.chance, self.world.now
        for_ever = chance.random() < 0.15
        match chance.choice(["quota", "unreadable", "mount", "mount"]):
            case "quota":
                drive.stuck_until = inf if for_ever else now + 4 * lasts_s
            case "unreadable":
                self.observer.hide_newest(inf if for_ever else now + 4 * lasts_s)
            case "mount" if mounts := drive.mounts():
                mount = chance.choice(mounts)
                kind = chance.choice(["gone", "gone", "hung", "full", "unreadable"])
                mount.trouble = Weather(kind, now + lasts_s)
                if kind == "gone" and chance.random() < 0.5:
                    self.world.after(lasts_s, None, mount.lose_cache)

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
        rank = one.executor.storing.rank if one.executor else None
        if rank and rank.epoch:
            how = self.world.chance.choice(["save", "now"])
            name = stop_request(rank, how, self.world.chance.getrandbits(32))
            self.shelf.drop(name, b"{}", self.world.now)


@dataclass
class Reader:
    """Somebody on a fresh machine who only looks."""

    machine: Machine
    gone: bool = False
    executor: None = None


def live_through(
    hours: float,
    first_seed: int,
    hostility: Hostility = HOSTILE,
    each_hours: float = 4.0,
    drive: bool | None = None,
    *,
    troubled: bool = False,
) -> Iterator[Report]:
    """Live through at least so many hostile hours, one history after the other; yield the report after each.

    Even seeds are lived on a drive, odd ones in a folder, unless ``drive`` says where. ``troubled``: some batches are bad.
    """
    report, seed = Report(), first_seed
    memory = Path("/dev/shm")
    while report.hours < hours:
        folder = Path(tempfile.mkdtemp(prefix="simulation-", dir=memory if memory.is_dir() else None))
        where = seed % 2 == 0 if drive is None else drive
        try:
            history = History(seed, each_hours, folder, hostility, drive=where, troubled=troubled)
            history.live()
        except Violation as violation:
            raise AssertionError(f"seed {seed} {'on a drive' if where else 'in a folder'}: {violation}") from violation
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        report.add(history)
        seed += 1
        yield report
