"""The fleet's composition root: picks the provisioner and builds a controller ready to run."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from dataclasses import field
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from supervisor import composition as wiring
from supervisor.core import shell_commands
from supervisor.core.errors import FENCED, UsageError, UserError
from supervisor.core.fleet import messages as fw
from supervisor.core.fleet.serving import named
from supervisor.core.fleet.state import LEFT, FleetPolicy
from supervisor.core.frozen import dataclass, replace
from supervisor.core.suggestion import meant
from supervisor.engine import atomic
from supervisor.engine.clock import BootClock
from supervisor.engine.paths import RunPaths
from supervisor.engine.run_catalog import project, run_status, runs
from supervisor.fleet import last_launch
from supervisor.fleet.controller import Controller, FleetJournal
from supervisor.fleet.executor import FleetExecutor, Home
from supervisor.fleet.home_replica import HomeReplica
from supervisor.fleet.last_launch import digest, state_root
from supervisor.fleet.provisioners import TABLE
from supervisor.views import fleet as view
from supervisor.views.status import progress
from supervisor.views.wrapping import show as show_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from supervisor.core.fleet.provisioning import Provisioner
    from supervisor.core.fleet.state import Fleet
    from supervisor.core.ports import Store
    from supervisor.fleet import job_bundle

DEFAULT_STORE = "./runs"
PREFIX_HEX = 6
SETTLE_S = 5.0
RELEASE_MARGIN_S = 1800.0  # after the time a person set, for what is not fetched yet


@dataclass(frozen=True, slots=True)
class FleetLaunch:
    """What the command line chose. ``on``: a provisioner, with its place behind a colon where it has one."""

    on: str
    store: str
    bundle: job_bundle.JobBundle
    policy: FleetPolicy = FleetPolicy()
    json_lines: bool = False
    environ: Mapping[str, str] = field(default_factory=dict)
    same_run: bool = False


def serve(launch: FleetLaunch) -> int:
    """Have the run served by one machine after another until it ends; return the exit code."""
    shell_commands.set_about(launch.bundle.name, _option(launch))
    folder = state_root(launch.environ)
    provisioner = find_provisioner(launch.on, folder, launch.environ)
    store = wiring.open_store(launch.store)
    run = RunPaths(launch.bundle.name)
    mine = last_launch.folder(launch.environ, run.name, launch.store)
    journal = FleetJournal(mine, f"{run.name}-{os.urandom(PREFIX_HEX // 2).hex()}")
    try:
        with _account(provisioner, folder, run.name):
            return _serve(launch, provisioner, store, journal, mine)
    finally:
        journal.close()


def _serve(launch: FleetLaunch, provisioner: Provisioner, store: Store, journal: FleetJournal, mine: Path) -> int:
    clock, run = BootClock(), RunPaths(launch.bundle.name)
    _require_same_place(journal.first, launch.on)
    if not launch.same_run:
        runs.require_same(store, run, project.of(launch.bundle.script))
    if journal.first.machine is None and _finished(store, run, clock):
        show_lines(f"{run.name}: this run is finished already, and this computer holds its results")
        show_lines("  to train from the start: add --name OTHER (a run of its own)")
        return 0
    policy = _policy(launch.policy, provisioner)
    home = HomeReplica(store, run, mine / "relay", clock)

    def release_at_s() -> float | None:
        until = policy.until_wall_s
        left = None if until is None else max(0.0, until - clock.now().wall_s) + RELEASE_MARGIN_S
        return min((each for each in (left, provisioner.traits.life_s) if each is not None), default=None)

    here = Home(store, run, home, mine / "way")
    executor = FleetExecutor(provisioner, here, launch.bundle, describe=progress, release_at_s=release_at_s)
    show = view.choose(provisioner.traits.place, policy, json_lines=launch.json_lines)
    controller = Controller(journal, executor, clock, show)
    _listen_to_signals(controller)
    try:
        show.started(controller.fleet)
        executor.cancel_stop()  # of an earlier launch: who launches again wants the run to go on
        _tell_of_edits(show, executor.pack(), controller.fleet)
        end = controller.run(policy, launch.on)
        if end.state == LEFT:
            end = _take_back(controller, executor, end)
    finally:
        show.close()
    record = runs.read(store, run)
    nan = None if record is None else run_status.look(store, run, record, clock.now()).plain.get("nan")
    view.print_summary(
        end,
        controller.fleet,
        run.name,
        _option(launch),
        json_lines=launch.json_lines,
        begun=record is not None,
        nan=nan,
    )
    return end.exit_code


def _option(launch: FleetLaunch) -> str:
    return shell_commands.store_option(launch.store if launch.store != DEFAULT_STORE else None)


@contextmanager
def _account(provisioner: Provisioner, folder: Path, run: str) -> Iterator[None]:
    """Hold the account for one launch, where its machines cost units: one machine at a time, whatever the run."""
    if not provisioner.traits.paid:
        yield
        return
    place = folder / provisioner.name
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (place / "account.lock").open("a+") as lock:
        if not atomic.lock(lock.fileno()):
            lock.seek(0)
            words = f"another launch on this computer uses this {provisioner.traits.place} account: run {lock.read().strip()}"
            raise UserError(words, "one machine at a time for an account: wait for its end, or stop it there", FENCED)
        lock.truncate(0)
        lock.write(f"{run}\n")
        lock.flush()
        yield


def _tell_of_edits(show: view.FleetScreen, edited: Sequence[str], fleet: Fleet) -> None:
    """Say which files are not what the machines before were sent: the next one gets them as they are now."""
    if not (edited and (fleet.machine_history or fleet.machine)):
        return
    first = f"{fleet.machine.endpoint} goes on with the code that it has; " if fleet.machine is not None else ""
    words = (
        f"the project was edited since the last launch ({named(edited)}): {first}the next machine gets it as it is now"
    )
    show.notify(fw.Report("warning", words, "put the files back before you launch, if that is not meant"))


def _take_back(controller: Controller, executor: FleetExecutor, end: fw.EndController) -> fw.EndController:
    """Withdraw the stop of a launch that leaves, and say where that comes too late."""
    controller.settle(SETTLE_S)
    delivered = executor.cancel_stop()
    if not (delivered and controller.fleet.stop):
        return end
    words = f"{end.message}; the stop had reached it before, so the run may save and end there"
    return fw.EndController(end.exit_code, end.state, words, "the same command goes on with the run in any case")


def _finished(store: Store, run: RunPaths, clock: BootClock) -> bool:
    record = runs.read(store, run)
    return record is not None and run_status.look(store, run, record, clock.now()).state == "SUCCEEDED"


def _require_same_place(first: Fleet, on: str) -> None:
    """Refuse to look for a machine where it is not: it would count as lost, and another would be brought up beside it."""
    if first.machine is not None and first.provider not in {"", on}:
        words = f"{first.machine.endpoint} still serves this run, on {first.provider}"
        raise UserError(words, f"launch with --on {first.provider}: that resumes it, and Ctrl-C there releases it")


def find_provisioner(on: str, folder: Path, environ: Mapping[str, str]) -> Provisioner:
    """Return the provisioner of ``--on``. Raises UsageError for one that there is not."""
    name, _, where = on.partition(":")
    row = TABLE.get(name)
    if row is None or bool(where) != (name == "ssh"):
        raise UsageError(
            f"--on {on}: there is no such place",
            f"{meant(name, TABLE)}one of {', '.join(TABLE).replace('ssh', 'ssh:HOST')}",
        )
    module, _, kind = row.partition(":")
    made: Any = getattr(import_module(module), kind)
    named = {"where": where} if where else {}
    return cast("Provisioner", made(folder / (f"{name}-{digest(where)}" if where else name), environ, **named))


def _policy(policy: FleetPolicy, provisioner: Provisioner) -> FleetPolicy:
    traits = provisioner.traits
    return replace(
        policy, paid=traits.paid, poll_s=traits.poll_s, listings=traits.listings, listings_apart_s=traits.listings_apart_s,
        billed_s=traits.life_s or policy.billed_s,
    )  # fmt: skip


def _listen_to_signals(controller: Controller) -> None:
    """The first Ctrl-C or SIGTERM saves and gives the machine back; the second, or a closed terminal, leaves it running."""
    heard: list[int] = []

    def hear(number: int, _frame: object) -> None:
        heard.append(number)
        leave = number == signal.SIGHUP or len(heard) > 1
        controller.tell(fw.UserRequest("leave" if leave else "stop", f"stopped by {_NAMES[signal.Signals(number)]}"))

    for number in _NAMES:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, hear)


_NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "the closed terminal"}
