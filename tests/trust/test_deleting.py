"""What others write into a store never has real checkpoints removed: not receipts, empty manifests, forged sessions or rollbacks."""

from __future__ import annotations

import json

import pytest

from supervisor.core import claim, retention, rollback
from supervisor.core.checkpoint import CheckpointId, manifest_name
from supervisor.core.claim import Rank, rank_of
from supervisor.core.errors import UserError
from supervisor.engine import receipts, retaining
from tests.trust.forged import RUN

MINE = Rank(3, "b4dc8281")
REAL = {36, 40}


def plant(forged, rank, step, *, body=None, files=True):
    """Write a checkpoint that there is not, and a receipt of it."""
    folder = forged.root / RUN.name / str(rank) / f"step-{step:09d}"
    folder.mkdir(parents=True, exist_ok=True)
    if body is None:
        newest = forged.newest()
        told = json.loads(newest.read_bytes())
        told |= {"id": {"epoch": rank.epoch, "step": step, "writer": rank.writer, "seq": 1}, "log": None}
        told["files"] = [{**each, "path": f"{rank}/step-{step:09d}/{each['name']}"} for each in told["files"]]
        told["files"] = told["files"] if files else []
        body = json.dumps(told, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
    (folder / manifest_name(1, body)).write_bytes(body)
    (forged.root / RUN.name / f"verified-{rank.epoch}-{step}-{rank.writer}-1-{step % 256:02x}.json").write_text("{}")


def real_left(forged):
    return {int(path.parent.name[5:]) for path in forged.manifests() if "b4dc8281" in str(path)} & REAL


def retained(forged, own):
    store = forged.store
    knowledge = retaining.Knowledge(durable={*own, *(id_ for id_ in receipts.receipts(store, RUN) if id_.rank < MINE)})
    removed, _ = retaining.retain(store, RUN, retention.Policy(2), knowledge, MINE)
    return {id_.step for id_ in removed}


OWN = {CheckpointId(3, 36, "b4dc8281", 1004), CheckpointId(3, 40, "b4dc8281", 1005)}


@pytest.mark.parametrize("rank", [MINE, Rank(2, "zz"), Rank(9, "zz"), Rank(3, "zzzz")], ids=str)
@pytest.mark.parametrize("how", ["empty manifest", "manifest without files", "manifest of files that are not there"])
def test_forged_checkpoints_with_receipts_never_count_towards_enough(forged, rank, how):
    for step in (999_999_991, 999_999_992, 999_999_993):
        body = b"" if how == "empty manifest" else None
        plant(forged, rank, step, body=body, files=how != "manifest without files")
    assert retained(forged, OWN) & REAL == set()
    assert real_left(forged) == REAL


def test_with_enough_real_ones_an_old_real_one_still_goes(forged):
    first = forged.manifests()[0]
    assert retained(forged, OWN) == set()
    old = first.parent.parent / "step-000000035"
    first.parent.rename(old)
    assert real_left(forged) == {40}


def test_the_highest_number_that_a_session_can_have_is_no_dead_end():
    with pytest.raises(UserError, match="e999999999999-zz") as told:
        claim.next_epoch(["e999999999999-zz"])
    assert "remove" in told.value.hint


@pytest.mark.parametrize("jump", ["e99999999-zz", "e500000000000-zz", "e10000000-zz"])
def test_a_session_far_beyond_all_others_is_believed_by_nobody(jump):
    names = ["e00000001-aa", "e00000003-b4dc8281", jump]
    assert claim.highest(names) == MINE
    assert claim.judge(names, MINE) is None
    assert claim.next_epoch(names) == 4
    assert claim.believed(names) == {Rank(1, "aa"), MINE}


def test_a_store_whose_first_sessions_were_removed_by_hand_is_believed():
    assert claim.believed(["e00700000-aa", "e00700001-bb"]) == {Rank(700_000, "aa"), Rank(700_001, "bb")}


@pytest.mark.parametrize(
    "name",
    [
        "rollback-000000024-000000025-000000000-000099999-1-1.json", "rollback-000000024-000000025-000000024-000000026-1-0.json",
        "rollback-000000024-000000025-000000024-000000026-1-1e999.json", "rollback-000000024-000000025-000000024-000000026-1-2.json",
        "rollback-000000024-000000025-000000024-000000026-9-1.json", "rollback-000000030-000000025-000000024-000000026-1-1.json",
        "rollback-000000024-000000025-000000000-000000026-0-1.json", "rollback-000000024-000000025-000000027-000000026-1-1.json",
    ],
)  # fmt: skip
def test_a_rollback_that_no_session_can_have_left_is_none(name):
    assert rollback.parse(MINE, name) is None


def test_a_rollback_passes_over_no_more_than_what_led_to_its_trouble():
    left = rollback.parse(rank_of("e00000002-bef24668"), "rollback-000000024-000000025-000000024-000000026-1-1.json")
    assert left is not None
    assert (left.skip_from, left.skip_end, left.rate) == (24, 26, 1.0)
