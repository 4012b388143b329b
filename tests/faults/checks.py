"""The checks that planted bugs must be noticed by: each passes on the program as it is, and raises Violation for a broken law."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from supervisor.core import claim
from supervisor.core import events as ev
from supervisor.core.ports import Unconfirmed
from supervisor.core.rollback import ANEW_NAME
from supervisor.stores import drive
from tests.faults import syscalls
from tests.faults.laws import every_file_is_its_sessions_own, it_resumes_from, laws_hold, nothing_safe_is_lost
from tests.faults.leftovers import no_manifest_yet, parts_left_behind
from tests.faults.losses import cloud_sweep, names_are_whole, power_sweep
from tests.faults.mounts import mount_lost_and_back
from tests.faults.ruin import Ruin, damage
from tests.faults.sweep import calls_of, faulty_story, kill_sweep
from tests.faults.world import KEEP, RUN, World, before, demand, named

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.core.ports import Store

    Made = Callable[[str], Store]

TINY = (1, 30)
HOW = ("lost", "garbage")


def check_power(root: Path, made: Made) -> None:
    power_sweep(before(root / "start", TINY, made), root, 3)


def check_names(root: Path, _made: Made) -> None:
    names_are_whole(root)


def check_kills(root: Path, made: Made) -> None:
    start = before(root / "start", TINY, made)
    kill_sweep(start, root / "scratch", iter(range(1, calls_of(start, root / "scratch"), 25 if start.mounted else 9)))


def check_damage(root: Path, made: Made) -> None:
    ruin, chance = Ruin(root, made), random.Random(3)
    for _ in range(60):
        damage(ruin, chance)
        ruin.judge()
        ruin.mend()


def check_staged_damage(root: Path, made: Made) -> None:
    """What the local disk spoils between staging and linking never gets a manifest."""
    world = before(root / "start", TINY, made)
    turn = world.turn("second")
    turn.begin()
    folder_ = turn.stage()
    (folder_ / "state-00000.safetensors").write_bytes(bytes(TINY[1]))
    outcome = named(lambda: turn.publish(folder_))
    demand(isinstance(outcome, ev.PublishFailed), f"a spoilt file was published: {outcome!r}")
    laws_hold(world)


def check_retention(root: Path, made: Made) -> None:
    """Retention on a store whose newest checkpoints are only SUBMITTED deletes nothing that is DURABLE."""
    world = before(root / "start", TINY, made)
    turn = world.turn("second")
    turn.begin()
    turn.store.evidence = no_manifest_yet
    for _ in range(KEEP + 1):
        named(lambda: turn.publish(turn.stage()))
        turn.storing.retain()
        nothing_safe_is_lost(world)


def check_order(root: Path, made: Made) -> None:
    """A later session that reached less is gone on with, although an older one reached further, and has newer mtimes.

    Without its record that it began at step 0, because that alone already leaves the older ones out.
    """
    world = before(root / "start", TINY, made)
    turn = world.turn("second")
    turn.begin(afresh=True)
    (world.root / "store" / RUN.session(turn.storing.rank) / ANEW_NAME).unlink()
    turn.publish(turn.stage(2))
    for path in (world.root / "store" / RUN.name).rglob("*"):
        os.utime(path, (0, 0) if str(turn.storing.rank) in str(path) else None)
    fresh = world.turn("fresh")
    it_resumes_from(world, fresh, fresh.begin(), max(world.safe))


def check_unreadable(root: Path, made: Made) -> None:
    world = before(root / "start", TINY, made)
    turn = world.turn("second")
    turn.claim()
    newest = max(world.safe)
    step = world.root / "store" / RUN.step(claim.Rank(newest.epoch, newest.writer), newest.step)
    with syscalls.bent(_dead(f"{step}/state")):
        outcome = named(turn.restore)
    demand(isinstance(outcome, Exception), f"unreadable was taken for absent: {outcome!r}")


def check_dead_mount(root: Path, made: Made) -> None:
    world = before(root / "start", TINY, made)
    turn = world.turn("second")
    with syscalls.bent(_dead(world.where)):
        outcome = named(turn.storing.look)
    demand(isinstance(outcome, Exception), f"a dead mount looks like a new store: {outcome!r}")


def check_fence(root: Path, made: Made) -> None:
    """A session that was paused and wakes behind a successor publishes nothing and deletes nothing."""
    world = before(root / "start", TINY, made)
    zombie = world.turn("zombie")
    zombie.begin()
    folder_, successor = zombie.stage(), world.turn("successor")
    successor.begin()
    for _ in range(KEEP + 1):
        successor.publish(successor.stage())
    listing = _listing(world)
    outcomes = [named(lambda: zombie.publish(folder_)), named(zombie.storing.retain)]
    demand(all(isinstance(each, ev.FenceSeen) for each in outcomes), f"a zombie goes on: {outcomes}")
    demand(_listing(world) == listing, "a zombie changed the store")


def check_short_writes(root: Path, made: Made) -> None:
    world = before(root / "start", TINY, made)
    turn = world.turn("second")
    turn.begin()
    folder_ = turn.stage()
    with syscalls.bent(syscalls.mangled(1, "short", lasting=True, of=world.where)):
        outcome = named(lambda: turn.publish(folder_))
    demand(isinstance(outcome, ev.Durable), f"short writes are not completed: {outcome!r}")


def check_lost_writes(root: Path, made: Made) -> None:
    """A disk that says it took all and did not, or took something else, is found out before anything is called safe."""
    start = before(root / "start", TINY, made)
    for point in range(1, calls_of(start, root / "scratch"), 40):
        faulty_story(
            start.copy(root / f"world-{point}"),
            lambda point=point, **more: syscalls.mangled(point, HOW[point // 40 % 2], lasting=True, **more),
        )


def check_evidence(root: Path, made: Made) -> None:
    world = before(root / "start", TINY, made)
    turn = world.turn("second")
    turn.begin()
    turn.store.evidence = _not_yet
    outcome = named(lambda: turn.publish(turn.stage()))
    demand(not isinstance(outcome, ev.Durable), f"called safe without evidence: {outcome!r}")


def check_sharing(root: Path, made: Made) -> None:
    """Checkpoints rest on files of their own session that were DURABLE, and keep them when the first that had them goes."""
    world = before(root / "start", made=made)
    nothing_safe_is_lost(world)
    turn = world.turn("second")
    turn.begin()
    turn.store.evidence = no_manifest_yet
    named(lambda: turn.publish(turn.stage()))
    del turn.store.evidence
    for _ in range(KEEP):
        turn.publish(turn.stage())
        turn.storing.retain()
    every_file_is_its_sessions_own(world)
    laws_hold(world)


def check_epochs(root: Path, made: Made) -> None:
    laws_hold(before(root / "start", TINY, made))


def check_clouds(root: Path, made: Made) -> None:
    cloud_sweep(before(root / "start", TINY, made), root, 60)


def check_leftovers(root: Path, made: Made) -> None:
    parts_left_behind(root, made)


def check_mount(root: Path, _made: Made) -> None:
    mount_lost_and_back(root)


def check_trash(root: Path, made: Made) -> None:
    """Retention removes no file that has content: what is in the trash of a drive counts against the quota."""
    world = before(root / "start", TINY, made)
    turn = world.turn("second")
    turn.begin()

    def act(call: syscalls.Call) -> Any:
        if call.name == "unlink" and call.path.startswith(world.where):
            demand(Path(call.path).stat().st_size == 0, f"{call.path} goes to the trash as it is")
        return call.go()

    for _ in range(KEEP + 1):
        turn.publish(turn.stage())
        with syscalls.bent(act), mock.patch.object(drive, "EMPTIED_BYTES_MIN", 0):
            turn.storing.retain()


def check_torn_writes(root: Path, made: Made) -> None:
    """A file of which a part stays, because the drive fails while it is written and while it is removed, is made later."""
    world = before(root / "start", TINY, made)
    turn = world.turn("second")
    turn.begin()
    folder_ = turn.stage()
    for kind in ("journal-", "manifest-", "log-", "checkpoint.json", "state-"):
        acts = (lambda: turn.journal_piece(1), lambda: turn.publish(folder_))
        with syscalls.bent(_torn(kind)):
            for act in acts:
                named(act)
    for act in acts:
        outcome = named(act)
        demand(not isinstance(outcome, Exception), f"what an earlier try left is in the way: {outcome!r}")
    demand(isinstance(outcome, ev.Durable), f"it cannot be saved any more: {outcome!r}")
    laws_hold(world)


def _torn(kind: str) -> syscalls.Act:
    def act(call: syscalls.Call) -> Any:
        if f"/{kind}" in call.path and call.name in {"write", "unlink"}:
            if call.name == "write":
                call.real(call.args[0], bytes(call.args[1])[: len(call.args[1]) // 2])
            raise OSError(errno.EIO, "Input/output error", call.path)
        return call.go()

    return act


def _dead(path: str) -> syscalls.Act:
    def act(call: syscalls.Call) -> Any:
        if call.path.startswith(path):
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected", call.path)
        return call.go()

    return act


def _not_yet(_path: str) -> str:
    raise Unconfirmed("not uploaded yet")


def _listing(world: World) -> list[tuple[str, bytes]]:
    paths = sorted((world.root / "store").rglob("*"))
    return [(str(path), path.read_bytes() if path.is_file() else b"") for path in paths]
