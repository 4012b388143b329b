"""Files of the store absent, empty, cut, flipped, swapped, unreadable, or of a newer version: what a machine makes of it."""

from __future__ import annotations

import errno
import itertools
import json
import random
import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from supervisor.core import checkpoint as cp
from supervisor.core import events as ev
from supervisor.core.content import CONTENT_FILE
from supervisor.core.digest import SHA256, XXH3, algorithm_of
from supervisor.core.errors import FAILED_PRECHECKS, UserError
from supervisor.core.ports import StoreError
from supervisor.engine import checkpoints
from supervisor.stores.folder import FolderStore
from tests.faults import syscalls
from tests.faults.laws import laws_hold
from tests.faults.ruin import Ruin, begin, damage
from tests.faults.stores import OnADrive, OnAnotherDisk
from tests.faults.sweep import ALL
from tests.faults.world import RUN, Turn, World, before, named

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

DAMAGES = 20_000 if ALL else 300  # test_parts does thousands, on paper
STATES = 100_000 if ALL else 200


@pytest.fixture(params=[FolderStore, OnADrive], ids=["in a folder", "on a drive"])
def ruin(quick: Path, request) -> Ruin:
    return Ruin(quick, request.param)


@pytest.mark.slow
def test_random_damage_never_hides_the_newest_whole_checkpoint_nor_is_loaded(ruin):
    chance = random.Random(1)
    for _ in range(DAMAGES):
        damage(ruin, chance)
        ruin.judge()
        ruin.mend()


@pytest.mark.slow
def test_each_file_of_the_newest_checkpoint_absent_empty_half_or_whole(ruin):
    files = ruin.files[max(ruin.files)]
    states = list(itertools.product(("whole", "absent", "empty", "half"), repeat=len(files)))
    chance = random.Random(7)
    for state in chance.sample(states, min(STATES, len(states))):
        _put(ruin, zip(files, state, strict=True))
        ruin.judge()
        ruin.mend()


@pytest.mark.slow
def test_each_file_of_three_checkpoints_absent_empty_half_or_whole_walks_back_as_far_as_needed(ruin):
    newest = [path for id_ in sorted(ruin.files)[-3:] for path in ruin.files[id_]]
    chance = random.Random(11)
    for _ in range(STATES // 2):
        _put(ruin, ((path, chance.choice(("whole",) * 6 + ("absent", "empty", "half"))) for path in newest))
        ruin.judge()
        ruin.mend()


def _put(ruin: Ruin, states: Iterable[tuple[Path, str]]) -> None:
    for path, state in states:
        body = ruin.whole[path]
        if state == "absent":
            path.unlink(missing_ok=True)
        elif state != "whole":
            path.write_bytes(b"" if state == "empty" else body[: len(body) // 2])


def test_when_all_are_damaged_the_user_is_asked_and_nothing_is_deleted(ruin):
    for files in ruin.files.values():
        files[1].write_bytes(b"damaged")
    turn = ruin.world.turn("asking")
    with pytest.raises(UserError) as asked:
        begin(turn)
    assert asked.value.exit_code == FAILED_PRECHECKS
    assert "no usable checkpoint is in it" in asked.value.what
    assert "--resume never" in asked.value.hint
    assert all(path.exists() for files in ruin.files.values() for path in files)


def test_when_all_manifests_are_gone_the_journals_still_tell_of_the_work_and_the_user_is_asked(ruin):
    for files in ruin.files.values():
        files[0].unlink()
    with pytest.raises(UserError, match="shows earlier work"):
        begin(ruin.world.turn("asking"))


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOTCONN, errno.ESTALE, errno.EACCES])
def test_what_cannot_be_read_is_never_passed_over(ruin, code):
    newest = max(ruin.files)
    for path in ruin.files[newest]:
        turn = ruin.world.turn(f"reader-{path.name}")
        with syscalls.bent(_unreadable(str(path), code)):
            outcome = named(lambda turn=turn: begin(turn))
        assert isinstance(outcome, UserError), path
        assert "cannot read" in outcome.what
    assert ruin.world.turn("later").begin().id == newest


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOTCONN])
def test_a_folder_that_cannot_be_listed_is_never_taken_for_an_empty_one(ruin, code):
    run = ruin.world.root / "store" / RUN.name
    for folder in (run, *(path for path in run.rglob("*") if path.is_dir())):
        turn = ruin.world.turn(f"reader-{folder.name}")
        turn.claim()
        with syscalls.bent(_unreadable(str(folder), code)):
            outcome = named(turn.restore)
        assert isinstance(outcome, StoreError), folder


