"""Stopping what does not live, and completing the command line of a run from its record."""

import json
from argparse import Namespace
from pathlib import Path

import pytest

from supervisor.cli import resume, start
from supervisor.core.errors import UsageError


def test_stopping_a_run_that_never_began_says_so(said, left):
    code, words = said("stop")
    assert code == 0
    assert "nothing to stop: no machine has served it yet" in words
    assert "nothing safe yet" in words


def test_stopping_a_run_that_ended_says_how_and_what_is_safe(said, left):
    rank = left.session(1)
    left.trained(rank, 40)
    left.end(rank, "handed-over", 42, words="the time budget is used up")
    code, words = said("stop")
    assert code == 0
    assert "session 1 ended already: the time budget is used up" in words
    assert "safe: step 40" in words
    assert not list((left.root / "runs/plates").glob("stop-*"))


def test_stopping_a_session_that_died_here_says_so(said, left, mine):
    left.session(1, {**mine, "pid": 4_000_000})
    code, words = said("stop")
    assert code == 0
    assert "died on this machine without a word" in words


def given(**options):
    names = (*start.DEFAULTS, "run", "name", "store")
    return (
        Namespace(**dict.fromkeys(names), takeover=False, no_install=False, json=False)
        if not options
        else (Namespace(**{**dict.fromkeys(names), "no_install": False, **options}))
    )


def test_recorded_options_read_back_as_they_were_given():
    recorded = {
        "save_every": "500steps", "keep_last": 5, "max_restarts": 7, "max_preemptions": None, "budget": 43200.0,
        "resume": "never", "hang_after": 90.0, "install": False,
    }  # fmt: skip
    options = given()
    resume.complete(options, recorded)
    settings = start.settings(options, {}, "train.py")
    assert settings["save_every"].unit == "steps"
    assert settings["save_every"].value == 500
    assert settings["keep_last"] == 5
    assert settings["max_restarts"] == 7
    assert settings["max_preemptions"] is None
    assert settings["budget"] == 43200.0
    assert settings["hang_after"] == 90.0
    assert options.no_install is True


def test_a_run_once_begun_afresh_on_purpose_is_resumed_not_begun_again():
    options = given()
    resume.complete(options, {"resume": "never"})
    assert start.settings(options, {}, "train.py")["resume"] == "auto"


def test_the_command_line_wins_over_what_is_recorded():
    options = given(keep_last="9")
    resume.complete(options, {"keep_last": 5})
    assert start.settings(options, {}, "train.py")["keep_last"] == 9


@pytest.mark.parametrize(("value", "typed"), [(None, ""), (0.0, "none"), (90.5, "90.500s")])
def test_a_recorded_budget_is_none_given_none_at_all_or_seconds(value, typed):
    options = given()
    resume.complete(options, {"budget": value})
    assert options.budget == typed


def find(left, absolute=""):
    record = json.loads((left.root / "runs/plates/run.json").read_text())
    from supervisor.engine.runs import Run

    return resume.find_script(
        Run(record["id"], record["script"], record["digest"]), absolute, "plates", Namespace(store=None)
    )


def test_the_script_is_found_in_the_working_folder(left):
    assert find(left) == left.root / "train.py"


def test_the_script_that_is_the_same_is_taken_before_one_of_the_same_name(left, monkeypatch):
    inner = left.root / "inner"
    inner.mkdir()
    (inner / "train.py").write_text("print('another')\n")
    monkeypatch.chdir(inner)
    assert find(left) == left.root / "train.py"


def test_the_script_is_found_where_the_last_machine_had_it(left, monkeypatch, tmp_path_factory):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert find(left, str(left.root / "train.py")) == left.root / "train.py"


def test_a_script_that_is_not_here_ends_in_two_lines(left, monkeypatch, tmp_path_factory):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    with pytest.raises(UsageError) as error:
        find(left)
    assert "train.py" in error.value.what
    assert "start PATH/TO/train.py --name plates" in error.value.hint


def test_resuming_runs_the_recorded_script_with_the_recorded_arguments(said, left, monkeypatch):
    served = []
    monkeypatch.setattr(start, "serve", lambda *given: served.append(given) or 0)
    left.session(1, arguments=["--steps", "200"], options={"keep_last": 4})
    assert said("resume", "--trust-store")[0] == 0
    script, arguments, options = served[0]
    assert script == Path(left.root / "train.py")
    assert arguments == ["--steps", "200"]
    assert (options.name, options.keep_last, options.store) == ("plates", "4", "./runs")


def test_other_arguments_behind_two_dashes_replace_the_recorded_ones(said, left, monkeypatch):
    served = []
    monkeypatch.setattr(start, "serve", lambda *given: served.append(given) or 0)
    said("resume", "plates", "--trust-store", "--", "--steps", "7")
    assert served[0][1] == ["--steps", "7"]
