"""Each bug that design/store.md names, planted on purpose: a simulation or a law that does not find it proves nothing."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace

import pytest
from hypothesis import Phase

from supervisor.core.checkpoint import manifest as cp
from supervisor.core.checkpoint import session_id
from supervisor.core.digest import algorithm_of
from supervisor.core.policy import dedup, retention
from supervisor.core.ports import StoreError
from supervisor.core.session import commands as do
from supervisor.core.session import events as ev
from supervisor.core.session import saving, state_machine
from supervisor.engine.paths import RunPaths
from supervisor.engine.resume import fetch as checkpoint_fetch
from supervisor.engine.resume import staging as staged_checkpoints
from supervisor.engine.run_catalog import claims, runs
from supervisor.engine.upload import durability, fenced_store, session_store, uploader
from supervisor.engine.upload import step_log as step_log_store
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
    create = staged_checkpoints.sealed
    right = uploader.write_files

    def write_files(store, run, order):
        content, sealed = create(order.folder)
        folder = run.step(order.id.session_id, order.id.step)
        files = tuple(
            cp.FileEntry(name, f"{folder}/{name}".removeprefix(f"{run.name}/"), *promised)
            for name, promised in {**content.files, "checkpoint.json": sealed}.items()
        )
        body = cp.manifest_body(cp.Manifest(order.id, files))
        store.create(f"{folder}/{cp.manifest_name(order.id.seq, body)}", body)
        return right(store, run, order)

    plant(uploader, "write_files", write_files)


def trusting_reader(plant):
    right = checkpoint_fetch.fetch

    def fetch(store, run, found, into, *, link=False):
        found = checkpoint_fetch.read_manifest(store, found)
        if found.manifest is None:
            return right(store, run, found, into, link=link)
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir(parents=True)
        for entry in found.manifest.all_files():
            store.pull(f"{run.name}/{entry.path}", str(into / entry.name), algorithm_of(entry.digest))
        return replace(found, verdict=cp.Validity.WHOLE), into

    plant(checkpoint_fetch, "fetch", fetch)


def eager_deletion(plant):
    right = retention.plan
    plant(retention, "plan", lambda stored, policy: right(stored, replace(policy, newest=2)))


def order_by_step(plant):
    right = cp.resume_point

    def resume_point(found, *, signs_of_work):
        best = max(found, key=lambda each: (each.id.step, each.id.generation), default=None)
        return right([best] if best else [], signs_of_work=signs_of_work)

    plant(test_checkpoint, "resume_point", resume_point)


def skip_what_cannot_be_read(plant):
    right = checkpoint_fetch.fetch

    def fetch(*arguments, **options):
        found, folder = right(*arguments, **options)
        return (
            replace(found, verdict=cp.Validity.BROKEN) if found.verdict is cp.Validity.UNREADABLE else found
        ), folder

    plant(checkpoint_fetch, "fetch", fetch)


def an_unreadable_store_is_an_empty_one(plant):
    right = checkpoint_fetch.list_run

    def list_run(store, run):
        try:
            return right(store, run)
        except StoreError:
            return checkpoint_fetch.RunListing()

    plant(checkpoint_fetch, "list_run", list_run)
    plant(checkpoint_fetch, "_journals_show_work", lambda *_: False)


def fence_removed(plant):
    plant(fenced_store, "superseded_by", lambda _names, _mine: None)
    plant(session_id, "superseded_by", lambda _names, _mine: None)


def a_stale_listing_gives_the_fence_back(plant):
    right = fenced_store.FencedStore._require_owner

    def stand(self):
        self.superseded_listing = None
        right(self)

    plant(fenced_store.FencedStore, "_require_owner", stand)


def age_as_evidence(plant):
    right = session_store.SessionStore.upload

    def upload(self, folder, step, tell):
        try:
            return right(self, folder, step, tell)
        except StoreError:
            id_ = uploader.checkpoint_id(folder, step, self.rank)
            return ev.CheckpointDurable(str(folder), id_, 1, 1.0, "it is surely there by now")

    plant(session_store.SessionStore, "upload", upload)


def saved_is_said_of_what_is_submitted(plant):
    def submitted(session, event, _now):
        return session.with_(saves=replace(session.saves, durable=event.id)), ()

    row = state_machine.TABLE[ev.CheckpointWritten]
    plant(state_machine.TABLE, ev.CheckpointWritten, (row[0], submitted))


def epoch_reused(plant):
    plant(session_id, "next_generation", lambda names: max(1, getattr(session_id.latest(names), "generation", 1)))


def step_0_on_failure(plant):
    right = checkpoint_fetch.fetch_newest_valid

    def fetch_newest_valid(*arguments, **options):
        try:
            brought = right(*arguments, **options)
        except StoreError:
            return checkpoint_fetch.FetchResult(cp.StartFresh(), arguments[-1])
        return replace(brought, answer=cp.StartFresh()) if isinstance(brought.answer, cp.NeedsUser) else brought

    plant(checkpoint_fetch, "fetch_newest_valid", fetch_newest_valid)


def a_folder_shared_by_sessions(plant):
    plant(RunPaths, "session", lambda self, rank: f"{self.name}/e{rank.generation // 2:08d}-shared")


def local_work_taken_without_proof(plant):
    plant(staged_checkpoints, "verify", lambda folder, _step: staged_checkpoints.content(folder))
    right = step_log_store.StepLog.take

    def take(self, folder):
        right(self, folder)
        if (folder / "state.json").is_file():
            body = bytearray((folder / "state.json").read_bytes())
            body[-3] ^= 1
            (folder / "state.json").write_bytes(body)

    plant(step_log_store.StepLog, "take", take)


def rows_of_an_adopted_checkpoint_forgotten(plant):
    plant(step_log_store.StepLog, "adopt", lambda *_: None)


def rows_kept_beyond_where_a_session_began(plant):
    def joined(store, run):
        return iter([
            row
            for rank in claims.ranks(store, run)
            for _, _, name in step_log_store._pieces(store, run.session(rank))
            for row in step_log_store._rows(store.read(f"{run.session(rank)}/{name}"))
        ])  # fmt: skip

    plant(step_log_store, "joined", joined)


def two_uploads_at_once(plant):
    def publish_next(session):
        if not session.saves.next_upload or session.writes_suspended:
            return session, ()
        command = do.UploadCheckpoint(session.saves.next_upload, session.saves.next_upload_step)
        saves = replace(session.saves, uploading=command.folder, next_upload="")
        return session.with_(saves=saves), (command,)

    plant(saving, "upload_next", publish_next)


def a_zombie_does_not_freeze(plant):
    plant(state_machine, "GAP_S", math.inf)


def a_timer_that_is_not_cleared(plant):
    plant(state_machine._DUE, "journal", lambda session, _now: (session, (do.WriteJournal(),)))


def manifest_before_the_files_are_proved(plant):
    right = uploader.CheckpointUploader._confirm_all

    def confirm_all(self, sent):
        self._write_manifest_once(sent)
        return right(self, sent)

    plant(uploader.CheckpointUploader, "_confirm_all", confirm_all)


def durable_on_one_evidence(plant):
    plant(durability, "CONFIRMATIONS_ON_A_DRIVE", 1)


def durable_on_no_evidence(plant):
    plant(durability.DurabilityCheck, "_poll", lambda self, store, paths: self._kinds.add("it was written"))


def durable_with_age(plant):
    right = uploader.CheckpointUploader.confirm

    def confirm(self, folder):
        sent, answer = self._in_flight, right(self, folder)
        if isinstance(answer, ev.DurabilityPending) and self.job.clock.now().since(sent.began) > 60.0:
            return ev.CheckpointDurable(answer.folder, sent.check.manifest.id, 1, 1.0, "it is surely there by now")
        return answer

    plant(uploader.CheckpointUploader, "confirm", confirm)


def manifest_without_a_look_at_the_fence(plant):
    right = uploader.write_manifest

    def write_manifest(store, run, manifest):
        store.check_fence = lambda: None
        try:
            right(store, run, manifest)
        finally:
            del store.check_fence

    plant(uploader, "write_manifest", write_manifest)


def submitted_counts_as_durable(plant):
    right = uploader.CheckpointUploader._begin_confirming

    def begin_confirming(self, folder, manifest, began, *, inherited=False):
        if not inherited:
            self.knowledge.durable.add(manifest.id)
        return right(self, folder, manifest, began, inherited=inherited)

    plant(uploader.CheckpointUploader, "_begin_confirming", begin_confirming)


def files_go_before_their_manifest(plant):
    right = fenced_store.FencedStore.delete

    def delete(self, path):
        folder, _, name = path.rpartition("/")
        if cp.MANIFEST_NAME.fullmatch(name):
            for entry in self.list(folder):
                if not cp.MANIFEST_NAME.fullmatch(entry.name):
                    right(self, f"{folder}/{entry.name}")
        right(self, path)

    plant(fenced_store.FencedStore, "delete", delete)


def order_by_step_alone(plant):
    right = cp.resume_point

    def resume_point(found, *, signs_of_work):
        best = max(found, key=lambda each: (each.id.step, each.id.generation), default=None)
        return right([best] if best else [], signs_of_work=signs_of_work)

    plant(cp, "resume_point", resume_point)


def thawed_by_any_listing(plant):
    phases, right = state_machine.TABLE[ev.FenceChecked]

    def fence_seen(session, event, now):
        return right(session.with_(writes_suspended=False), event, now)

    plant(state_machine.TABLE, ev.FenceChecked, (phases, fence_seen))


def a_torn_manifest_stops_the_start(plant):
    right = checkpoint_fetch.read_manifest

    def read_manifest(store, found):
        found = right(store, found)
        return replace(found, verdict=cp.Validity.UNREADABLE) if found.verdict is cp.Validity.BROKEN else found

    plant(checkpoint_fetch, "read_manifest", read_manifest)


def a_torn_record_stops_the_start(plant):
    plant(runs, "_known", lambda store, run, _made: runs.read_whole(store, run))


def what_lies_in_the_own_cache_counts_as_proved(plant):
    plant(session_store.SessionStore, "_mark_if_confirmed", lambda self, found: self.knowledge.durable.add(found.id))


def a_torn_twin_of_the_log_is_read(plant):
    right = step_log_store._copies

    def copies(store, folders):
        return [replace(piece, paths=[path]) for piece in right(store, folders) for path in piece.paths]

    plant(step_log_store, "_copies", copies)


def removing_without_looking_at_what_is_durable(plant):
    def plan(stored, policy):
        ids = sorted((each.id for each in stored), reverse=True)
        return retention.RetentionPlan({}, tuple(ids[max(2, policy.newest) :]))

    plant(test_retention, "plan", plan)


def shared_files_forgotten(plant):
    plant(dedup, "unreferenced", lambda paths, _remaining: list(paths))


def shared_with_another_session(plant):
    right = session_store.SessionStore._mark_if_confirmed

    def prove(self, found):
        right(self, found)
        self.uploader.newest = found.manifest

    plant(session_store.SessionStore, "_mark_if_confirmed", prove)


def shared_before_it_is_durable(plant):
    right, last = uploader.write_files, {}

    def write_files(store, run, order):
        last[order.id.session_id] = right(
            store, run, replace(order, newest=last.get(order.id.session_id, order.newest))
        )
        return last[order.id.session_id]

    plant(uploader, "write_files", write_files)


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
