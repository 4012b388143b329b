"""A file that did not change is named where it lies, not sent again, and stays as long as anything names it."""

from __future__ import annotations

import errno
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from supervisor.core import checkpoint as cp
from supervisor.core import events as ev
from supervisor.core import retention
from supervisor.core.claim import Rank
from supervisor.core.ports import StoreError
from supervisor.engine import catalogue, checkpoints, retaining
from tests.faults import syscalls
from tests.faults.laws import every_file_is_its_sessions_own, laws_hold, the_log_is_whole
from tests.faults.world import KEEP, RUN, SHARED_BYTES_MIN, Turn, World, before, named

FROZEN = "state-00001.safetensors"


@pytest.fixture
def world(tmp_path):
    """Two files a checkpoint, the second of which never changes."""
    return before(tmp_path / "world", (2, 50, 10**6))


@pytest.fixture
def turn(world):
    turn = world.turn("second")
    turn.begin()
    return turn


def published(turn: Turn, checkpoints_made: int = 1) -> list[cp.Manifest]:
    made = []
    for _ in range(checkpoints_made):
        assert isinstance(turn.publish(turn.stage()), ev.Durable)
        made.append(manifests(turn.world)[-1])
    return made


def manifests(world: World) -> list[cp.Manifest]:
    found = sorted(checkpoints.find(world.store(), RUN), key=lambda each: each.id)
    read = [checkpoints.read_manifest(world.store(), each).manifest for each in found]
    return [each for each in read if each is not None]


def frozen(manifest: cp.Manifest) -> cp.FileEntry:
    return next(entry for entry in manifest.files if entry.name == FROZEN)


def folder(manifest: cp.Manifest) -> str:
    return f"{Rank(manifest.id.epoch, manifest.id.writer)}/step-{manifest.id.step:09d}"


def there(world: World) -> set[str]:
    run = world.root / "store" / RUN.name
    return {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}


def used_bytes(world: World) -> int:
    run = world.root / "store" / RUN.name
    return sum(
        path.stat().st_size for path in run.rglob("*") if path.is_file() and not path.name.startswith("manifest-")
    )


def test_an_unchanged_file_is_sent_once_and_named_where_it_lies(world, turn):
    first, second, third = published(turn, 3)
    assert frozen(first).path == f"{folder(first)}/{FROZEN}"
    assert frozen(third).path == frozen(second).path == frozen(first).path
    assert [path for path in there(world) if path.startswith(folder(third)) and FROZEN in path] == []
    assert third.sent_bytes == third.bytes - 50
    assert first.sent_bytes == first.bytes


def test_the_first_checkpoint_of_a_session_shares_nothing_with_earlier_sessions(world, turn):
    (first,) = published(turn)
    assert frozen(first).digest == frozen(manifests(world)[0]).digest
    assert {entry.path.split("/")[0] for entry in first.files} == {str(turn.storing.rank)}
    every_file_is_its_sessions_own(world)


def test_what_is_submitted_and_not_proved_is_not_rested_on(world, turn):
    turn.store.evidence = _not_yet
    named(lambda: turn.publish(turn.stage()))
    del turn.store.evidence
    (second,) = published(turn)
    assert frozen(second).path == f"{folder(second)}/{FROZEN}"


def test_a_file_that_only_the_one_on_its_way_names_stays(world, turn):
    """Removing runs between an upload and its manifest: on a drive that is minutes."""
    *older, newest = published(turn, 4)
    for each in older:
        path = world.root / "store" / RUN.name / folder(each)
        for manifest in path.glob("manifest-*"):
            manifest.unlink()
    alone = replace(newest, files=(frozen(newest),), id=replace(newest.id, step=newest.id.step + 1))
    for manifest in (world.root / "store" / RUN.name / folder(newest)).glob("manifest-*"):
        manifest.unlink()
    turn.storing.knowledge.on_its_way = alone
    retaining.remove_unfinished(turn.store, RUN, turn.storing.knowledge, f"{RUN.name}/{folder(older[0])}")
    assert frozen(newest).path in there(world)
    turn.storing.knowledge.on_its_way = None
    retaining.remove_unfinished(turn.store, RUN, turn.storing.knowledge, f"{RUN.name}/{folder(older[0])}")
    assert frozen(newest).path not in there(world)


