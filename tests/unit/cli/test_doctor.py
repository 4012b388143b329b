"""Can a run live here: findings in words, and an exit code for programs."""

import json
import re

import pytest

from supervisor import wiring
from supervisor.core.errors import UserError
from supervisor.engine import accelerators, checkup, probing
from supervisor.engine.clock import BootClock
from tests.unit.cli.away import Drive


def test_a_healthy_machine_has_no_problem_and_is_left_as_it_was(said, root):
    code, words = said("doctor", "--store", "runs", "--json")
    told = json.loads(words)
    assert code == 0, words
    assert told["ok"] is True
    about = {each["about"]: each["level"] for each in told["findings"]}
    assert {"python", "machine", "platform", "store", "evidence", "staging", "clock"} <= about.keys()
    assert about["store"] == "ok"
    assert not (root / "runs").exists()


def test_the_key_is_one_line_to_paste_and_stays_the_same(said, root, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(root / "state"))
    code, words = said("doctor", "--key")
    assert code == 0
    assert re.fullmatch(r"export SUPERVISOR_KEY=[0-9a-f]{64}\n", words)
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-1")
    assert said("doctor", "--key")[1] == words.replace("export", "%env")
    (root / "state" / "training-supervisor" / "key").unlink()
    (root / "state" / "training-supervisor").rmdir()
    (root / "state" / "training-supervisor").touch()
    code, words = said("doctor", "--key")
    assert code == 4
    assert "this machine has no key" in words


def test_a_store_with_runs_in_it_keeps_them(said, left, root):
    assert said("doctor")[0] == 0
    assert [each.name for each in (root / "runs").iterdir()] == ["plates"]


def test_a_store_that_cannot_be_written_prevents_a_run(said, root):
    (root / "file").write_text("")
    code, words = said("doctor", "--store", "file/runs")
    assert code == 4
    assert "problem store: the store" in words
    assert "        -> " in words


def test_a_local_disk_that_cannot_be_written_prevents_a_run(said, root, monkeypatch):
    (root / "file").write_text("")
    monkeypatch.setenv("SUPERVISOR_RUN_LOCAL", str(root / "file"))
    code, words = said("doctor")
    assert code == 4
    assert "SUPERVISOR_RUN_LOCAL" in words


def test_each_finding_is_a_line_and_the_last_says_what_comes_next(said, root):
    words = said("doctor")[1].splitlines()
    assert words[0].startswith("ok      python: Python 3.")
    assert words[-1] == "  next: python3 -m supervisor start trainers/toy.py"  # which is found from any folder


@pytest.fixture
def drive(root, monkeypatch):
    made = Drive(str(root / "runs"))
    monkeypatch.setattr(wiring, "open_store", lambda *_, **__: made)
    monkeypatch.setattr(checkup, "PROOF_WAIT_S", 0.05)
    monkeypatch.setattr(probing, "LOOK_EVERY_S", 0.01)
    return made


def findings(said):
    code, words = said("doctor", "--json")
    return code, {each["about"]: each for each in json.loads(words)["findings"]}


def test_a_drive_is_measured_and_what_that_means_for_saving_is_said(said, drive, root, monkeypatch):
    monkeypatch.setattr(checkup, "PROOF_WAIT_S", 60.0)  # it comes after a few questions, however slow this machine is
    drive.refuses = 2
    code, found = findings(said)
    assert code == 0
    assert found["store"]["words"].endswith("(Drive) takes files, gives them back and removes them")
    assert "Drive itself says, twice, that each of its files is uploaded" in found["evidence"]["words"]
    assert found["store speed"]["words"].startswith("8 MB are written in ")
    assert " and safe after " in found["store speed"]["words"]
    assert found["save interval"]["words"].startswith("300 MB are safe after about ")
    assert "--save-every auto saves at most every" in found["save interval"]["hint"]
    assert "up to 1 min late" in found["staleness"]["words"]
    assert found["store space"]["words"] == "10.0 GB free"
    assert not list((root / "runs").iterdir())