def _unreadable(path: str, code: int) -> syscalls.Act:
    def act(call: syscalls.Call):
        if call.path == path and call.name in {"open", "read", "scandir"}:
            raise OSError(code, "cannot be read", path)
        return call.go()

    return act


def test_a_manifest_of_a_newer_version_stops_and_asks(ruin):
    newest = ruin.files[max(ruin.files)][0]
    body = json.loads(newest.read_bytes())
    newer = json.dumps({**body, "schema": cp.PACKED_SCHEMA + 1, "files": "in another form"}).encode()
    newest.unlink()
    (newest.parent / cp.manifest_name(1002, newer)).write_bytes(newer)
    with pytest.raises(UserError, match="newer version"):
        begin(ruin.world.turn("older"))


def test_digests_that_this_version_does_not_know_stop_and_ask(ruin):
    newest = ruin.files[max(ruin.files)][0]
    newer = newest.read_bytes().replace(b"xxh3-128:", b"xxh9-512:")
    newest.unlink()
    (newest.parent / cp.manifest_name(1002, newer)).write_bytes(newer)
    with pytest.raises(UserError, match="newer version"):
        begin(ruin.world.turn("older"))


def test_a_supervisor_that_lacks_the_package_of_the_digests_asks_for_it_and_skips_nothing(ruin, monkeypatch):
    monkeypatch.setitem(sys.modules, "xxhash", None)
    turn = ruin.world.turn("lacking")
    with pytest.raises(UserError, match="xxh3-128") as asked:
        begin(turn)
    assert "xxhash" in asked.value.hint
    assert turn.storing.knowledge.broken == set()


def test_checkpoints_made_without_that_package_are_verified_as_they_were_made_and_gone_on_with(quick):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "xxhash", None)
        world = before(quick / "start")
    assert _algorithms(world) == {SHA256}
    laws_hold(world)
    assert _algorithms(world) == {XXH3}


def _algorithms(world: World) -> set[str]:
    found = [checkpoints.read_manifest(world.store(), each).manifest for each in checkpoints.find(world.store(), RUN)]
    return {algorithm_of(entry.digest) for manifest in found if manifest for entry in manifest.all_files()}


def test_content_of_a_newer_version_stops_and_asks(quick):
    world = before(quick / "start")
    turn = world.turn("second")
    turn.begin()
    folder = turn.stage()
    content = folder / CONTENT_FILE
    _newer_after_parsing(turn, content)
    with pytest.raises(UserError, match="newer version"):
        begin(world.turn("older"))


def _newer_after_parsing(turn: Turn, content: Path) -> None:
    """Publish what a newer program would: a manifest of our schema around content of a later one."""
    from supervisor.core import content as core

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(core, "VERSION", core.VERSION + 1)
        said = json.loads(content.read_bytes())
        content.write_bytes(core.sealed({"step": said["step"], "metrics": said["metrics"], "files": said["files"]}))
        assert isinstance(turn.publish(content.parent), ev.Durable)


