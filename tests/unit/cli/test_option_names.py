"""Each renamed option still accepts its old name, and --help lists only the new one."""

from __future__ import annotations

import pytest

from supervisor.cli import ALIASES, TABLE
from supervisor.cli.verbs import launch, rehearse, resume, start
from supervisor.core.errors import UsageError

VALUES = {
    "budget": ("--budget", "--time-limit", "8h", 8 * 3600.0),
    "hang_after": ("--hang-after", "--hang-timeout", "90s", 90.0),
    "settle": ("--settle", "--visibility-delay", "5s", 5.0),
    "nan_rate": ("--nan-rate", "--rollback-lr-factor", "0.5", "0.5"),
    "nan_watch": ("--nan-watch", "--monitor", "loss, accuracy", "loss,accuracy"),
    "watch": ("--watch", "--watch-dir", "out", "out"),
}
VERBS = {"start": start.command_line, "resume": resume.command_line, "launch": launch._parser}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("key", VALUES)
def test_old_and_new_names_set_the_same_setting(verb, key):
    *names, typed, value = VALUES[key]
    for name in names:
        words = [name, typed, *(["--on", "local"] if verb == "launch" else [])]
        options = VERBS[verb]().parse_args(words)
        assert start.settings(options, {}, "train.py")[key] == value


@pytest.mark.parametrize("verb", VERBS)
def test_help_lists_only_the_new_names(verb):
    listed = VERBS[verb]().format_help().replace(",", " ").split()
    for old, new, *_ in VALUES.values():
        assert new in listed
        assert old not in listed


def test_the_two_names_of_the_watched_folder_work_in_rehearse():
    for name in ("--watch", "--watch-dir"):
        assert rehearse._parser().parse_args(["train.py", name, "out"]).watch == "out"
    assert "--watch-dir" in rehearse._parser().format_help()
    assert "--watch " not in rehearse._parser().format_help()


@pytest.mark.parametrize("key", VALUES)
def test_a_script_sets_its_options_by_both_names(key):
    options = start.command_line().parse_args(["train.py"])
    *names, typed, value = VALUES[key]
    for name in names:
        assert start.settings(options, {name[2:]: typed}, "train.py")[key] == value


def test_an_error_names_the_new_option():
    options = start.command_line().parse_args(["train.py", "--budget", "12x"])
    with pytest.raises(UsageError, match="--time-limit: '12x' is not a duration"):
        start.settings(options, {}, "train.py")


def test_a_misspelled_old_name_is_answered_with_the_new_one(said, root):
    (root / "train.py").write_text("print(1)\n")
    code, words = said("start", "train.py", "--budgt", "8h")
    assert code == 2
    assert "did you mean --time-limit?" in words
    assert "start train.py --time-limit 8h" in words


def test_launch_sends_the_new_names_to_a_machine():
    options = launch._parser().parse_args(["train.py", "--on", "local", "--budget", "3h", "--hang-after", "90s"])
    assert launch._forwarded_options(options) == ["--time-limit", "3h", "--hang-timeout", "90s"]


def test_a_recorded_command_is_shown_with_the_new_names():
    recorded = {"budget": 60.0, "settle": 5.0, "watch": "out"}
    shown = resume._option_words(recorded)
    assert shown == ["--time-limit", "60.000s", "--visibility-delay", "5.000s", "--watch-dir", "out"]


def test_the_second_name_of_a_verb_runs_it(said):
    for verb, real in ALIASES.items():
        assert real in TABLE
        code, words = said(verb, "-m", "train")
        assert code == 2
        assert "takes a script, and runs no module" in words
