"""Lines that stay are broken between words only; command lines can be pasted as they are shown."""

from __future__ import annotations

import io
import re
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core import program
from supervisor.views import table, wrapping
from tests.unit.views.shown import Terminal

WORDS = st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters="`"), min_size=1, max_size=12)


@given(st.lists(WORDS, min_size=1, max_size=40), st.sampled_from([40, 60, 80]))
def test_no_word_is_broken_and_none_is_lost(words: list[str], columns: int) -> None:
    shown = wrapping.wrapped(" ".join(words), columns)
    assert shown.split() == " ".join(words).split()
    assert all(wrapping.width(line) <= columns for line in shown.split("\n"))


@given(st.lists(WORDS, min_size=1, max_size=12), WORDS, st.sampled_from([60, 80]))
def test_a_wrapped_command_line_is_read_by_a_shell_as_it_was(words: list[str], store: str, columns: int) -> None:
    whole = program.command_of_run("logs", " ".join(words), "-f", option=program.store_option(store))
    for before, after in (
        ("  next: ", ""),
        ("see what it printed last: `", "`, and start it again when that is mended"),
    ):
        shown = wrapping.wrapped(f"{before}{whole}{after}", columns)
        text = shown.split("`")[1] if after else shown.removeprefix(before)
        assert shlex.split(text.replace("\\\n", "")) == shlex.split(whole)


def test_each_of_two_commands_in_a_line_can_be_pasted() -> None:
    whole = program.expanded(
        "-> `clean --dry-run` lists them, and `clean` removes them after asking; runs in stores stay"
    )
    for columns in range(40, 100):
        commands = wrapping.wrapped(f"        {whole}", columns).split("`")[1::2]
        assert [shlex.split(each.replace("\\\n", "")) for each in commands] == [
            shlex.split(program.command("clean", "--dry-run")), shlex.split(program.command("clean")),
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "hang"),
    [
        ("[supervisor] warning: " + "word " * 30, 22),
        ("[supervisor] " + "word " * 30, 13),
        ("error: " + "word " * 30, 7),
        ("  try: " + "word " * 30, 7),
        ("  safe: step 4 " + "word " * 30, 4),
    ],
)
def test_what_goes_on_stands_under_its_beginning(line: str, hang: int) -> None:
    _first, *others = wrapping.wrapped(line, 60).split("\n")
    assert others
    assert all(re.match(r" *", each)[0] == " " * hang for each in others)


def test_short_lines_and_pipes_get_each_line_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert wrapping.wrapped("a  b\n\n  c", 20) == "a  b\n\n  c"
    assert wrapping.fitted("word " * 50, io.StringIO()) == "word " * 50
    assert "\n" in wrapping.fitted("word " * 50, Terminal())


def test_chinese_takes_two_columns_and_colours_take_none() -> None:
    assert wrapping.width("训练a") == 5
    assert wrapping.width(f"{wrapping.RED}error:{wrapping.PLAIN}") == 6
    assert wrapping.wrapped("训练 " * 15, 30).count("\n") == 2


@pytest.mark.parametrize(
    ("environ", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False), ({"NO_COLOR": ""}, True)],
)
def test_errors_are_red_where_the_terminal_has_colours(monkeypatch, environ: dict[str, str], coloured: bool) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    wrapping.show_error("it failed", "mend it")
    assert (wrapping.RED in terminal.getvalue()) is coloured
    assert "it failed" in terminal.getvalue()


STATES = [
    ("FAILED", wrapping.RED),
    ("FAILED (the supervisor)", wrapping.RED),
    ("COULD NOT START", wrapping.RED),
    ("RUNNING", wrapping.GREEN),
    ("SUCCEEDED", wrapping.GREEN),
    ("INTERRUPTED", wrapping.YELLOW),
    ("WAITING FOR A MACHINE", wrapping.YELLOW),
    ("HANDED_OVER", wrapping.YELLOW),
    ("RECOVERING", wrapping.YELLOW),
    ("CANCELLING", wrapping.YELLOW),
    ("CANCELLED", wrapping.YELLOW),
    ("NOT STARTED", wrapping.CYAN),
]


@pytest.mark.parametrize(("state", "colour"), STATES)
def test_a_state_has_the_colour_of_how_well_it_is_on_a_terminal_alone(monkeypatch, state: str, colour: str) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert wrapping.painted_state(f"{state}   ", Terminal()) == f"{colour}{state}{wrapping.PLAIN}   "
    assert wrapping.painted_state(state, io.StringIO()) == state
    monkeypatch.setenv("NO_COLOR", "1")
    assert wrapping.painted_state(state, Terminal()) == state


def test_colours_in_a_table_move_no_column() -> None:
    plain = table.rows(("run", "state", "step"), [("a", "FAILED", "1"), ("bb", "RUNNING", "20")])
    painted = table.rows(
        ("run", "state", "step"),
        [("a", "FAILED", "1"), ("bb", "RUNNING", "20")],
        {1: lambda cell: f"{wrapping.RED}{cell}{wrapping.PLAIN}"},
    )
    assert [re.sub(r"\x1b\[\d*m", "", line) for line in painted] == plain
    assert wrapping.RED in painted[1]