def test_a_newer_run_record_is_said_in_two_lines(quick):
    ruin = Ruin(quick)
    (ruin.world.root / "store" / RUN.record).write_bytes(b'{"schema": 9}')
    with pytest.raises(UserError) as stopped:
        ruin.world.turn("reader").enter()
    assert stopped.value.exit_code == FAILED_PRECHECKS
    assert stopped.value.hint


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"schema": 1}', b"\xff"])
def test_a_damaged_run_record_never_blocks_a_begin(ruin, body):
    (ruin.world.root / "store" / RUN.record).write_bytes(body)
    assert begin(ruin.world.turn("reader")).id == max(ruin.files)


@pytest.mark.parametrize("name", ["claim.json", "journal-000001.jsonl", "history.json", "end-lost.json"])
@pytest.mark.parametrize("body", [b"", b"{", b"[1, 2]", b'{"is": "RunStatus"}\n{}', b"null", b"\xff\x00"])
def test_records_that_only_tell_of_the_past_never_block_abegin(ruin, name, body):
    for session in (path.parent for path in ruin.whole if path.name == "claim.json"):
        (session / name).write_bytes(body)
    assert begin(ruin.world.turn("reader")).id == max(ruin.files)


def test_files_that_a_drive_shows_twice_are_read_under_either_name(ruin):
    run = ruin.world.root / "store" / RUN.name
    newest = max(ruin.files)
    for path in ruin.files[newest]:
        twin = path.with_name(f"{path.stem} (1){path.suffix}")
        path.rename(twin)
        assert begin(ruin.world.turn(f"reader-{path.name}")).id == newest
        path.write_bytes(b"half")
        assert begin(ruin.world.turn(f"again-{path.name}")).id == newest
        ruin.mend()
        twin.unlink()
    session = run / str(RUN.session(checkpoints.rank_of(ruin.files[newest][0].parent.parent.name))).split("/")[-1]
    step = ruin.files[newest][0].parent
    shutil.copytree(step, step.with_name(f"{step.name} (1)"))
    shutil.copytree(session, session.with_name(f"{session.name} (1)"))
    assert begin(ruin.world.turn("twins")).id == newest


def test_twins_of_one_checkpoint_do_not_count_as_two_when_old_ones_are_removed(quick):
    world = before(quick / "start")
    turn = world.turn("second")
    turn.begin()
    turn.publish(turn.stage())
    session = world.root / "store" / RUN.session(turn.storing.rank)
    shutil.copytree(session, session.with_name(f"{session.name} (1)"))
    turn.storing.retain()
    assert {found.id for found in checkpoints.find(world.store(), RUN)} == set(sorted(world.safe)[-2:])


def test_a_copy_on_this_machine_serves_when_the_one_in_the_store_is_damaged(quick):
    world = before(quick / "start", made=OnAnotherDisk)
    folder = _damaged_in_the_store(world)
    ready = world.turn("machine").begin()
    assert ready.folder == str(folder)
    assert "is damaged" in ready.skipped[0]


def test_a_copy_that_is_the_store_s_own_file_is_damaged_with_it_and_the_one_before_is_taken(quick):
    world = before(quick / "start")
    _damaged_in_the_store(world)
    ready = world.turn("machine").begin()
    assert ready.id == sorted(world.safe)[-2]
    assert len([words for words in ready.skipped if "is damaged" in words]) == 2


def _damaged_in_the_store(world: World) -> Path:
    """Publish and harm the store's file where it lies; return the staged folder."""
    dead = world.turn("machine")
    dead.begin()
    folder = dead.stage()
    dead.publish(folder)
    step = world.root / "store" / RUN.step(dead.storing.rank, dead.step)
    (step / "state-00000.safetensors").write_bytes(b"damaged")
    return folder


def test_a_staged_folder_that_changed_after_staging_is_not_published(quick):
    world = before(quick / "start")
    turn = world.turn("second")
    turn.begin()
    folder = turn.stage()
    (folder / "state-00001.safetensors").write_bytes(b"other")
    outcome = turn.publish(folder)
    assert isinstance(outcome, ev.PublishFailed)
    assert outcome.hopeless
    turn.publish(turn.stage())
    laws_hold(World(world.root, world.size, world.safe))
