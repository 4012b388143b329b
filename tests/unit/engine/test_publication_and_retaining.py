"""Putting checkpoints in and taking old ones out: retries after half a failure, what proves, what may go."""

from __future__ import annotations

import errno
import shutil

import pytest

from supervisor.core import checkpoint as cp
from supervisor.core import events as ev
from supervisor.core import retention
from supervisor.core.claim import Rank
from supervisor.core.content import CONTENT_FILE, ContentError
from supervisor.core.ports import StoreError
from supervisor.engine import checkpoints, retaining, staged
from supervisor.engine.proof import evidence
from tests.faults import syscalls
from tests.faults.laws import laws_hold, the_log_is_whole
from tests.faults.world import KEEP, RUN, named


@pytest.fixture
def turn(world):
    turn = world.turn("second")
    turn.begin()
    return turn


def fails_at(part: str, code: int = errno.EIO) -> syscalls.Act:
    """Let the folder's flush after the naming of a file fail: it lies there, but nobody knows that it is safe."""
    seen = [False]

    def act(call: syscalls.Call):
        if call.name == "link" and part in str(call.args[1]):
            call.go()
            seen[0] = True
            return None
        if call.name == "fsync" and seen[0]:
            seen[0] = False
            raise OSError(code, "Input/output error", call.path)
        return call.go()

    return act


@pytest.mark.parametrize("part", ["state-00000", "checkpoint.json", "/log-", "manifest-"])
def test_a_retry_takes_what_the_failed_try_left_and_flushes_it(world, turn, part):
    folder = turn.stage()
    with syscalls.bent(fails_at(part)):
        assert isinstance(named(lambda: turn.publish(folder)), StoreError)
    flushed: list[str] = []

    def note(call: syscalls.Call):
        if call.name == "fsync":
            flushed.append(call.path)
        return call.go()

    with syscalls.bent(note):
        assert isinstance(turn.publish(folder), ev.Durable)
    step = world.root / "store" / RUN.step(turn.storing.rank, turn.step)
    assert str(step) in flushed
    assert str(step.parent) in flushed
    assert len(list(step.glob("manifest-*"))) == 1
    assert len(list(step.parent.glob("log-*"))) == 1
    assert len(list(step.glob("state-00000*"))) == 1
    the_log_is_whole(world, turn.step)


def test_a_file_of_other_content_under_the_name_is_left_and_the_next_free_name_taken(world, turn):
    folder = turn.stage()
    step = world.root / "store" / RUN.step(turn.storing.rank, turn.step)
    step.mkdir()
    (step / "state-00000.safetensors").write_bytes(b"of a failed try")
    assert isinstance(turn.publish(folder), ev.Durable)
    assert (step / "state-00000.safetensors").read_bytes() == b"of a failed try"
    assert (step / "state-00000~1.safetensors").exists()
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["state-00000.safetensors", "state-00001.safetensors", "log.jsonl", CONTENT_FILE]
    )
    laws_hold(world)


def test_two_checkpoints_of_one_step_share_the_folder_and_the_last_one_out_empties_it(world, turn):
    turn.publish(turn.stage())
    turn.publish(turn.stage(0))
    for _ in range(KEEP - 1):
        turn.publish(turn.stage())
    turn.storing.retain()
    laws_hold(world)


def test_a_folder_of_another_step_than_its_name_says_is_refused(turn):
    folder = turn.stage()
    outcome = turn.storing.publish(folder, turn.step + 1, lambda _: None)
    assert isinstance(outcome, ev.PublishFailed)
    assert outcome.hopeless
    with pytest.raises(ContentError, match="of step"):
        staged.prove(folder, turn.step + 1)


@pytest.mark.parametrize("harm", ["gone", "changed", "no content file"])
def test_a_staged_folder_at_fault_is_not_tried_for_ever(turn, harm):
    folder = turn.stage()
    if harm == "gone":
        (folder / "state-00000.safetensors").unlink()
    elif harm == "changed":
        (folder / "state-00000.safetensors").write_bytes(b"x")
    else:
        (folder / CONTENT_FILE).unlink()
    outcome = turn.storing.publish(folder, turn.step, lambda _: None)
    assert isinstance(outcome, ev.PublishFailed)
    assert outcome.hopeless


def test_a_store_that_loses_the_folder_meanwhile_does_not_make_the_staged_one_hopeless(world, turn):
    folder = turn.stage()

    def vanishing(call: syscalls.Call):
        if call.name == "open" and ".tmp-" in call.path and call.path.startswith(world.where):
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", call.path)
        return call.go()

    with syscalls.bent(vanishing):
        failed = named(lambda: turn.publish(folder))
    assert isinstance(failed, StoreError)
    assert isinstance(turn.publish(folder), ev.Durable)


def test_submitted_is_said_before_the_evidence_and_durable_only_after(turn):
    heard: list[ev.Event] = []
    order: list[str] = []
    turn.store.evidence = lambda path: order.append("evidence") or "fsync"
    outcome = turn.storing.publish(turn.stage(), turn.step, lambda event: (heard.append(event), order.append("said")))
    assert isinstance(heard[0], ev.Submitted)
    assert order[0] == "said"
    assert isinstance(outcome, ev.Durable)
    assert (
        order.count("evidence") == 6
    )  # two state files, their log, the content, the piece of the step log, the manifest


