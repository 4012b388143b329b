"""`--help` of each verb: groups, examples that the verb itself accepts, and exit codes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from supervisor.cli import TABLE, checkpoints, helping, main
from supervisor.views import wrapping

ROOT = Path(__file__).resolve().parents[3]
PEOPLES = sorted(set(TABLE) - {"agent"})


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]):
    def run(verb: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main([verb, "--help"])
        assert ended.value.code == 0
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize("verb", PEOPLES)
def test_each_verb_shows_examples_and_exit_codes(shown, verb: str) -> None:
    text = shown(verb)
    examples = text.split("\nexamples:\n")[1].split("\n\n")[0].splitlines()
    assert 1 <= len(examples) <= 4
    assert all(shlex.split(line)[3] == verb for line in examples)
    codes = text.split("\nexit codes:\n")[1]
    assert re.match(r"  0    \w", codes)
    assert re.search(r"^  2    ", codes, re.MULTILINE)


@pytest.mark.parametrize("verb", ["start", "launch"])
def test_long_lists_of_options_are_in_groups(shown, verb: str) -> None:
    text = shown(verb)
    for group in ("the run:", "saving and this machine:", "failures, and losses that go wrong:", "scripts that nobody"):
        assert f"\n{group}" in text


def test_checkpoints_says_what_each_action_does(shown) -> None:
    text = shown("checkpoints")
    for action in checkpoints.WORDS:
        assert re.search(rf"^  {action}\b.* {{2,}}\w+", text, re.MULTILINE), action
    assert {words.split()[0] for words in checkpoints.ACTIONS} == set(checkpoints.WORDS)


def test_launch_says_where_machines_live(shown) -> None:
    text = " ".join(shown("launch").split())
    for place in (
        "Google's machines",
        "~/.training-supervisor-machines on that host",
        "a blank folder on this computer",
    ):
        assert place in text


def test_the_default_store_is_said_in_words(shown) -> None:
    assert "(default: ./runs; on Colab" in " ".join(shown("status").split())


def test_resume_takes_a_name_and_does_not_show_it(shown) -> None:
    assert "--name" not in shown("resume")


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_the_version_has_a_short_option(said, option: str) -> None:
    assert said(option) == (0, "training-supervisor 0.1.0\n")


@pytest.mark.parametrize("columns", [60, 80])
@pytest.mark.parametrize("verb", PEOPLES)
def test_on_a_terminal_no_word_of_it_is_broken(monkeypatch, shown, verb: str, columns: int) -> None:
    whole = shown(verb).split()
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(wrapping, "_is_terminal", lambda _out: True)
    text = shown(verb)
    assert [word for word in text.split() if word != "\\"] == whole
    assert all(wrapping.width(line) <= columns for line in text.splitlines())


def test_every_code_that_is_listed_is_in_the_table_of_the_readme() -> None:
    table = (ROOT / "README.md").read_text().split("| exit code | meaning |")[1].split("\n\n")[0]
    known = {
        int(code) for row in table.splitlines() for code in re.findall(r"\d+", row.split("|")[1] if "|" in row else "")
    }
    assert {code for codes in helping.CODES.values() for code in codes} <= known
