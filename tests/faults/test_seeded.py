"""Every bug on the design's list, planted: at least one of the checks of this folder must notice it."""

from __future__ import annotations

import errno
import os
import random
from typing import TYPE_CHECKING, Any

import pytest

from supervisor.core import claim
from supervisor.core import events as ev
from supervisor.core.ports import StoreError
from tests.faults import plants, syscalls
from tests.faults.laws import every_file_is_its_sessions_own, it_resumes_from, laws_hold, nothing_safe_is_lost
from tests.faults.ruin import Ruin, damage
from tests.faults.sweep import calls_of, faulty_story, kill_sweep
from tests.faults.test_power import names_are_whole, power_sweep
from tests.faults.world import KEEP, RUN, Violation, World, before, demand, named

if TYPE_CHECKING:
    from pathlib import Path

TINY = (1, 30)

# checks: each passes on the program as it is (see the other files) and raises Violation where a law is broken


def check_power(root: Path) -> None:
    power_sweep(before(root / "start", TINY), root, 3)


def check_names(root: Path) -> None:
    names_are_whole(root)


def check_kills(root: Path) -> None:
    start = before(root / "start", TINY)
    kill_sweep(start, root / "scratch", iter(range(1, calls_of(start, root / "scratch"), 7)))


def check_damage(root: Path) -> None:
    ruin, chance = Ruin(root), random.Random(3)
    for _ in range(60):
        damage(ruin, chance)
        ruin.judge()
        ruin.mend()


def check_staged_damage(root: Path) -> None:
    """What the local disk spoils between staging and linking never gets a manifest."""
    world = before(root / "start", TINY)
    turn = world.turn("second")
    turn.begin()
    folder_ = turn.stage()
    (folder_ / "state-00000.safetensors").write_bytes(bytes(TINY[1]))
    outcome = named(lambda: turn.publish(folder_))
    demand(isinstance(outcome, ev.PublishFailed), f"a spoilt file was published: {outcome!r}")
    laws_hold(world)


def check_retention(root: Path) -> None:
    """Retention on a store whose newest checkpoints are only SUBMITTED deletes nothing that is DURABLE."""
    world = before(root / "start", TINY)
    turn = world.turn("second")
    turn.begin()
    turn.store.evidence = _not_yet
    for _ in range(KEEP + 1):
        named(lambda: turn.publish(turn.stage()))
        turn.storing.retain()
        nothing_safe_is_lost(world)


def check_order(root: Path) -> None:
    """A later session that began anew is gone on with, although an older one reached further, and has newer mtimes."""
    world = before(root / "start", TINY)
    turn = world.turn("second")
    turn.begin(afresh=True)
    turn.publish(turn.stage(2))
    for path in (world.root / "store" / RUN.name).rglob("*"):
        os.utime(path, (0, 0) if str(turn.storing.rank) in str(path) else None)
    fresh = world.turn("fresh")
    it_resumes_from(world, fresh, fresh.begin(), max(world.safe))


def check_unreadable(root: Path) -> None:
    world = before(root / "start", TINY)
    turn = world.turn("second")
    turn.claim()
    newest = max(world.safe)
    step = world.root / "store" / RUN.step(claim.Rank(newest.epoch, newest.writer), newest.step)
    with syscalls.bent(_dead(f"{step}/state")):
        outcome = named(turn.restore)
    demand(isinstance(outcome, Exception), f"unreadable was taken for absent: {outcome!r}")


def check_dead_mount(root: Path) -> None:
    world = before(root / "start", TINY)
    turn = world.turn("second")
    with syscalls.bent(_dead(world.where)):
        outcome = named(turn.storing.look)
    demand(isinstance(outcome, Exception), f"a dead mount looks like a new store: {outcome!r}")


def check_fence(root: Path) -> None:
    """A session that was paused and wakes behind a successor publishes nothing and deletes nothing."""
    world = before(root / "start", TINY)
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


def check_short_writes(root: Path) -> None:
    world = before(root / "start", TINY, apart=True)
    turn = world.turn("second")
    turn.begin()
    folder_ = turn.stage()
    with syscalls.bent(syscalls.mangled(1, "short", lasting=True, of=world.where)):
        outcome = named(lambda: turn.publish(folder_))
    demand(isinstance(outcome, ev.Durable), f"short writes are not completed: {outcome!r}")


def check_lost_writes(root: Path) -> None:
    """A disk that says it took all and did not is found out before anything is called safe."""
    start = before(root / "start", TINY, apart=True)
    for point in range(1, calls_of(start, root / "scratch"), 40):
        faulty_story(
            start.copy(root / f"world-{point}"),
            lambda point=point, **more: syscalls.mangled(point, "lost", lasting=True, **more),
        )


def check_evidence(root: Path) -> None:
    world = before(root / "start", TINY)
    turn = world.turn("second")
    turn.begin()
    turn.store.evidence = _not_yet
    outcome = named(lambda: turn.publish(turn.stage()))
    demand(isinstance(outcome, StoreError), f"called safe without evidence: {outcome!r}")


def check_sharing(root: Path) -> None:
    """Checkpoints rest on files of their own session that were DURABLE, and keep them when the first that had them goes."""
    world = before(root / "start")
    nothing_safe_is_lost(world)
    turn = world.turn("second")
    turn.begin()
    turn.store.evidence = _not_yet
    named(lambda: turn.publish(turn.stage()))
    del turn.store.evidence
    for _ in range(KEEP):
        turn.publish(turn.stage())
        turn.storing.retain()
    every_file_is_its_sessions_own(world)
    laws_hold(world)


def check_epochs(root: Path) -> None:
    laws_hold(before(root / "start", TINY))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plant", "check"),
    [
        (plants.no_flush_of_files, check_power),
        (plants.no_flush_of_folders, check_power),
        (plants.linked_before_flushed, check_names),
        (plants.links_trusted, check_staged_damage),
        (plants.manifest_first, check_kills),
        (plants.trusting_reader, check_damage),
        (plants.eager_deletion, check_retention),
        (plants.order_by_step, check_order),
        (plants.order_by_mtime, check_order),
        (plants.skip_on_eio, check_unreadable),
        (plants.exists_on_a_dead_mount, check_dead_mount),
        (plants.no_fence, check_fence),
        (plants.short_writes_ignored, check_short_writes),
        (plants.no_reading_back, check_lost_writes),
        (plants.age_as_evidence, check_evidence),
        (plants.epoch_reused, check_epochs),
        (plants.shared_files_forgotten, check_sharing),
        (plants.shared_with_another_session, check_sharing),
        (plants.shared_before_it_is_durable, check_sharing),
    ],
    ids=lambda each: each.__name__,
)
def test_a_planted_bug_is_noticed(quick, plant, check):
    (quick / "sound").mkdir()
    (quick / "planted").mkdir()
    check(quick / "sound")
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        with pytest.raises(Violation) as noticed:
            check(quick / "planted")
    print(f"{plant.__name__}: {noticed.value}")  # shown by pytest -rP


def _dead(path: str) -> syscalls.Act:
    def act(call: syscalls.Call) -> Any:
        if call.path.startswith(path):
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected", call.path)
        return call.go()

    return act


def _not_yet(_path: str) -> str:
    raise StoreError("not uploaded yet")


def _listing(world: World) -> list[tuple[str, bytes]]:
    paths = sorted((world.root / "store").rglob("*"))
    return [(str(path), path.read_bytes() if path.is_file() else b"") for path in paths]