@pytest.mark.parametrize("harm", ["gone", "cut"])
def test_a_file_that_is_not_there_any_more_is_sent_again(world, turn, harm):
    (first,) = published(turn)
    path = world.root / "store" / RUN.name / frozen(first).path
    path.unlink()
    if harm == "cut":
        path.write_bytes(b"cut")
    (second,) = published(turn)
    assert frozen(second).path == f"{folder(second)}/{FROZEN}"
    judged = {each.id: each.verdict for each in catalogue.judged(world.store(), RUN, world.root / "machine")}
    assert judged[second.id] is cp.Verdict.WHOLE


def test_after_a_checkpoint_was_found_damaged_its_files_are_sent_again(world, turn):
    first, second = published(turn, 2)
    path = world.root / "store" / RUN.name / frozen(first).path
    path.unlink()
    path.write_bytes(bytes(50))
    for staged in turn.storing.local.staging.iterdir():
        shutil.rmtree(staged)
    ready = turn.restore()
    assert {first.id, second.id} <= turn.storing.knowledge.broken
    assert ready.id is not None
    turn.step = ready.id.step + 20
    (third,) = published(turn)
    assert frozen(third).path == f"{folder(third)}/{FROZEN}"


def test_a_file_below_the_least_size_is_sent_each_time(tmp_path):
    world = before(tmp_path / "world", (2, SHARED_BYTES_MIN - 1, 10**6))
    turn = world.turn("second")
    turn.begin()
    _, second = published(turn, 2)
    assert frozen(second).path == f"{folder(second)}/{FROZEN}"


def test_a_checkpoint_in_two_folders_resumes_verifies_exports_and_lists(world, turn):
    published(turn, 2)
    newest = manifests(world)[-1]
    judged = list(catalogue.judged(world.store(), RUN, world.root / "machine"))
    assert {each.verdict for each in judged} == {cp.Verdict.WHOLE}
    wanted = max(checkpoints.find(world.store(), RUN), key=lambda each: each.id)
    exported = catalogue.export(world.store(), RUN, wanted, world.root / "out")
    assert exported.verdict is cp.Verdict.WHOLE
    assert (world.root / "out" / FROZEN).read_bytes() == world.content(turn.step)[FROZEN]
    row = catalogue.rows(world.store(), RUN, world.root / "machine", KEEP)[-1]
    assert (row.bytes, row.sent_bytes) == (newest.bytes, newest.bytes - 50)
    ready = world.turn("fresh").begin()
    assert (Path(ready.folder) / FROZEN).read_bytes() == world.content(turn.step)[FROZEN]


@pytest.mark.parametrize("twin", ["file", "folder", "session"])
def test_a_shared_file_is_found_under_the_names_that_a_drive_gives_to_twins(world, turn, twin):
    first, newest = published(turn, 2)
    path = world.root / "store" / RUN.name / frozen(first).path
    renamed = {"file": path, "folder": path.parent, "session": path.parent.parent}[twin]
    renamed.rename(renamed.with_name(f"{renamed.stem} (1){renamed.suffix}"))
    judged = {each.id: each.verdict for each in catalogue.judged(world.store(), RUN, world.root / "machine")}
    assert judged[newest.id] is cp.Verdict.WHOLE


def test_the_evidence_of_a_shared_file_is_asked_for_again(world, turn):
    (first,) = published(turn)
    asked: list[str] = []
    turn.store.evidence = lambda path: asked.append(path) or "fsync"
    turn.publish(turn.stage())
    assert f"{RUN.name}/{frozen(first).path}" in asked


def test_a_shared_file_outlives_the_checkpoint_that_brought_it_and_then_its_folder_goes(world, turn):
    first, *_ = published(turn, KEEP + 1)
    removed = turn.storing.retain().removed
    assert first.id in removed
    left = [path for path in there(world) if path.startswith(folder(first))]
    assert left == [frozen(first).path]
    turn.world.size = (2, 50)
    published(turn, KEEP)
    turn.storing.retain()
    assert not [path for path in there(world) if path.startswith(folder(first))]
    assert not (world.root / "store" / RUN.name / folder(first)).exists()


