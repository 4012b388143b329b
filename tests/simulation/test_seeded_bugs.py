"""Each bug that design/store.md names, planted on purpose: a simulation or a law that does not find it proves nothing."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace

import pytest

from supervisor.core import checkpoint as cp
from supervisor.core import claim, machine, retention, saving, sharing
from supervisor.core import commands as do
from supervisor.core import events as ev
from supervisor.core.digest import algorithm_of
from supervisor.core.ports import StoreError
from supervisor.engine import checkpoints, claims, fenced, publication, staged, steplog, storing
from supervisor.engine.place import RunPlace
from tests.simulation.hostile import live_through
from tests.simulation.world import HOSTILE, Hostility
from tests.unit.core import test_checkpoint, test_machine, test_retention, test_running, test_saving

pytestmark = pytest.mark.slow
PATIENCE_H = 240.0
ROTTEN = replace(HOSTILE, damage_every_s=600.0)
ZOMBIES = replace(HOSTILE, pause_at_op=0.01, pause_s=1500.0, meddling_every_s=900.0, machine_life_s=None)
ON_ONE_MACHINE = replace(HOSTILE, machine_dies_with_it=0.0, machine_life_s=None, die_at_op=0.004)


def manifest_first(plant):
    create = publication.local.sealed
    right = publication.publish

    def publish(store, run, rank, order, fence):
        content, sealed = create(order.folder)
        folder = run.step(rank, order.id.step)
        files = tuple(
            cp.FileEntry(name, f"{folder}/{name}".removeprefix(f"{run.name}/"), *promised)
            for name, promised in {**content.files, "checkpoint.json": sealed}.items()
        )
        body = cp.manifest_body(cp.Manifest(order.id, files))
        store.create(f"{folder}/{cp.manifest_name(order.id.seq, body)}", body)
        return right(store, run, rank, order, fence)

    plant(publication, "publish", publish)


def trusting_reader(plant):
    right = checkpoints.bring

    def bring(store, run, found, into, *, link=False):
        found = checkpoints.read_manifest(store, found)
        if found.manifest is None:
            return right(store, run, found, into, link=link)
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir(parents=True)
        for entry in found.manifest.all_files():
            store.pull(f"{run.name}/{entry.path}", str(into / entry.name), algorithm_of(entry.digest))
        return replace(found, verdict=cp.Verdict.WHOLE), into

    plant(checkpoints, "bring", bring)


def eager_deletion(plant):
    right = retention.plan
    plant(retention, "plan", lambda stored, policy: right(stored, replace(policy, newest=2)))


def order_by_step(plant):
    right = cp.resume_point

    def resume_point(found, *, signs_of_work):
        best = max(found, key=lambda each: (each.id.step, each.id.epoch), default=None)
        return right([best] if best else [], signs_of_work=signs_of_work)

    plant(test_checkpoint, "resume_point", resume_point)


def skip_what_cannot_be_read(plant):
    right = checkpoints.bring

    def bring(*arguments, **options):
        found, folder = right(*arguments, **options)
        return (replace(found, verdict=cp.Verdict.BROKEN) if found.verdict is cp.Verdict.UNREADABLE else found), folder

    plant(checkpoints, "bring", bring)


def an_unreadable_store_is_an_empty_one(plant):
    right = checkpoints.find

    def find(store, run):
        try:
            return right(store, run)
        except StoreError:
            return []

    plant(checkpoints, "find", find)
    plant(checkpoints, "_work_is_told_of", lambda *_: False)


def fence_removed(plant):
    plant(fenced, "judge", lambda _names, _mine: None)
    plant(claim, "judge", lambda _names, _mine: None)


def a_stale_listing_gives_the_fence_back(plant):
    right = fenced.FencedStore._stand

    def stand(self):
        self.fallen = None
        right(self)

    plant(fenced.FencedStore, "_stand", stand)


def age_as_evidence(plant):
    right = storing.Storing.publish

    def publish(self, folder, step, tell):
        try:
            return right(self, folder, step, tell)
        except StoreError:
            id_ = cp.CheckpointId(self.rank.epoch, step, self.rank.writer, storing._seq(folder))
            return ev.Durable(str(folder), id_, 1, 1.0, "it is surely there by now")

    plant(storing.Storing, "publish", publish)


def saved_is_said_of_what_is_submitted(plant):
    def submitted(session, event, _now):
        return session.with_(saves=replace(session.saves, durable=event.id)), ()

    row = machine.TABLE[ev.Submitted]
    plant(machine.TABLE, ev.Submitted, (row[0], submitted))


def epoch_reused(plant):
    plant(claim, "next_epoch", lambda names: max(1, getattr(claim.highest(names), "epoch", 1)))


def step_0_on_failure(plant):
    right = checkpoints.newest_whole

    def newest_whole(*arguments, **options):
        try:
            brought = right(*arguments, **options)
        except StoreError:
            return checkpoints.Brought(cp.StartAfresh(), arguments[-1])
        return replace(brought, answer=cp.StartAfresh()) if isinstance(brought.answer, cp.AskUser) else brought

    plant(checkpoints, "newest_whole", newest_whole)


def a_folder_shared_by_sessions(plant):
    plant(RunPlace, "session", lambda self, rank: f"{self.name}/e{rank.epoch // 2:08d}-shared")


def local_work_taken_without_proof(plant):
    plant(staged, "prove", staged.content)
    right = steplog.StepLog.take

    def take(self, folder):
        right(self, folder)
        body = bytearray((folder / "state.json").read_bytes())
        body[-3] ^= 1
        (folder / "state.json").write_bytes(body)

    plant(steplog.StepLog, "take", take)


def rows_of_an_adopted_checkpoint_forgotten(plant):
    plant(steplog.StepLog, "adopt", lambda *_: None)


def rows_kept_beyond_where_a_session_began(plant):
    def joined(store, run):
        return iter([
            row
            for rank in claims.ranks(store, run)
            for _, _, name in steplog._pieces(store, run.session(rank))
            for row in steplog._rows(store.read(f"{run.session(rank)}/{name}"))
        ])  # fmt: skip

    plant(steplog, "joined", joined)


def two_uploads_at_once(plant):
    def publish_next(session):
        if not session.saves.waiting:
            return session, ()
        command = do.Publish(session.saves.waiting, session.saves.waiting_step)
        saves = replace(session.saves, publishing=command.folder, waiting="")
        return session.with_(saves=saves), (command,)

    plant(saving, "publish_next", publish_next)


def a_zombie_does_not_freeze(plant):
    plant(machine, "GAP_S", math.inf)


def a_timer_that_is_not_cleared(plant):
    plant(machine._DUE, "journal", lambda session, _now: (session, (do.WriteJournal(),)))


def removing_without_looking_at_what_is_durable(plant):
    def plan(stored, policy):
        ids = sorted((each.id for each in stored), reverse=True)
        return retention.Plan({}, tuple(ids[max(2, policy.newest) :]))

    plant(test_retention, "plan", plan)


def shared_files_forgotten(plant):
    plant(sharing, "unneeded", lambda paths, _remaining: list(paths))


def shared_with_another_session(plant):
    right = storing.Storing._prove

    def prove(self, found):
        right(self, found)
        self._newest = found.manifest

    plant(storing.Storing, "_prove", prove)


def shared_before_it_is_durable(plant):
    right, last = publication.publish, {}

    def publish(store, run, rank, order, fence):
        last[rank] = right(store, run, rank, replace(order, newest=last.get(rank, order.newest)), fence)
        return last[rank]

    plant(publication, "publish", publish)


SIMULATED = [
    (manifest_first, "I1", HOSTILE),
    (trusting_reader, "I1", ROTTEN),
    (eager_deletion, "I2", HOSTILE),
    (skip_what_cannot_be_read, "I3|no checkpoint in it is whole", replace(HOSTILE, error_at_op=0.04)),
    (an_unreadable_store_is_an_empty_one, "I7", HOSTILE),
    (fence_removed, "I10|I11|I18|I3", ZOMBIES),
    (a_stale_listing_gives_the_fence_back, "I10", ZOMBIES),
    (age_as_evidence, "I4", HOSTILE),
    (epoch_reused, "I11", HOSTILE),
    (step_0_on_failure, "I7", HOSTILE),
    (a_folder_shared_by_sessions, "I8", HOSTILE),
    (local_work_taken_without_proof, "I1|I18", ON_ONE_MACHINE),
    (rows_of_an_adopted_checkpoint_forgotten, "I18", ON_ONE_MACHINE),
    (rows_kept_beyond_where_a_session_began, "I18", HOSTILE),
    (shared_files_forgotten, "I2", HOSTILE),
    (shared_with_another_session, "I8", HOSTILE),
    (shared_before_it_is_durable, "I4", replace(HOSTILE, error_at_op=0.04)),
]
LAWS = [
    (order_by_step, test_checkpoint.test_a_later_session_outranks_a_later_step),
    (
        removing_without_looking_at_what_is_durable,
        test_retention.test_nothing_goes_unless_enough_newer_ones_are_durable,
    ),
    (saved_is_said_of_what_is_submitted, test_saving.test_a_staged_checkpoint_is_published_then_old_ones_are_removed),
    (two_uploads_at_once, test_saving.test_while_one_is_on_its_way_the_newest_waits_and_the_ones_between_are_dropped),
    (a_zombie_does_not_freeze, test_running.test_a_zombie_looks_before_it_writes_and_ends_with_75),
    (a_timer_that_is_not_cleared, test_machine.test_a_session_that_only_wakes_does_not_spin),
]


@pytest.fixture
def plant(monkeypatch):
    def put(where, name, what):
        if isinstance(where, dict):
            monkeypatch.setitem(where, name, what)
        else:
            monkeypatch.setattr(where, name, what)

    return put


@pytest.mark.parametrize(("bug", "found_as", "hostility"), SIMULATED, ids=[bug.__name__ for bug, *_ in SIMULATED])
def test_the_simulation_finds(bug, found_as, hostility: Hostility, plant):
    bug(plant)
    with pytest.raises(AssertionError, match=found_as):
        for _ in live_through(PATIENCE_H, 1, hostility):
            pass


@pytest.mark.parametrize(("bug", "law"), LAWS, ids=[bug.__name__ for bug, _ in LAWS])
def test_a_law_finds(bug, law, plant):
    bug(plant)
    with pytest.raises(AssertionError):
        law()
