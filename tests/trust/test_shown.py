"""What comes out of a store, a script or a machine does nothing to the terminal of who looks, and hides from other users."""

from __future__ import annotations

import io
import json
import os
import stat

import pytest

from supervisor import cli
from supervisor.core import commands as do
from supervisor.core.claim import Rank
from supervisor.core.errors import UserError
from supervisor.core.shown import shown, shown_lines, shown_output
from supervisor.engine import staged
from supervisor.engine.place import LocalPlace
from supervisor.views import bottom, terminal, wrapping
from supervisor.views.lines import Lines
from supervisor.views.table import rows
from tests.trust.forged import RUN, Forged

HOSTILE = "\x1b]52;c;ZXZpbA==\x07\x1b[2J\x9b2J\u202eevil\x7f\nerror: forged"
ACTS = ("\x1b", "\x9b", "\x07", "\u202e", "\x7f")


@pytest.fixture
def forged(tmp_path):
    """A store whose records carry control characters wherever a text stands."""
    made = Forged(tmp_path)
    for path in made.root.rglob("*.json"):
        if path.name.startswith(("end-", "claim", "run")):
            told = json.loads(path.read_bytes())
            told |= {key: HOSTILE for key in ("words", "platform", "script") if key in told}
            path.write_text(json.dumps(told))
    for path in made.root.rglob("log-*.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps({**row, HOSTILE: HOSTILE}) + "\n" for row in lines))
    for path in made.root.rglob("output-*.log"):
        path.write_text(HOSTILE)
    (made.root / RUN.name / "verified-3-40-b4dc8281-1005-ab.json").write_text(
        json.dumps({"evidence": HOSTILE, "at": 1})
    )
    return made


@pytest.mark.parametrize(
    "words",
    [
        ("list",), ("list", "--json"), ("status", "golden"), ("status", "golden", "--json"), ("checkpoints", "golden"),
        ("checkpoints", "golden", "--json"), ("checkpoints", "golden", "verify"), ("logs", "golden"), ("logs", "golden", "--steps"),
        ("logs", "golden", "--steps", "--json"), ("stop", "golden"), ("resume", "golden"), ("status", "no such run"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_no_verb_lets_a_store_act_on_a_terminal(forged, capsysbinary, monkeypatch, tmp_path, words):
    monkeypatch.setenv("SUPERVISOR_RUN_LOCAL", str(tmp_path / "local"))
    cli.main([*words, "--store", str(forged.root)])
    told = capsysbinary.readouterr()
    text = (told.out + told.err).decode()
    assert text
    assert not [each for each in ACTS if each in text]
    if "logs" not in words:
        assert "\nerror: forged" not in text
    if "--json" in words and words[0] != "logs":
        assert json.loads(told.out)


def test_the_lines_of_a_start_are_shown_too():
    out = io.StringIO()
    lines = Lines(out)
    for screen in (terminal.PlainScreen(lines), terminal.JsonScreen(lines), terminal.LiveScreen(lines, lambda: 80)):
        screen.say(do.Say("info", HOSTILE, HOSTILE))
        screen.printed(HOSTILE.encode())
    lines.close()
    without_ours = out.getvalue().replace(bottom.CLEAR, "")
    for ours in (wrapping.CYAN, wrapping.DIM, wrapping.PLAIN):
        without_ours = without_ours.replace(ours, "")
    assert not [each for each in ACTS if each in without_ours]


def test_colours_and_progress_bars_of_a_script_stay():
    text = "\x1b[31mred\x1b[0m 50%\r\x1b[1;32m100%\x1b[0m\n\ttab"
    assert shown_output(text) == text
    assert shown_output("\x1b[5Aup\x1b]0;title\x07") == "\\u001b[5Aup\\u001b]0;title\\u0007"


def test_what_is_raw_goes_into_a_pipe_as_it_was(forged, capsysbinary):
    cli.main(["logs", "golden", "--raw", "--store", str(forged.root)])
    assert HOSTILE.encode() in capsysbinary.readouterr().out


@pytest.mark.parametrize(
    "character",
    [
        *map(chr, range(32)),
        "\x7f",
        *map(chr, range(0x80, 0xA0)),
        *"\u061c\u200e\u200f\u2028\u2029\u202a\u202e\u2066\u2069\ud800",
    ],
)
def test_every_character_that_acts_is_escaped(character):
    assert character not in shown(f"a{character}b")
    assert character in "\n\t" or character not in shown_lines(f"a{character}b")
    assert shown("ünïcode 京 · é") == "ünïcode 京 · é"


def test_a_cell_of_a_table_is_one_line():
    assert len(rows(("run", "state"), [("a\nb", "\x1b[2J")])) == 2


def test_what_a_session_keeps_here_is_this_user_s_alone(tmp_path):
    root = tmp_path / "shared" / "training-supervisor"
    place = LocalPlace(root, "0123456789abcdef", Rank(1, "a"))
    os.umask(os.umask(0o022))
    place.make()
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    root.chmod(0o755)
    place.make()
    assert stat.S_IMODE(root.stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_what_another_user_has_staged_is_not_gone_on_from(tmp_path):
    run = tmp_path / "run"
    mine = run / "e00000001-aa" / "staging" / "step-000000010-1"
    theirs = run / "e00000002-bb" / "staging" / "step-000000999-1"
    for folder in (mine, theirs):
        folder.mkdir(parents=True)
    os.chown(theirs.parent.parent, 65534, 65534)
    assert [each.id.step for each in staged.staged_on_this_machine(run)] == [10]
    (run / "e00000003-cc").symlink_to(theirs.parent.parent)
    assert [each.id.step for each in staged.staged_on_this_machine(run)] == [10]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_a_local_folder_of_another_user_is_refused(tmp_path):
    root = tmp_path / "training-supervisor"
    root.mkdir()
    os.chown(root, 65534, 65534)
    with pytest.raises(UserError, match="belongs to another user"):
        LocalPlace(root, "0123456789abcdef", Rank(1, "a")).make()
