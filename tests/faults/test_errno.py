"""Any call fails in any way, once or from then on: the outcome has a name, nothing safe is lost, a later try succeeds."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from supervisor.core import events as ev
from supervisor.core.errors import FAILED_PRECHECKS, UserError
from supervisor.core.ports import StoreError
from supervisor.stores.folder import FolderStore
from tests.faults import syscalls
from tests.faults.laws import laws_hold
from tests.faults.stores import WORLDS, OnADrive
from tests.faults.sweep import ALL, calls_of, fault_sweep, faults
from tests.faults.world import RUN, Turn, World, before, named

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.core.ports import Store

FAULT_STRIDE = 1 if ALL else 195
DRIVE_POINTS = 8  # of each kind of fault, once and lasting


@pytest.fixture(params=[FolderStore, OnADrive], ids=["in a folder", "on a drive"])
def made(request) -> Callable[[str], Store]:
    return request.param


@pytest.mark.slow
@pytest.mark.parametrize(("size", "made"), WORLDS.values(), ids=WORLDS)
def test_every_fault_of_the_store_has_a_name_and_passes(quick, size, made):
    start = before(quick / "start", size, made)
    calls = calls_of(start, quick / "scratch")
    stride = calls // DRIVE_POINTS if start.mounted and not ALL else FAULT_STRIDE
    assert fault_sweep(start, quick / "scratch", faults(calls, stride)) > 130


@pytest.mark.slow
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS], ids=errno.errorcode.get)
def test_every_fault_of_the_local_disk_has_a_name_and_loses_nothing_safe(quick, made, code):
    start = before(quick / "start", made=made)
    calls = calls_of(start, quick / "scratch")
    for point in range(1, calls + 1, 1 if ALL else calls // 15):
        world = start.copy(quick / f"world-{point}")
        with syscalls.bent(syscalls.failing(point, code, lasting=True, of=str(world.root / "second"))):
            turn = world.turn("second")
            if isinstance(named(turn.begin), ev.CheckpointReady):
                for _ in range(2):
                    folder = named(turn.stage)
                    if not isinstance(folder, Exception):
                        named(lambda folder=folder, turn=turn: turn.publish(folder))
                    named(turn.storing.retain)
        laws_hold(world)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.ENOSPC, "full"), (errno.EDQUOT, "full"), (errno.EROFS, "read-only"), (errno.EACCES, "read-only"),
        (errno.ENOTCONN, "gone"), (errno.ESTALE, "gone"), (errno.EIO, "unreadable"),
    ],
)  # fmt: skip
def test_a_save_that_fails_says_why_and_is_not_called_safe(quick, made, code, kind):
    world, turn = _ready(quick, made)
    folder, safe = turn.stage(), list(world.safe)
    with syscalls.bent(syscalls.failing(1, code, lasting=True, of=world.where)):
        failed = named(lambda: turn.publish(folder))
    assert isinstance(failed, StoreError)
    assert failed.kind == kind
    assert world.safe == safe
    assert isinstance(turn.publish(folder), ev.Durable)


def test_a_store_whose_root_vanished_is_gone_and_is_not_made_anew_on_the_disk_below(quick):
    world, turn = _ready(quick)
    folder = turn.stage()
    (world.root / "store").rename(world.root / "elsewhere")
    for act in (
        lambda: turn.publish(folder),
        lambda: turn.journal_piece(9),
        turn.storing.look_at_fence,
        turn.storing.retain,
    ):
        failed = named(act)
        assert isinstance(failed, StoreError)
        assert failed.kind == "gone"
    assert not (world.root / "store").exists()


def test_a_plain_folder_in_place_of_the_store_is_not_written_to(quick):
    world, turn = _ready(quick)
    folder = turn.stage()
    (world.root / "store").rename(world.root / "elsewhere")
    (world.root / "store").mkdir()
    failed = named(lambda: turn.publish(folder))
    assert isinstance(failed, StoreError)
    assert failed.kind == "gone"
    assert list((world.root / "store").iterdir()) == []


def test_a_full_local_disk_at_resume_stops_with_two_lines_and_skips_nothing(quick, made):
    world = before(quick / "start", made=made)
    turn = world.turn("second")
    turn.enter()
    turn.claim()
    local = str(turn.storing.local.restored)
    with syscalls.bent(syscalls.failing(1, errno.ENOSPC, lasting=True, of=local)), pytest.raises(UserError) as stopped:
        turn.restore()
    assert stopped.value.exit_code == FAILED_PRECHECKS
    assert "local disk" in stopped.value.what
    assert turn.storing.knowledge.broken == set()


def test_rows_of_the_step_log_survive_a_local_disk_that_was_full_for_a_while(quick, made):
    world, turn = _ready(quick, made)
    with syscalls.bent(syscalls.failing(1, errno.ENOSPC, lasting=True, of=str(turn.storing.local.step_log))):
        first = turn.stage()
    assert isinstance(turn.publish(first), ev.Durable)
    turn.publish(turn.stage())
    laws_hold(world)


def test_what_a_failed_upload_left_makes_room_for_the_next(quick, made):
    world, turn = _ready(quick, made)
    given_up, step = turn.stage(), turn.step
    unfinished = world.root / "store" / RUN.step(turn.storing.rank, step)
    with syscalls.bent(_no_manifest_for(step)):
        assert isinstance(named(lambda: turn.publish(given_up)), StoreError | ev.Unconfirmed)
    assert unfinished.is_dir()
    turn.publish(turn.stage())
    assert not unfinished.exists()
    laws_hold(world)


def _no_manifest_for(step: int) -> syscalls.Act:
    def act(call: syscalls.Call):
        if call.name in {"link", "open"} and call.makes and f"step-{step:09d}/manifest" in call.path:
            raise OSError(errno.ENOSPC, "No space left on device", call.path)
        return call.go()

    return act


def _ready(quick, made=FolderStore) -> tuple[World, Turn]:
    world = before(quick / "start", made=made)
    turn = world.turn("second")
    turn.begin()
    return world, turn