def test_what_only_a_listing_shows_counts_for_nothing_when_old_ones_are_removed(world):
    """Manifests of earlier sessions that this one did not prove are neither DURABLE nor in the way for ever."""
    turn = world.turn("second")
    turn.begin()
    found = checkpoints.find(world.store(), RUN)
    unproved = retaining.Knowledge()
    assert retaining.retain(world.store(), RUN, retention.Policy(KEEP), unproved, turn.storing.rank) == ((), 0)
    assert checkpoints.find(world.store(), RUN) == found


def test_a_broken_checkpoint_is_not_counted_and_goes_once_enough_newer_ones_are_durable(world):
    broken = max(world.safe)
    path = world.root / "store" / RUN.step(Rank(broken.epoch, broken.writer), broken.step) / "state-00000.safetensors"
    path.write_bytes(b"damaged")
    turn = world.turn("second")
    ready = turn.begin()
    assert ready.id == min(world.safe)
    assert turn.storing.knowledge.broken == {broken}
    turn.publish(turn.stage(1))
    assert turn.storing.retain().removed == ()
    turn.publish(turn.stage(1))
    assert set(turn.storing.retain().removed) == {ready.id, broken}


def test_a_pinned_checkpoint_stays(world, turn):
    pinned = min(world.safe)
    retaining.pin(world.store(), RUN, pinned)
    for _ in range(KEEP + 1):
        turn.publish(turn.stage())
        turn.storing.retain()
    assert pinned in {found.id for found in checkpoints.find(world.store(), RUN)}


def test_leftovers_wait_until_enough_is_durable(world, turn):
    half = next(path for path in (world.root / "store" / RUN.name).rglob("step-000000015") if path.is_dir())
    turn.storing.retain()
    assert half.exists()
    for _ in range(KEEP):
        turn.publish(turn.stage())
    turn.storing.retain()
    assert not half.exists()


def test_a_removal_that_was_cut_short_is_finished_by_the_next(world, turn):
    for _ in range(KEEP):
        turn.publish(turn.stage())

    def no_files(call: syscalls.Call):
        if call.name == "unlink" and "state-" in call.path:
            raise OSError(errno.EIO, "Input/output error", call.path)
        return call.go()

    with syscalls.bent(no_files):
        assert isinstance(named(turn.storing.retain), StoreError)
    turn.storing.retain()
    laws_hold(world)


def test_half_written_files_of_dead_writers_are_swept_from_every_room_of_the_run(world, turn):
    run = world.root / "store" / RUN.name
    (run / "environment").mkdir()
    rooms = [run, run / "environment", *(path for path in run.iterdir() if path.name.startswith("e0"))]
    for room in rooms:
        (room / ".tmp-dead-0").write_bytes(b"half")
    for _ in range(KEEP):
        turn.publish(turn.stage())
    freed = turn.storing.retain().freed_bytes
    assert not list(run.rglob(".tmp-dead*"))
    assert freed >= 4 * len(rooms)


def test_a_checkpoint_that_was_read_counts_as_durable_only_if_it_can_be_flushed(world):
    turn = world.turn("second")
    turn.enter()
    turn.claim()

    def no_flush(call: syscalls.Call):
        if call.name == "fsync" and call.path.startswith(world.where):
            raise OSError(errno.EIO, "Input/output error", call.path)
        return call.go()

    with syscalls.bent(no_flush):
        ready = turn.restore()
    assert ready.id == max(world.safe)
    assert not ready.durable
    assert turn.storing.knowledge.durable == set()


def test_a_session_whose_own_folder_is_gone_writes_nothing(world, turn):
    shutil.rmtree(world.root / "store" / RUN.session(turn.storing.rank))
    failed = named(lambda: turn.publish(turn.stage()))
    assert isinstance(failed, StoreError)
    assert failed.kind == "gone"


def test_the_manifest_names_what_it_was_made_from(world, turn):
    parent = max(world.safe)
    outcome = turn.publish(turn.stage())
    assert isinstance(outcome, ev.Durable)
    found = max(checkpoints.find(world.store(), RUN), key=lambda each: each.id)
    manifest = checkpoints.read_manifest(world.store(), found).manifest
    assert manifest is not None
    assert manifest.parent == parent
    assert outcome.bytes == manifest.bytes
    assert evidence(world.store(), RUN, manifest) == "fsync"


def test_the_manifest_of_one_checkpoint_under_the_name_of_another_is_no_manifest(world):
    first, second = sorted(checkpoints.find(world.store(), RUN), key=lambda each: each.id)
    other = f"{second.path.rpartition('/')[0]}/{first.path.rpartition('/')[2]}"
    shutil.copy(world.root / "store" / first.path, world.root / "store" / other)
    judged = [checkpoints.read_manifest(world.store(), each) for each in checkpoints.find(world.store(), RUN)]
    wrong = next(each for each in judged if each.path == other)
    assert wrong.verdict is cp.Verdict.BROKEN
    assert "of another checkpoint" in wrong.why


@pytest.mark.parametrize("where", ["", "plates", "plates/environment"])
def test_retention_sweeps_what_dead_writers_left_half_written_also_in_the_root_of_the_store(world, turn, where):
    folder = world.root / "store" / where
    folder.mkdir(exist_ok=True)
    (folder / ".tmp-dead-0").write_bytes(b"half")
    for _ in range(KEEP):
        turn.publish(turn.stage())
    turn.storing.retain()
    assert not (folder / ".tmp-dead-0").exists()
