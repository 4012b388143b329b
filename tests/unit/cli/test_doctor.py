"""Can a run live here: findings in words, and an exit code for programs."""

import json


def test_a_healthy_machine_has_no_problem_and_is_left_as_it_was(said, root):
    code, words = said("doctor", "--store", "runs", "--json")
    told = json.loads(words)
    assert code == 0, words
    assert told["ok"] is True
    about = {each["about"]: each["level"] for each in told["findings"]}
    assert {"python", "machine", "platform", "store", "evidence", "staging", "clock"} <= about.keys()
    assert about["store"] == "ok"
    assert not (root / "runs").exists()


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
    assert words[-1] == "  next: python -m supervisor start SCRIPT"