def test_what_a_drive_does_not_confirm_in_time_is_a_warning_with_what_to_look_at(said, drive):
    drive.refuses = None
    code, found = findings(said)
    assert code == 0
    assert found["evidence"]["level"] == "warning"
    assert "64 kB are written but not safe after 0 s: Drive has not uploaded it yet" in found["evidence"]["words"]
    assert "is Drive full?" in found["evidence"]["hint"]
    assert "save interval" not in found


def test_a_mount_that_gives_no_proof_is_said_to_be_one(said, drive):
    drive.possible = False
    code, found = findings(said)
    assert code == 0
    assert found["evidence"]["level"] == "warning"
    assert "no checkpoint is called safe, and none is removed" in found["evidence"]["words"]
    assert "verify` on another machine" in found["evidence"]["hint"]


@pytest.mark.parametrize("kind", ["hung", "gone"])
def test_a_drive_that_does_not_answer_is_a_problem_said_after_one_look(said, drive, kind):
    drive.fails = kind
    looks = []
    see = drive._see_root
    drive._see_root = lambda: (looks.append(1), see())
    code, found = findings(said)
    assert code == 4
    assert found["store"]["level"] == "problem"
    assert "has not answered" in found["store"]["words"]
    assert "mount it again" in found["store"]["hint"]
    assert len(looks) == 1
    assert found["clock"]["level"] == "ok"


def test_a_full_drive_is_a_problem_and_an_unknown_quota_is_said(said, drive):
    drive.free = 10**6
    code, found = findings(said)
    assert code == 4
    assert "drive.google.com/settings/storage" in found["store space"]["hint"]
    drive.free = None
    assert findings(said)[1]["store space"]["words"] == "nobody here knows how much is free"


def test_a_place_that_the_platform_refuses_is_a_finding_among_the_others(said, root, monkeypatch):
    def refuse(*_, **__):
        raise UserError("it is on Google Drive, and Drive is not mounted here", "run this cell")

    monkeypatch.setattr(wiring, "open_store", refuse)
    code, found = findings(said)
    assert code == 4
    assert found["store"]["hint"] == "run this cell"
    assert "staging" in found


def test_how_long_a_checkpoint_takes_is_what_each_file_takes_and_what_its_bytes_add():
    small, large = probing.Probe(0, 0.0, 2.0, "drivefs"), probing.Probe(8_000_000, 0.5, 4.0, "drivefs")
    assert probing.Measurement(small, large, 0.0).upload_s(80e6) == 20.0 + 2 * 2.0
    assert probing.Measurement(small, large, 5.0).upload_s(80e6) == 20.0 + 2 * (2.0 + 2 * 5.0)
    assert probing.Measurement(small).upload_s(80e6) is None


def test_the_platform_its_life_and_its_notice_are_told(said, root, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(BootClock().now().wall_s + 7200))
    _, found = findings(said)
    assert found["platform"]["words"].startswith("slurm: Slurm job 4711; runs are kept in ")
    assert found["lifetime"]["words"].startswith("0 s old, expected to end in ")
    assert "SIGUSR1" in found["notice"]["words"]


def test_without_a_known_end_that_is_said(said, root):
    _, found = findings(said)
    assert found["lifetime"]["words"] == "no limit is known; --budget TIME sets one"


def test_a_driver_that_hangs_does_not_hang_the_doctor(said, root, monkeypatch):
    monkeypatch.setattr(accelerators, "seen_within", lambda *_: None)
    _, found = findings(said)
    assert found["accelerator"]["level"] == "warning"
    assert "does not answer" in found["accelerator"]["words"]


def test_an_accelerator_is_told_with_its_memory(said, root, monkeypatch):
    card = accelerators.Card("Tesla T4", 15 * 2**30)
    monkeypatch.setattr(accelerators, "seen_within", lambda *_: accelerators.Seen((card,), "550"))
    _, found = findings(said)
    assert found["accelerator"]["level"] == "ok"
    assert found["accelerator"]["words"].startswith("1 x Tesla T4, 15 GB")
