"""Each bug that design/store.md names, planted on purpose: a simulation or a law that does not find it proves nothing."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace

import pytest
from hypothesis import Phase

from supervisor.core import checkpoint as cp
from supervisor.core import claim, machine, retention, saving, sharing
from supervisor.core import commands as do
from supervisor.core import events as ev
from supervisor.core.digest import algorithm_of
from supervisor.core.ports import StoreError
from supervisor.engine import checkpoints, claims, fenced, proof, publication, runs, staged, steplog, storing, uploads
from supervisor.engine.place import RunPlace
from tests.simulation.hostile import live_through
from tests.simulation.test_rules import follow_the_rules
from tests.simulation.world import HOSTILE, Hostility
from tests.unit.core import test_checkpoint, test_machine, test_retention, test_running, test_saving

pytestmark = [pytest.mark.slow, pytest.mark.more]
PATIENCE_H = 240.0
ROTTEN = replace(HOSTILE, damage_every_s=600.0)
ZOMBIES = replace(HOSTILE, pause_at_op=0.01, pause_s=1500.0, meddling_every_s=900.0, machine_life_s=None)
ON_ONE_MACHINE = replace(HOSTILE, machine_dies_with_it=0.0, machine_life_s=None, die_at_op=0.004)


def manifest_first(plant):
    create = publication.local.sealed
    right = publication.submit

    def submit(store, run, rank, order, fence):
        content, sealed = create(order.folder)
        folder = run.step(rank, order.id.step)
        files = tuple(
            cp.FileEntry(name, f"{folder}/{name}".removeprefix(f"{run.name}/"), *promised)
            for name, promised in {**content.files, "checkpoint.json": sealed}.items()
        )
        body = cp.manifest_body(cp.Manifest(order.id, files))
        store.create(f"{folder}/{cp.manifest_name(order.id.seq, body)}", body)
        return right(store, run, rank, order, fence)

    plant(publication, "submit", submit)


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
    right = checkpoints.look_over

    def look_over(store, run):
        try:
            return right(store, run)
        except StoreError:
            return checkpoints.Listed()

    plant(checkpoints, "look_over", look_over)
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
            id_ = uploads.checkpoint_id(folder, step, self.rank)
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
    plant(staged, "prove", lambda folder, _step: staged.content(folder))
    right = steplog.StepLog.take

    def take(self, folder):
        right(self, folder)
        if (folder / "state.json").is_file():
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
        if not session.saves.waiting or session.frozen:
            return session, ()
        command = do.Publish(session.saves.waiting, session.saves.waiting_step)
        saves = replace(session.saves, publishing=command.folder, waiting="")
        return session.with_(saves=saves), (command,)

    plant(saving, "publish_next", publish_next)


def a_zombie_does_not_freeze(plant):
    plant(machine, "GAP_S", math.inf)


def a_timer_that_is_not_cleared(plant):
    plant(machine._DUE, "journal", lambda session, _now: (session, (do.WriteJournal(),)))


def manifest_before_the_files_are_proved(plant):
    right = proof.Proof.ask

    def ask(self, store, seal_it):
        self.seal(seal_it)
        return right(self, store, seal_it)

    plant(proof.Proof, "ask", ask)


def durable_on_one_evidence(plant):
    plant(proof, "TIMES_LATER", 1)


def durable_on_no_evidence(plant):
    plant(proof.Proof, "_ask", lambda self, store, paths: self._kinds.add("it was written"))


def durable_with_age(plant):
    right = uploads.Uploads.confirm

    def confirm(self, folder, log):
        sent, answer = self._on_its_way, right(self, folder, log)
        if isinstance(answer, ev.Unconfirmed) and self.job.clock.now().since(sent.began) > 60.0:
            return ev.Durable(answer.folder, sent.proof.manifest.id, 1, 1.0, "it is surely there by now")
        return answer

    plant(uploads.Uploads, "confirm", confirm)


def manifest_without_a_look_at_the_fence(plant):
    right = publication.seal
    plant(publication, "seal", lambda store, run, manifest, _fence: right(store, run, manifest, lambda: None))


def submitted_counts_as_durable(plant):
    right = uploads.Uploads._submit

    def submit(self, order):
        manifest = right(self, order)
        self.knowledge.durable.add(manifest.id)
        return manifest

    plant(uploads.Uploads, "_submit", submit)


def files_go_before_their_manifest(plant):
    right = fenced.FencedStore.delete

    def delete(self, path):
        folder, _, name = path.rpartition("/")
        if cp.MANIFEST_NAME.fullmatch(name):
            for entry in self.list(folder):
                if not cp.MANIFEST_NAME.fullmatch(entry.name):
                    right(self, f"{folder}/{entry.name}")
        right(self, path)

    plant(fenced.FencedStore, "delete", delete)


def order_by_step_alone(plant):
    right = cp.resume_point

    def resume_point(found, *, signs_of_work):
        best = max(found, key=lambda each: (each.id.step, each.id.epoch), default=None)
        return right([best] if best else [], signs_of_work=signs_of_work)

    plant(cp, "resume_point", resume_point)


def thawed_by_any_listing(plant):
    phases, right = machine.TABLE[ev.FenceSeen]

    def fence_seen(session, event, now):
        return right(session.with_(frozen=False), event, now)

    plant(machine.TABLE, ev.FenceSeen, (phases, fence_seen))


def a_torn_manifest_stops_the_start(plant):
    right = checkpoints.read_manifest

    def read_manifest(store, found):
        found = right(store, found)
        return replace(found, verdict=cp.Verdict.UNREADABLE) if found.verdict is cp.Verdict.BROKEN else found

    plant(checkpoints, "read_manifest", read_manifest)


def a_torn_record_stops_the_start(plant):
    plant(runs, "_known", lambda store, run, _made: runs.read_whole(store, run))


def what_lies_in_the_own_cache_counts_as_proved(plant):
    plant(storing.Storing, "_prove", lambda self, found: self.knowledge.durable.add(found.id))


def a_torn_twin_of_the_log_is_read(plant):
    right = steplog._copies

    def copies(store, folders):
        return [replace(piece, paths=[path]) for piece in right(store, folders) for path in piece.paths]

    plant(steplog, "_copies", copies)


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
        self.uploads.newest = found.manifest

    plant(storing.Storing, "_prove", prove)


def shared_before_it_is_durable(plant):
    right, last = publication.submit, {}

    def submit(store, run, rank, order, fence):
        last[rank] = right(store, run, rank, replace(order, newest=last.get(rank, order.newest)), fence)
        return last[rank]

    plant(publication, "submit", submit)


IN_A_FOLDER = [
    (manifest_first, "I1", HOSTILE),
    (trusting_reader, "I1|I16|I18", ROTTEN),  # a trainer that is given garbage again and again never ends
    (eager_deletion, "I2", HOSTILE),
    (skip_what_cannot_be_read, "I3|I2", replace(HOSTILE, error_at_op=0.04)),
    (an_unreadable_store_is_an_empty_one, "I7", HOSTILE),
    (fence_removed, "I10|I11|I18|I3", ZOMBIES),
    (a_stale_listing_gives_the_fence_back, "I10", replace(ZOMBIES, meddling_every_s=450.0, error_at_op=0.03)),
    (age_as_evidence, "I4", HOSTILE),
    (epoch_reused, "I11", HOSTILE),
    (step_0_on_failure, "I7", HOSTILE),
    (a_folder_shared_by_sessions, "I8", HOSTILE),
    (local_work_taken_without_proof, "I1|I16|I18", ON_ONE_MACHINE),
    (rows_of_an_adopted_checkpoint_forgotten, "I18", ON_ONE_MACHINE),
    (rows_kept_beyond_where_a_session_began, "I18", HOSTILE),
    (shared_files_forgotten, "I2", HOSTILE),
    (shared_with_another_session, "I8", HOSTILE),
    (shared_before_it_is_durable, "I4", replace(HOSTILE, error_at_op=0.12)),
]
ON_A_DRIVE = [
    (manifest_before_the_files_are_proved, "I1", HOSTILE),
    (durable_on_one_evidence, "I4", HOSTILE),
    (durable_on_no_evidence, "I1|I4", HOSTILE),
    (durable_with_age, "I4", HOSTILE),
    (manifest_without_a_look_at_the_fence, "I10", HOSTILE),
    (trusting_reader, "I1|I16|I18", HOSTILE),  # a trainer that is given garbage again and again never ends
    (submitted_counts_as_durable, "I2|I4", HOSTILE),
    (eager_deletion, "I2", HOSTILE),
    (files_go_before_their_manifest, "I2", HOSTILE),
    (order_by_step_alone, "I3|I2", ZOMBIES),
    (skip_what_cannot_be_read, "I3|I2", HOSTILE),
    (an_unreadable_store_is_an_empty_one, "I7", HOSTILE),
    (step_0_on_failure, "I7", HOSTILE),
    (fence_removed, "I10|I11|I18|I3", ZOMBIES),
    (thawed_by_any_listing, "I10", ZOMBIES),
    (epoch_reused, "I11", HOSTILE),
    (two_uploads_at_once, "I17", HOSTILE),
    (a_torn_twin_of_the_log_is_read, "I18", replace(HOSTILE, twin=0.1)),
    (a_torn_manifest_stops_the_start, "I16", HOSTILE),
    (a_torn_record_stops_the_start, "I16", replace(HOSTILE, error_at_op=0.2)),
]
BY_RULES = [
    (what_lies_in_the_own_cache_counts_as_proved, "I4"),
    (durable_on_one_evidence, "I1|I4"),
    (manifest_before_the_files_are_proved, "I1"),
    (submitted_counts_as_durable, "I2|I4"),
    (fence_removed, "I10"),
    (files_go_before_their_manifest, "I2"),
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


@pytest.mark.parametrize(("bug", "found_as", "hostility"), IN_A_FOLDER, ids=[bug.__name__ for bug, *_ in IN_A_FOLDER])
def test_the_simulation_finds_in_a_folder(bug, found_as, hostility: Hostility, plant):
    bug(plant)
    with pytest.raises(AssertionError, match=rf"\b({found_as})\b"):
        for _ in live_through(PATIENCE_H, 1, hostility, drive=False):
            pass


@pytest.mark.parametrize(("bug", "found_as", "hostility"), ON_A_DRIVE, ids=[bug.__name__ for bug, *_ in ON_A_DRIVE])
def test_the_simulation_finds_on_a_drive(bug, found_as, hostility: Hostility, plant):
    bug(plant)
    with pytest.raises(AssertionError, match=rf"\b({found_as})\b"):
        for _ in live_through(PATIENCE_H, 1, hostility, drive=True):
            pass


@pytest.mark.parametrize(("bug", "found_as"), BY_RULES, ids=[bug.__name__ for bug, _ in BY_RULES])
def test_the_rules_find(bug, found_as, plant):
    bug(plant)
    with pytest.raises(AssertionError, match=rf"\b({found_as})\b"):
        follow_the_rules(1, 1000, [Phase.generate])


@pytest.mark.parametrize(("bug", "law"), LAWS, ids=[bug.__name__ for bug, _ in LAWS])
def test_a_law_finds(bug, law, plant):
    bug(plant)
    with pytest.raises(AssertionError):
        law()
