"""A run's name may begin with a dash: each verb takes it, or says in two lines how it is given."""

from __future__ import annotations

import json
import shlex

import pytest

NAME = "-odd"
HERE = "python3 -m supervisor "


@pytest.fixture
def odd(make):
    left = make(NAME)
    left.end(left.session(1), "stopped", 143)
    return left


@pytest.mark.parametrize(
    "words",
    [
        ("status", "--", NAME),
        ("status", f"--name={NAME}"),
        ("logs", "--", NAME),
        ("stop", "--", NAME),
        ("checkpoints", "--", NAME),
        ("checkpoints", "--json", "--", NAME, "list"),
        ("checkpoints", f"--name={NAME}", "list"),
        ("rm", "--dry-run", "--", NAME),
        ("rm", "--dry-run", f"--name={NAME}"),
    ],
)
def test_a_verb_takes_it_behind_the_dashes_and_by_name(said, odd, words):
    code, text = said(*words)
    assert code == 0, text
    assert "there is no run" not in text


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("status -odd", "status --name=-odd"),
        ("logs -odd -f", "logs --name=-odd -f"),
        ("stop -odd", "stop --name=-odd"),
        ("rm -odd --dry-run", "rm --name=-odd --dry-run"),
        ("checkpoints -odd list", "checkpoints --name=-odd list"),
        ("rm -- -odd --dry-run", "rm --dry-run -- -odd"),
        ("checkpoints -- -odd verify --json", "checkpoints verify --json -- -odd"),
        ("resume -- -odd", "resume --name=-odd"),
    ],
)
def test_another_place_is_answered_with_the_line_that_works(said, odd, root, line, meant):
    code, text = said(*shlex.split(line))
    assert code == 2, text
    what, hint = text.splitlines()
    assert hint == f"  try: {HERE}{meant}"
    assert "-odd" in what or "stands behind --" in what
    assert (root / "runs" / NAME).exists()


def test_two_dashes_without_a_word_behind_change_nothing(said, odd):
    assert said("status", "--")[0] == 0


@pytest.mark.parametrize(
    ("line", "what", "hint"),
    [
        ("rm", "RUN is missing", "list shows the names"),
        ("status --store", "--store needs a value", "--help lists the options"),
        ("status --store -x", "--store needs a value", "in one word: --store=-x"),
        ("start train.py --name -odd", "--name needs a value", "in one word: --name=-odd"),
        ("start train.py --no-install=3", "--no-install takes no value", "--help lists the options"),
        ("launch train.py", "--on is missing", "--help lists the options"),
        ("checkpoints export latest d --as keras", "a Keras model writes its weights itself", "save_weights"),
        ("checkpoints export latest d --as kears", "--as: 'kears' is not known", "did you mean keras?"),
        ("checkpoints export latest d --as", "--as needs a value", "--help lists the options"),
        ("checkpoints --as torch", "--as torch goes with export", "checkpoints export latest DIR --as torch"),
        ("checkpoints plates verify --as torch", "goes with export", "plates export latest DIR --as torch"),
    ],
)
@pytest.mark.usefixtures("left")
def test_a_wrong_command_line_is_answered_in_two_lines_of_ours(said, root, line, what, hint):
    code, text = said(*shlex.split(line))
    assert code == 2, text
    first, second = text.splitlines()
    assert what in first
    assert hint in second
    assert not (root / "d").exists()


def test_doctor_names_clean_with_what_it_would_free(said, root, monkeypatch):
    monkeypatch.setenv("HYPERLPR_CACHE", str(root / "plates"))
    (root / "plates").mkdir()
    (root / "plates" / "weights").write_bytes(b"0" * 3_000_000)
    found = {each["about"]: each for each in json.loads(said("doctor", "--json")[1])["findings"]}
    assert "could be freed" in found["leftovers"]["words"]
    assert "`clean --dry-run`" in found["leftovers"]["hint"]
    assert f"`{HERE}clean --dry-run` lists them, and `{HERE}clean` removes them" in said("doctor")[1]
