"""The fleet's composition root: picks the provisioner and builds a controller ready to run."""

from __future__ import annotations

import fcntl
import os
import signal
from contextlib import contextmanager
from dataclasses import field
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from supervisor import wiring
from supervisor.core import fleet_words as fw
from supervisor.core import program
from supervisor.core.errors import FENCED, UsageError, UserError
from supervisor.core.fleet_serving import named
from supervisor.core.fleet_state import LEFT, Policy
from supervisor.core.spelling import meant
from supervisor.core.values import dataclass, replace
from supervisor.engine import overview, project, runs
from supervisor.engine.clock import BootClock
from supervisor.engine.place import RunPlace
from supervisor.fleet import lately
from supervisor.fleet.controller import Controller, Journal
from supervisor.fleet.hands import FleetHands, Home
from supervisor.fleet.lately import digest, state_root
from supervisor.fleet.provisioners import TABLE
from supervisor.fleet.relay import HomeRun
from supervisor.views import fleet as view
from supervisor.views.status import progress
from supervisor.views.wrapping import show as show_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from supervisor.core.fleet_state import Fleet
    from supervisor.core.ports import Store
    from supervisor.core.provisioning import Provisioner
    from supervisor.fleet import bundle

DEFAULT_STORE = "./runs"
PREFIX_HEX = 6
SETTLE_S = 5.0
RELEASE_MARGIN_S = 1800.0  # after the time a person set, for what is not fetched yet


@dataclass(frozen=True, slots=True)
class Launch:
    """What the command line chose. ``on``: a provisioner, with its place behind a colon where it has one."""

    on: str
    store: str
    shipment: bundle.Shipment
    policy: Policy = Policy()
    json_lines: bool = False
    environ: Mapping[str, str] = field(default_factory=dict)
    same_run: bool = False


def serve(launch: Launch) -> int:
    """Have the run served by one machine after another until it ends; return the exit code."""
    program.set_about(launch.shipment.name, _option(launch))
    folder = state_root(launch.environ)
    provisioner = find_provisioner(launch.on, folder, launch.environ)
    store = wiring.open_store(launch.store)
    run = RunPlace(launch.shipment.name)
    mine = lately.folder(launch.environ, run.name, launch.store)
    journal = Journal(mine, f"{run.name}-{os.urandom(PREFIX_HEX // 2).hex()}")
    try:
        with _account(provisioner, folder, run.name):
            return _serve(launch, provisioner, store, journal, mine)
    finally:
        journal.close()


def _serve(launch: Launch, provisioner: Provisioner, store: Store, journal: Journal, mine: Path) -> int:
    clock, run = BootClock(), RunPlace(launch.shipment.name)
    _require_same_place(journal.first, launch.on)
    if not launch.same_run:
        runs.require_same(store, run, project.of(launch.shipment.script))
    if journal.first.machine is None and _finished(store, run, clock):
        show_lines(f"{run.name}: this run is finished already, and this computer holds its results")
        show_lines("  to train from the start: add --name OTHER (a run of its own)")
        return 0
    policy = _policy(launch.policy, provisioner)
    home = HomeRun(store, run, mine / "relay", clock)

    def release_at_s() -> float | None:
        until = policy.until_wall_s
        left = None if until is None else max(0.0, until - clock.now().wall_s) + RELEASE_MARGIN_S
        return min((each for each in (left, provisioner.traits.life_s) if each is not None), default=None)

    here = Home(store, run, home, mine / "way")
    hands = FleetHands(provisioner, here, launch.shipment, describe=progress, release_at_s=release_at_s)
    show = view.choose(provisioner.traits.place, policy, json_lines=launch.json_lines)
    controller = Controller(journal, hands, clock, show)
    _listen_to_signals(controller)
    try:
        show.begins(controller.fleet)
        hands.withdraw_stop()  # of an earlier launch: who launches again wants the run to go on
        _tell_of_edits(show, hands.pack(), controller.fleet)
        end = controller.run(policy, launch.on)
        if end.state == LEFT:
            end = _take_back(controller, hands, end)
    finally:
        show.close()
    record = runs.read(store, run)
    nan = None if record is None else overview.look(store, run, record, clock.now()).plain.get("nan")
    view.say_goodbye(
        end,
        controller.fleet,
        run.name,
        _option(launch),
        json_lines=launch.json_lines,
        begun=record is not None,
        nan=nan,
    )
    return end.exit_code


def _option(launch: Launch) -> str:
    return program.store_option(launch.store if launch.store != DEFAULT_STORE else None)


@contextmanager
def _account(provisioner: Provisioner, folder: Path, run: str) -> Iterator[None]:
    """Hold the account for one launch, where its machines cost units: one machine at a time, whatever the run."""
    if not provisioner.traits.paid:
        yield
        return
    place = folder / provisioner.name
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (place / "account.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            words = f"another launch on this computer uses this {provisioner.traits.place} account: run {lock.read().strip()}"
            raise UserError(
                words, "one machine at a time for an account: wait for its end, or stop it there", FENCED
            ) from None
        lock.truncate(0)
        lock.write(f"{run}\n")
        lock.flush()
        yield


def _tell_of_edits(show: view.Screen, edited: Sequence[str], fleet: Fleet) -> None:
    """Say which files are not what the machines before were sent: the next one gets them as they are now."""
    if not (edited and (fleet.lives or fleet.machine)):
        return
    first = f"{fleet.machine.endpoint} goes on with the code that it has; " if fleet.machine is not None else ""
    words = (
        f"the project was edited since the last launch ({named(edited)}): {first}the next machine gets it as it is now"
    )
    show.said(fw.Say("warning", words, "put the files back before you launch, if that is not meant"))


def _take_back(controller: Controller, hands: FleetHands, end: fw.End) -> fw.End:
    """Withdraw the stop of a launch that leaves, and say where that comes too late."""
    controller.settle(SETTLE_S)
    delivered = hands.withdraw_stop()
    if not (delivered and controller.fleet.stop):
        return end
    words = f"{end.words}; the stop had reached it before, so the run may save and end there"
    return fw.End(end.exit_code, end.state, words, "the same command goes on with the run in any case")


def _finished(store: Store, run: RunPlace, clock: BootClock) -> bool:
    record = runs.read(store, run)
    return record is not None and overview.look(store, run, record, clock.now()).state == "SUCCEEDED"


def _require_same_place(first: Fleet, on: str) -> None:
    """Refuse to look for a machine where it is not: it would count as lost, and another would be brought up beside it."""
    if first.machine is not None and first.on not in {"", on}:
        words = f"{first.machine.endpoint} still serves this run, on {first.on}"
        raise UserError(words, f"launch with --on {first.on}: that goes on with it, and Ctrl-C there gives it back")


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


def _policy(policy: Policy, provisioner: Provisioner) -> Policy:
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
        controller.tell(fw.Told("leave" if leave else "stop", f"stopped by {_NAMES[signal.Signals(number)]}"))

    for number in _NAMES:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, hear)


_NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "the closed terminal"}
