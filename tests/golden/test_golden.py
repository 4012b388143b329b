"""Stores, journals and output of an earlier version are read, proved, gone on from, and written again byte for byte."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmarks.machines import Machine, final_state
from supervisor.core import carried, content, rollback
from supervisor.core import checkpoint as cp
from supervisor.core import fleet_words as fw
from supervisor.core.claim import rank_of
from supervisor.core.codec import from_line, to_line
from supervisor.core.instant import Instant
from supervisor.engine import catalogue, claims, history, journal, overview, runs
from supervisor.engine.place import RunPlace
from supervisor.fleet import controller
from supervisor.stores.folder import FolderStore

HERE = Path(__file__).parent
NOW = Instant(0.0, 1_796_080_000.0)
RUNS = ("golden", "plain")


@pytest.fixture
def store(tmp_path):
    """A copy of the golden store."""
    shutil.copytree(HERE / "store", tmp_path / "store")
    return FolderStore(str(tmp_path / "store"))


def found(pattern):
    """Golden files; an empty list would prove nothing."""
    paths = sorted((HERE / "store").rglob(pattern))
    assert paths, pattern
    return paths


def told(name):
    return json.loads((HERE / "told" / name).read_text())


def without_new_fields(old, new):
    """Return ``new`` without the fields that ``old`` lacks: a later version may add some, and changes none."""
    if isinstance(old, dict) and isinstance(new, dict):
        return {name: without_new_fields(old[name], each) for name, each in new.items() if name in old}
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [without_new_fields(*pair) for pair in zip(old, new, strict=True)]
    return new


def again(line, *types):
    """Return a line of a journal as it is written now, read from what was written then."""
    new = json.loads(to_line(*from_line(line, *types)))
    return json.dumps(without_new_fields(json.loads(line), new), ensure_ascii=False, separators=(",", ":"))


def test_every_run_is_listed_and_told_of_as_it_was_then(store):
    assert runs.names(store) == list(RUNS)
    for name in RUNS:
        record = runs.read(store, RunPlace(name))
        assert record is not None
        assert not record.damaged
        was, now = told(f"status-{name}.json"), dict(overview.look(store, RunPlace(name), record, NOW).plain)
        changing = {"durable_age_s", "updated", "eta_s", "deadline_in_s", "next_save_in_s"}
        assert was.keys() <= now.keys()
        assert {key: now[key] for key in was.keys() - changing} == {key: was[key] for key in was.keys() - changing}


def test_every_checkpoint_is_listed_as_it_was_then_and_proved_whole(store, tmp_path):
    for name in RUNS:
        rows = catalogue.rows(store, RunPlace(name), tmp_path / "local", 2)
        was = told(f"checkpoints-{name}.json")
        assert [(row.id.epoch, row.id.step, row.state) for row in rows] == [
            (each["session"], each["step"], each["state"]) for each in was
        ]
        judged = list(catalogue.judged(store, RunPlace(name), tmp_path / "into"))
        assert [(each.verdict, each.why) for each in judged] == [(cp.Verdict.WHOLE, "")] * len(was)


def test_files_that_checkpoints_share_and_a_rollback_are_among_them(store):
    listed = [cp.parse_manifest(path.name, path.read_bytes()) for path in found("manifest-*.json")]
    assert any(f"/step-{each.id.step:09d}/" not in entry.path for each in listed for entry in each.files)
    paths = found("rollback-*.json")
    for path in paths:
        rank = rank_of(path.parent.name)
        parsed = rollback.parse(rank, path.name)
        assert parsed is not None
        assert parsed.name == path.name


def test_records_are_written_again_byte_for_byte(store):
    for path in found("manifest-*.json"):
        body = path.read_bytes()
        manifest = cp.parse_manifest(path.name, body)
        assert cp.manifest_body(manifest) == body
        assert cp.manifest_name(manifest.id.seq, body) == path.name
    for path in found("files.json"):
        assert carried.body(carried.parse(path.read_bytes())) == path.read_bytes()
    for path in found("checkpoint.json"):
        assert content.parse(path.read_bytes()).files
        plain = json.loads(path.read_bytes())
        fields = {name: value for name, value in plain.items() if name not in {"format", "version", "digest"}}
        assert content.sealed(fields) == path.read_bytes()
    for path in found("history.json"):
        place, rank = RunPlace(path.parts[-3]), rank_of(path.parent.name)
        carried_on = history._carried(store, place, rank)
        store.delete(f"{place.session(rank)}/history.json")
        history.carry(store, place, rank, carried_on)
        assert store.read(f"{place.session(rank)}/history.json") == path.read_bytes()


def test_the_records_of_runs_and_sessions_are_written_again_byte_for_byte(store):
    for name in RUNS:
        place = RunPlace(name)
        body, record = store.read(place.record), runs.read_whole(store, place)
        store.delete(place.record)
        runs._create(store, place, record, place.record)
        assert store.read(place.record) == body
        for rank in claims.ranks(store, place):
            folder = place.session(rank)
            claim, wrote = claims.read_claim(store, place, rank), store.read(f"{folder}/claim.json")
            store.delete(f"{folder}/claim.json")
            claims.write_claim(store, place, rank, claim)
            assert store.read(f"{folder}/claim.json") == wrote
            end = claims.read_end(store, place, rank)
            (file,) = [each.name for each in store.list(folder) if claims.END.fullmatch(each.name)]
            wrote = store.read(f"{folder}/{file}")
            store.delete(f"{folder}/{file}")
            claims.write_end(store, place, rank, claims.END.fullmatch(file)[1], end)
            assert store.read(f"{folder}/{file}") == wrote


def test_journals_are_read_in_full_and_written_again_byte_for_byte():
    for path in found("journal-*.jsonl"):
        head, *lines = path.read_text().splitlines()
        first, records = journal.parse_piece(path.read_bytes())
        assert len(records) == len(lines)
        status = without_new_fields(json.loads(head)["status"], journal.plain_status(first))
        assert head == json.dumps({"is": "RunStatus", "status": status}, ensure_ascii=False)
        assert [again(line) for line in lines] == lines


def test_events_on_stdout_keep_their_names_and_fields():
    for path in sorted((HERE / "told").glob("start-*.jsonl")):
        lines = [line for line in path.read_text().splitlines() if json.loads(line)["is"] != "Output"]
        assert lines
        assert [again(line) for line in lines] == lines


def test_a_journal_of_launch_is_folded_and_written_again_byte_for_byte():
    path = HERE / "told" / "fleet-journal.jsonl"
    _, *lines = path.read_text().splitlines()
    assert [again(line, fw.TYPES) for line in lines] == lines
    fleet = controller.folded(path)
    assert (fleet.machine, fleet.exit_code, fleet.safe) == (None, 0, 40)


@pytest.mark.slow
def test_a_run_of_then_is_gone_on_from_and_ends_as_it_did(tmp_path):
    store = tmp_path / "store"
    shutil.copytree(HERE / "store", store)
    was = final_state(store, "golden")
    (last,) = store.glob("golden/e00000003-*")
    for path in (*last.glob("end-*.json"), *last.glob("step-000000040/*"), *last.glob("log-000004-*")):
        path.unlink()
    machine = Machine(tmp_path / "machine", store)
    turn = machine.start(HERE / "project" / "golden.py", "--no-install", "--save-every", "5steps", "--takeover")
    assert turn.wait() == 0, turn.text
    assert "going on from step 36, verified" in turn.text
    assert final_state(store, "golden") == was


@pytest.mark.slow
def test_the_files_of_an_unmodified_script_of_then_are_put_back(tmp_path):
    store = tmp_path / "store"
    shutil.copytree(HERE / "store", store)
    (last,) = store.glob("plain/e00000001-*")
    (end,) = last.glob("end-*.json")
    end.unlink()
    machine = Machine(tmp_path / "machine", store)
    turn = machine.start(
        HERE / "project" / "plain.py", "--no-install", "--watch", "out", "--resume-args", "--resume {checkpoint}", "--takeover"
    )  # fmt: skip
    assert turn.wait() == 0, turn.text
    assert "begins at 6" in turn.text
    assert json.loads((machine.work / "out" / "place-6.json").read_text())["done"] == 6
    assert (machine.work / "out" / "latest").readlink() == Path("place-6.json")
