"""The relay by hand: what the machine's store has comes home whole, in any order, and nothing else is ever called held."""

from __future__ import annotations

import os
import shutil
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.core.claim import Rank
from supervisor.core.errors import UserError
from supervisor.core.ports import Missing, StoreError, Unconfirmed
from supervisor.engine import checkpoints, claims, receipts, retaining, runs
from supervisor.engine.checkpoints import find
from supervisor.fleet import gathering, parcels
from supervisor.fleet.outbox import SMALL_AT_ONCE, WINDOW_BYTES
from supervisor.fleet.parcels import ParcelError
from tests.fleet.published import RUN, Served, contents

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 1000  # of a parcel's content, where a test makes it small


@pytest.fixture
def served(tmp_path: Path) -> Served:
    made = Served(tmp_path)
    made.enter()
    return made


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parcels of a kilobyte, so that a few of them make a checkpoint."""
    monkeypatch.setattr(parcels, "CONTENT_BYTES_MAX", SIZE)
    monkeypatch.setattr(parcels, "BYTES_MAX", 4 * SIZE)
    monkeypatch.setattr("supervisor.fleet.outbox.SMALL_BYTES", 0)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # because no power fails here


def test_everything_comes_home_the_same_and_is_proved_on_the_machine(served: Served):
    manifest = served.publish(20)
    with pytest.raises(Unconfirmed, match="your computer has not fetched it yet"):
        served.machine.evidence(served.path(manifest))
    served.carry()
    assert served.at_home() == served.on_the_machine()
    assert {served.machine.evidence(path) for path in served.on_the_machine()} == {"relay"}
    assert served.outbox.waiting() == (0, 0)
    assert list(receipts.receipts(served.home_store, RUN)) == [manifest.id]
    assert served.home.newest() == manifest.id


def test_the_machine_sees_that_something_moves(served: Served, small):
    path = f"{RUN.name}/{served.publish(20, os.urandom(5 * SIZE)).files[0].path}"
    seen = []
    for parcel in served.cut()[:4]:
        with pytest.raises(Unconfirmed) as waits:
            served.machine.evidence(path)
        seen.append(waits.value.moving)
        served.home.merge(parcel.file)
        served.mail()
    assert seen == [False, True, True, True]


def test_a_manifest_waits_on_the_machine_until_home_holds_all_that_it_names(served: Served):
    manifest = served.publish(20)
    first = served.cut()
    named = [piece.path for parcel in first for piece, _ in parcels.read(parcel.file)]
    assert served.path(manifest) not in named
    served.carry()
    assert served.path(manifest) in served.at_home()


def test_a_manifest_that_came_first_is_not_taken_before_its_files(served: Served, tmp_path: Path):
    manifest = served.publish(20)
    path = served.path(manifest)
    body = served.machine.read(path)
    from supervisor.core.digest import digest_of, preferred

    piece = parcels.Piece(path, 0, len(body), len(body), digest_of((body,), preferred()))
    header = parcels.Header(1, served.outbox.origin, [piece])
    early = parcels.write(tmp_path / "early.parcel", "outbox/early.parcel", header, [body])
    merged = served.home.merge(early.file)
    assert not merged.acknowledged
    assert not merged.checkpoints
    assert find(served.home_store, RUN) == []
    served.mail()
    served.carry()
    assert served.at_home() == served.on_the_machine()


def test_a_file_that_is_not_what_its_manifest_names_is_never_safe(served: Served):
    manifest = served.publish(20)
    weights = served.root / "machine/store" / RUN.name / manifest.files[0].path
    weights.write_bytes(b"WEIGHTS")  # the machine's disk has changed it after it was proved there
    served.carry()
    with pytest.raises(StoreError, match="does not take") as lied:
        served.machine.evidence(served.path(manifest))
    assert lied.value.kind == "lied"  # so the session sends it again under another name
    assert find(served.home_store, RUN) == []


def test_another_file_under_a_known_name_is_refused_and_said(served: Served):
    served.home_store.create(f"{RUN.session(served.rank)}/journal-000001.jsonl", b"of another machine")
    served.machine.create(f"{RUN.session(served.rank)}/journal-000001.jsonl", b"of this one")
    served.carry()
    assert served.at_home()[f"{RUN.session(served.rank)}/journal-000001.jsonl"] == b"of another machine"
    assert "another file is at home" in served.outbox.refused()[f"{RUN.session(served.rank)}/journal-000001.jsonl"]


def test_files_of_another_run_are_refused(served: Served):
    served.machine.create("other/run.json", b"{}")
    served.carry()
    assert "other/run.json" not in served.at_home()
    assert "not of the run" in served.outbox.refused()["other/run.json"]


def test_what_was_removed_on_the_machine_before_it_was_fetched_is_not_waited_for(served: Served, small):
    manifest = served.publish(20, os.urandom(5 * SIZE))
    for parcel in served.cut()[:3]:
        served.home.merge(parcel.file)
    shutil.rmtree(served.root / "machine/store" / RUN.step(served.rank, 20))
    newer = served.publish(40)
    served.carry()
    assert served.outbox.waiting() == (0, 0)
    assert served.home.newest() == newer.id
    assert manifest.id != newer.id


@pytest.mark.usefixtures("small")
def test_the_outbox_takes_no_more_than_its_window_of_the_disk(served: Served, monkeypatch):
    monkeypatch.setattr("supervisor.fleet.outbox.WINDOW_BYTES", 8 * 4 * SIZE)
    served.publish(20, os.urandom(60 * SIZE))
    most = 0
    while ready := served.cut():
        most = max(most, sum(file.stat().st_size for file in (served.root / "machine/outbox").iterdir()))
        served.home.merge(ready[0].file)
        served.mail()
    assert 3 * 4 * SIZE < most <= 8 * 4 * SIZE + 16
    assert served.at_home() == served.on_the_machine()


def test_small_news_of_a_long_absence_leave_the_room_to_the_next_checkpoint(served: Served):
    for number in range(20):
        served.machine.create(f"{RUN.session(served.rank)}/journal-{number:06d}.jsonl", b"x")
        served.cut()
    assert len(served.cut()) == SMALL_AT_ONCE
    served.publish(20, bytes(3_000_000))
    large = parcels.read(served.cut()[-1].file)
    assert len([piece for piece, _ in large if "journal" in piece.path]) > 10
    assert sum(parcel.bytes for parcel in served.cut()) < WINDOW_BYTES
    served.carry()
    assert served.at_home() == served.on_the_machine()


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_any_order_any_doubling_any_loss_and_any_death_give_the_same_home(tmp_path_factory, seed):
    chance, served = Random(seed), Served(tmp_path_factory.mktemp("served"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("CONTENT_BYTES_MAX", SIZE), ("BYTES_MAX", 4 * SIZE)):
            patch.setattr(parcels, name, value)
        patch.setattr(os, "fsync", lambda _: None)  # because no power fails here, and this is what takes the time
        served.enter()
        kept: list[Path] = []
        for step in (20, 40, 60):
            served.publish(step, chance.randbytes(chance.randrange(5 * SIZE)))
            for _ in range(chance.randrange(12)):
                _one_bad_round(served, chance, kept)
                _nothing_is_held_that_is_not_at_home(served)
        served.again()
        served.carry()
        _nothing_is_held_that_is_not_at_home(served)
    assert served.outbox.waiting() == (0, 0)
    there = served.at_home()
    assert served.home.newest().step == 60
    assert {path: body for path, body in served.on_the_machine().items() if path in there} == there


def _one_bad_round(served: Served, chance: Random, kept: list[Path]) -> None:
    """Fetch some of what is there, cut short or not, and older parcels again; one side may die; the mail may be lost."""
    for parcel in served.cut():
        copy = served.root / f"copy-{len(kept)}"
        shutil.copy(parcel.file, copy)
        kept.append(copy)
    for copy in chance.choices(kept, k=3) if kept else ():
        torn = served.root / "torn"
        torn.write_bytes(copy.read_bytes()[: chance.randrange(copy.stat().st_size)])
        before = contents(served.root / "home")
        with pytest.raises(ParcelError):
            served.home.merge(torn)
        assert contents(served.root / "home") == before
        served.home.merge(copy)
    if chance.random() < 0.4:
        served.again()
    if chance.random() < 0.6:
        served.mail()


def _nothing_is_held_that_is_not_at_home(served: Served) -> None:
    home, machine = served.at_home(), served.on_the_machine()
    removed = {path for path in machine if path not in home and "/step-" in path}
    for path in served.outbox.acknowledged.held & machine.keys() - removed:
        assert home[path] == machine[path]
    newest = served.home.newest()
    for path in removed:  # only retention at home takes away what was held
        if path in served.outbox.acknowledged.held:
            assert newest is not None
            assert RUN.step(served.rank, newest.step) not in path


def test_a_file_of_which_home_has_lost_a_part_is_sent_again(served: Served, small):
    served.publish(20, os.urandom(5 * SIZE))
    first = served.cut()
    for parcel in first[:-1]:
        served.home.merge(parcel.file)
    shutil.rmtree(served.root / "home/state")
    served.again()
    for parcel in first:
        served.home.merge(parcel.file) if parcel is first[-1] else None
    served.mail()
    for number in list(served.outbox.acknowledged.parcels):
        assert number
    served.carry()
    assert served.at_home() == served.on_the_machine()


def test_a_piece_that_came_damaged_into_the_parcel_is_asked_for_again(served: Served, monkeypatch):
    manifest = served.publish(20)
    body = parcels.body
    monkeypatch.setattr(
        parcels, "body", lambda file, piece: body(file, piece)[::-1]
    )  # the machine reads it wrongly once
    served.home.merge(served.cut()[0].file)
    monkeypatch.undo()
    served.mail()
    served.carry()
    assert served.home.newest() == manifest.id
    assert served.at_home() == served.on_the_machine()


def test_home_keeps_as_many_checkpoints_as_the_run_says(served: Served):
    removed = []
    for step in (20, 40, 60, 80):
        served.publish(step)
        while ready := served.cut():
            for parcel in ready:
                removed += served.home.merge(parcel.file).removed
            served.mail()
    assert [id_.step for id_ in removed] == [20, 40]
    assert [each.id.step for each in find(served.home_store, RUN)] == [60, 80]
    assert not [path for path in served.at_home() if "step-000000020" in path]
    assert len(receipts.receipts(served.home_store, RUN)) == 2


def test_a_pinned_checkpoint_and_a_shared_file_stay_at_home(served: Served):
    first = served.publish(20, b"shared" * 10)
    served.carry()
    retaining.pin(served.home_store, RUN, first.id)
    for step in (40, 60, 80):
        served.publish(step, shared=first)
        served.carry()
    assert [each.id.step for each in find(served.home_store, RUN)] == [20, 60, 80]
    found, _ = checkpoints.bring(served.home_store, RUN, find(served.home_store, RUN)[-1], served.root / "brought")
    assert found.verdict == "whole"


def seeded(served: Served) -> dict[str, bytes]:
    """Return what a seed holds, by path."""
    held: dict[str, bytes] = {}
    for parcel in served.home.seed().parcels:
        for piece, body in parcels.read(parcel.file, parcel.sha256):
            held[piece.path] = held.get(piece.path, b"") + bytes(body)
    return held


def test_a_run_that_is_not_there_yet_has_no_seed(tmp_path: Path):
    assert Served(tmp_path).home.seed().parcels == ()


def test_the_seed_is_what_the_next_session_reads_and_the_newest_whole_checkpoint(served: Served, small):
    for step in (20, 40):
        served.publish(step, os.urandom(3 * SIZE))
    for name in (
        "journal-000001.jsonl",
        "journal-000002.jsonl",
        "journal-000003.jsonl",
        "end-lost.json",
        "history.json",
    ):
        served.machine.create(f"{RUN.session(served.rank)}/{name}", name.encode())
    served.machine.create(f"{RUN.session(served.rank)}/output-0001-000001.log", b"x" * 100_000)
    served.carry()
    retaining.pin(served.home_store, RUN, find(served.home_store, RUN)[0].id)
    claims.request_stop(served.home_store, RUN, served.rank, "save")
    held = seeded(served)
    home = {path: (served.root / "home/runs" / path).read_bytes() for path in held}
    assert held == home
    inside = f"{RUN.session(served.rank)}/"
    names = {path.removeprefix(inside) for path in held if path.startswith(inside) and "/step-" not in path}
    assert names == {"claim.json", "journal-000002.jsonl", "journal-000003.jsonl", "end-lost.json", "history.json"}
    assert {path.split("/")[2] for path in held if "/step-" in path} == {"step-000000040"}
    tops = {path.split("/")[1][:4] for path in held if path.count("/") == 1}
    assert tops == {"run.", "pin-", "veri"}
    assert list(held)[-1].rpartition("/")[2].startswith("manifest-")


def test_a_checkpoint_that_rotted_at_home_is_passed_over_and_said(served: Served):
    older, newer = served.publish(20), served.publish(40)
    served.carry()
    (served.root / "home/runs" / RUN.name / newer.files[0].path).write_bytes(b"WEIGHTS")
    seed = served.home.seed()
    assert seed.checkpoint == older.id
    assert "step 40" in seed.skipped[0]
    assert "damaged" in seed.skipped[0]
    assert not [path for path in seeded(served) if "step-000000040" in path]


def test_with_nothing_whole_at_home_no_machine_begins_at_step_0(served: Served):
    manifest = served.publish(20)
    served.carry()
    (served.root / "home/runs" / RUN.name / manifest.files[0].path).unlink()
    with pytest.raises(UserError, match="no usable checkpoint is in it"):
        served.home.seed()


def test_a_stop_a_knock_and_a_higher_claim_go_to_the_machine_once(served: Served):
    served.carry()
    assert list(served.home.mail()) == []
    claims.request_stop(served.home_store, RUN, served.rank, "save")
    claims.knock(served.home_store, RUN, served.rank)
    claims.write_claim(served.home_store, RUN, Rank(2, "bb"), {"machine": {}})
    mail = served.home.mail()
    told = [piece.path for parcel in mail for piece, _ in parcels.read(parcel.file)]
    assert sorted(path.split("/")[1][:5] for path in told) == ["e0000", "knock", "stop-"]
    assert [parcel.name for parcel in served.home.mail()] == [parcel.name for parcel in mail]  # until it is delivered
    for parcel in mail:
        served.home.delivered(parcel)
    assert list(served.home.mail()) == []


def test_what_was_for_one_machine_is_not_told_to_the_next(served: Served):
    served.publish(20)
    for parcel in served.cut():
        served.home.merge(parcel.file)
    assert served.home.mail()
    served.home.begin_machine()
    assert list(served.home.mail()) == [] or all(
        parcels.read(parcel.file).header.letter is None for parcel in served.home.mail()
    )


def test_mail_for_another_outbox_changes_nothing(served: Served):
    served.publish(20)
    served.cut()
    served.outbox.hear(parcels.Letter("another", (1,), tuple(served.on_the_machine())))
    assert served.outbox.acknowledged.held == set()
    assert served.outbox.ready


def test_an_agent_that_was_killed_while_it_wrote_goes_on(served: Served):
    served.publish(20)
    first = served.cut()
    (served.root / "machine/outbox/.new-000009.parcel").write_bytes(b"half")
    (served.root / "machine/outbox/000007.parcel").write_bytes(first[0].file.read_bytes()[:50])
    with (served.root / "machine/acknowledged.jsonl").open("ab") as told:
        told.write(b'{"held": ["plates/run.j')
    served.again()
    assert [parcel.name for _, parcel in served.outbox.ready] == [first[0].name]
    served.carry()
    assert served.at_home() == served.on_the_machine()
    assert served.machine.evidence(RUN.record) == "relay"


def test_a_full_disk_at_home_changes_nothing_and_the_parcel_can_come_again(served: Served, monkeypatch):
    manifest = served.publish(20)
    parcel = served.cut()[0]

    def full(*_: object) -> None:
        raise StoreError("no space left", "full")

    monkeypatch.setattr(served.home_store, "create", full)
    with pytest.raises(StoreError, match="no space"):
        served.home.merge(parcel.file)
    assert list(served.home.mail()) == []
    monkeypatch.undo()
    served.carry()
    assert served.home.newest() == manifest.id


def test_pieces_of_a_dead_machine_are_not_kept_for_ever(served: Served, small):
    served.publish(20, os.urandom(5 * SIZE))
    for parcel in served.cut()[:3]:
        served.home.merge(parcel.file)
    folder = served.root / "home/state/gathering"
    assert list(folder.iterdir())
    served.home.begin_machine()
    assert list(folder.iterdir()) == []


def test_the_store_of_a_run_that_came_home_is_a_store_like_any_other(served: Served):
    served.publish(20)
    served.carry()
    record = runs.read(served.home_store, RUN)
    assert record is not None
    assert record.id == "abc0abc0abc0abc0"
    with pytest.raises(Missing):
        served.home_store.read(f"{RUN.name}/nothing")
    assert gathering.Fate.ADDED == "added"
