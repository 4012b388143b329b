"""Sweeps: the same story again and again, harmed at the next call each time. `python -m tests.faults.sweep [STRIDE]` does all.

SUPERVISOR_FAULTS=all makes the test suite do every point too; by default it takes every few, with a moving start.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from supervisor.core import checkpoint as cp
from supervisor.core import events as ev
from tests.faults import syscalls
from tests.faults.laws import laws_hold
from tests.faults.stores import WORLDS
from tests.faults.world import Turn, Violation, World, before, demand, named, restless, story

if TYPE_CHECKING:
    from collections.abc import Iterator

ALL = os.environ.get("SUPERVISOR_FAULTS") == "all"
ERRNOS = (
    errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.ENOTCONN, errno.ESTALE, errno.EROFS, errno.EACCES,
)  # fmt: skip

Tell = Callable[[Turn, Callable[[cp.CheckpointId], None]], None]


def calls_of(start: World, scratch: Path) -> int:
    """Count the calls of the story."""
    world = start.copy(scratch)
    with syscalls.bent(syscalls.straight) as counted:
        story(world.turn("second"), lambda _: None)
    shutil.rmtree(scratch)
    return counted[0]


def killed(
    start: World, scratch: Path, act: syscalls.Act, tell: Tell = story, machine: str = "second"
) -> tuple[World, bool]:
    """Tell the story in a process that dies on the way; return what it leaves, with what it had said to be safe.

    The second answer says whether it died: it may have come to its end first.
    """
    world = start.copy(scratch)
    ear, mouth = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with syscalls.bent(act):
                tell(world.turn(machine), lambda id_: _say(mouth, id_))
            code = 0
        finally:
            os._exit(code)
    os.close(mouth)
    with os.fdopen(ear) as heard:
        for line in heard:
            epoch, step, writer, seq = line.split()
            world.safe.append(cp.CheckpointId(int(epoch), int(step), writer, int(seq)))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    demand(code in {0, syscalls.KILLED}, f"the process ended with {code}")
    return world, code != 0


def kill_sweep(start: World, scratch: Path, points: Iterator[int]) -> int:
    """Kill before each of the points, whole and in the middle of writes; a machine that comes then must go on."""
    done = 0
    for point in points:
        for torn, machine in ((False, "fresh"), (True, "second")):
            world, died = killed(start, scratch, syscalls.killed_at(point, torn=torn))
            if died:
                try:
                    laws_hold(world, machine)
                except Exception as error:
                    raise Violation(f"killed at call {point} (torn: {torn}, next on {machine}): {error!r}") from error
                done += 1
            shutil.rmtree(scratch)
    return done


def chain(start: World, root: Path, chance: random.Random, deaths: int) -> None:
    """Kill turn after turn at random calls, on two machines that keep their disks; then the laws must hold."""
    world = start
    for number in range(deaths):
        machine = chance.choice(("second", "third"))
        act = syscalls.killed_at(chance.randint(1, 1500), torn=chance.random() < 0.5)
        tell = partial(restless, unpublished=chance.randint(0, 2))
        after, _ = killed(world, root / f"world-{number}", act, tell, machine)
        if world is not start:
            shutil.rmtree(world.root)
        world = after
    laws_hold(world, chance.choice(("second", "third", "fresh")))
    shutil.rmtree(world.root)


def fault_sweep(start: World, scratch: Path, acts: Iterator[tuple[str, Callable[..., syscalls.Act]]]) -> int:
    """Tell the story with a fault; what fails must have a name; once the fault is gone all must succeed."""
    done = 0
    for words, make in acts:
        world = start.copy(scratch)
        try:
            faulty_story(world, make)
        except Exception as error:
            raise Violation(f"{words}: {error!r}") from error
        shutil.rmtree(scratch)
        done += 1
    return done


def faulty_story(world: World, make: Callable[..., syscalls.Act]) -> None:
    """Try each act once more at once, as the supervisor does later; then lift the fault and finish."""
    down = [True]
    with syscalls.bent(make(of=world.where, down=lambda: down[0])):
        turn, folders = _faulty_turn(world)
        down[0] = False
        for folder in folders:
            outcome = named(lambda folder=folder: turn.publish(folder))
            demand(isinstance(outcome, ev.Durable), f"a later try fails: {outcome!r}")
    _forget_staged(world)
    laws_hold(world)


def _faulty_turn(world: World) -> tuple[Turn, list[Path]]:
    """Begin as often as it takes (twice: each failed start is a new one), then save and retain."""
    waiting: list[Path] = []
    for _ in range(2):
        turn = world.turn("second")
        ready = named(turn.begin)
        if isinstance(ready, ev.CheckpointReady):
            break
        demand(isinstance(ready, Exception), f"it begins with {ready!r}")
    else:
        return turn, []
    for number in (1, 2):
        folder = turn.stage()
        for _ in range(2):
            outcome = named(lambda folder=folder: turn.publish(folder))
            if isinstance(outcome, ev.Durable):
                break
        demand(
            isinstance(outcome, ev.Durable | Exception)
            or (isinstance(outcome, ev.PublishFailed) and not outcome.hopeless),
            f"a fault of the store ends as {outcome!r}",
        )
        waiting = [] if isinstance(outcome, ev.Durable) else [folder]
        named(turn.storing.retain)
        named(lambda number=number: turn.journal_piece(number))
    return turn, waiting


def faults(calls: int, stride: int) -> Iterator[tuple[str, Callable[..., syscalls.Act]]]:
    """Every errno and every kind of bad write at every call (or every ``stride``-th), passing and lasting."""
    kinds = [(f"{errno.errorcode[code]}", _failing(code)) for code in ERRNOS]
    kinds += [(f"{how} write", _mangled(how)) for how in ("short", "lost", "garbage")]
    for index, (words, kind) in enumerate(kinds):
        for lasting in (False, True):
            for point in range(1 + (7 * index + lasting) % stride, calls + 1, stride):
                yield (
                    f"{words} at call {point}{' and from then on' if lasting else ''}",
                    lambda point=point, lasting=lasting, kind=kind, **more: kind(point, lasting, **more),
                )


def _failing(code: int) -> Callable[..., syscalls.Act]:
    return lambda point, lasting, **more: syscalls.failing(point, code, lasting=lasting, **more)


def _mangled(how: str) -> Callable[..., syscalls.Act]:
    return lambda point, lasting, **more: syscalls.mangled(point, how, lasting=lasting, **more)


def _forget_staged(world: World) -> None:
    shutil.rmtree(world.root / "second", ignore_errors=True)


def _say(mouth: int, id_: cp.CheckpointId) -> None:
    syscalls.REAL["write"](mouth, f"{id_.epoch} {id_.step} {id_.writer} {id_.seq}\n".encode())


def main() -> int:
    """Do every point of every size, or every so many faults, and print how many there were."""
    stride = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    for words, (size, made) in WORLDS.items():
        with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
            root = Path(folder)
            start = before(root / "start", size, made)
            calls = calls_of(start, root / "scratch")
            began = perf_counter()
            kills = kill_sweep(start, root / "scratch", iter(range(1, calls + 1, stride)))
            print(f"{words}: {calls} calls; {kills} kills in {perf_counter() - began:.0f} s; ", end="", flush=True)
            began, chance = perf_counter(), random.Random(1)
            for _ in range(1000 // stride):
                chain(start, root, chance, deaths=6)
            print(f"{1000 // stride} chains of 6 in {perf_counter() - began:.0f} s; ", end="", flush=True)
            began = perf_counter()
            harms = fault_sweep(start, root / "scratch", faults(calls, stride))
            print(f"{harms} faults in {perf_counter() - began:.0f} s; 0 violations", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