def test_freed_is_what_the_disk_got_back(world, turn):
    published(turn, KEEP + 1)
    before_bytes = used_bytes(world)
    freed = turn.storing.retain().freed_bytes
    assert freed == before_bytes - used_bytes(world)
    turn.world.size = (2, 50)
    published(turn, KEEP)
    before_bytes = used_bytes(world)
    freed = turn.storing.retain().freed_bytes
    assert freed == before_bytes - used_bytes(world)
    laws_hold(world)


def test_a_pinned_checkpoint_keeps_the_files_it_shares(world, turn):
    first, second = published(turn, 2)
    retaining.pin(world.store(), RUN, second.id)
    turn.world.size = (2, 50)
    for _ in range(KEEP + 1):
        published(turn)
        turn.storing.retain()
    assert first.id not in {each.id for each in manifests(world)}
    judged = {each.id: each.verdict for each in catalogue.judged(world.store(), RUN, world.root / "machine")}
    assert judged[second.id] is cp.Verdict.WHOLE


def test_while_a_manifest_cannot_be_read_nothing_it_could_name_goes(world, turn):
    first, *_, last = published(turn, KEEP + 1)
    fresh = retaining.Knowledge(durable=set(turn.storing.knowledge.durable))
    unread = _unreadable(f"{folder(last)}/manifest-")
    files = {path for path in there(world) if path.startswith(folder(first)) and "manifest" not in path}
    with syscalls.bent(unread):
        removed, _ = retaining.retain(world.store(), RUN, retention.Policy(KEEP), fresh, turn.storing.rank)
    assert last.id not in removed
    assert files <= there(world)
    retaining.retain(world.store(), RUN, retention.Policy(KEEP), fresh, turn.storing.rank)
    assert files & there(world) == {frozen(first).path}


def test_what_a_failed_upload_left_goes_but_not_what_others_share_in_that_folder(world, turn):
    """A step is published, shared, let go and then staged once more: its folder holds files of two kinds."""
    first, *_ = published(turn, KEEP + 1)
    turn.storing.retain()
    unfinished = world.root / "store" / RUN.name / folder(first)
    (unfinished / "state-00000~1.safetensors").write_bytes(b"of a failed try")
    freed = retaining.remove_unfinished(
        turn.store, RUN, turn.storing.knowledge, f"{RUN.name}/{folder(first)}"
    )  # fmt: skip
    assert freed == len(b"of a failed try")
    assert [path.name for path in unfinished.iterdir()] == [FROZEN]


def test_each_manifest_is_read_once_and_ones_own_never(world, turn):
    read: list[str] = []
    real = turn.store.read
    turn.store.read = lambda path: read.append(path) or real(path)
    for _ in range(KEEP + 2):
        published(turn)
        turn.storing.retain()
    told = [path for path in read if "manifest-" in path]
    assert len(told) == len(set(told)) <= KEEP
    assert not [path for path in told if str(turn.storing.rank) in path]


def test_all_manifests_go_before_the_first_file_goes(world, turn):
    published(turn, KEEP + 2)
    deleted: list[str] = []
    real = turn.store.delete
    turn.store.delete = lambda path: deleted.append(path) or real(path)
    turn.storing.retain()
    kinds = ["manifest-" in path for path in deleted]
    assert kinds == sorted(kinds, reverse=True)
    assert sum(kinds) == KEEP + 2
    the_log_is_whole(world, turn.step)


def test_what_pruning_says_it_frees_is_what_it_frees(world, turn):
    published(turn, KEEP + 2)
    known = list(catalogue.judged(world.store(), RUN, world.root / "machine"))
    going, would_free = catalogue.would_go(world.store(), RUN, known, KEEP)
    shutil.rmtree(next((world.root / "store" / RUN.name).rglob("e00000001-*/step-000000020")))  # an upload cut short
    removed, freed = catalogue.prune(world.store(), RUN, known, KEEP)
    assert (removed, freed) == (len(going), would_free)


def _not_yet(_path: str) -> str:
    raise StoreError("not uploaded yet")


def _unreadable(part: str) -> syscalls.Act:
    def act(call: syscalls.Call):
        if call.name == "open" and part in call.path:
            raise OSError(errno.EIO, "Input/output error", call.path)
        return call.go()

    return act
