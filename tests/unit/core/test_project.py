"""Which scripts share a run: those of one project, edited or moved, and never those of two that only share a file's name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor.core.project import (
    Project,
    arguments_changed,
    changes,
    free_name,
    from_plain,
    likeness,
    remote_of,
    same,
    sketch,
    to_plain,
)

LINES = tuple(f"line {number}" for number in range(20))
EDITED = (*LINES[:15], "other 1", "other 2", "other 3")
FOREIGN = tuple(f"foreign {number}" for number in range(20))


def project(
    place: str, lines: tuple[str, ...] = LINES, *, path: str = "", remote: str = "", commit: str = ""
) -> Project:
    """Return the project of a script at ``place``; ``path`` in it, if that is more than the file's name."""
    path = path or place.rpartition("/")[2]
    folder = place.removesuffix(f"/{path}").rpartition("/")[2]
    where, repository = remote_of(remote)
    text = "\n".join(lines)
    return Project(folder, path, place, where, repository, commit, digest=text, lines=sketch(text))


ALPHA = project("/home/ann/alpha/train.py")
CLONE = project("/home/ann/alpha/train.py", remote="https://github.com/ann/alpha.git", commit="c1")


@pytest.mark.parametrize(
    ("known", "mine"),
    [
        (ALPHA, ALPHA),
        (ALPHA, project("/home/ann/alpha/train.py", EDITED)),
        (ALPHA, project("/home/ann/alpha/train.py", FOREIGN)),  # rewritten where it lies
        (ALPHA, project("/content/drive/MyDrive/alpha/train.py", EDITED)),
        (ALPHA, project("/content/train.py")),  # uploaded as it is
        (ALPHA, project("/mnt/alpha-main/train.py", EDITED)),  # the archive of a branch
        (CLONE, project("/content/x/train.py", EDITED, remote="git@github.com:ann/alpha.git")),
        (CLONE, project("/content/x/train.py", FOREIGN, remote="ssh://git@github.com:22/ann/alpha")),
        (CLONE, project("/content/alpha/train.py", EDITED, remote="https://github.com/bob/alpha")),  # a fork
        (CLONE, project("/content/alpha/src/train.py", path="src/train.py", remote="https://github.com/ann/alpha")),
        (project("/x/alpha/train.py", commit="c1"), project("/y/alpha/train.py", EDITED, commit="c1")),
        (project("/x/alpha/train.py"), project("/y/checkout/train.py", EDITED, remote="/x/alpha")),  # clone from a disk
        (project("/content/train.py"), project("/content/train.py", EDITED)),
        (project("/x/alpha/exp/train.py", path="exp/train.py"), project("/y/exp/train.py", EDITED)),
        (Project(), ALPHA),
    ],
)
def test_the_same_project_is_recognised_on_every_machine(known, mine):
    assert same(known, mine)
    assert same(mine, known) or not known.known


@pytest.mark.parametrize(
    ("known", "mine"),
    [
        (ALPHA, project("/home/ann/beta/train.py", FOREIGN)),
        (ALPHA, project("/home/ann/beta/train.py", EDITED)),  # both from one tutorial
        (project("/content/train.py"), project("/content/train.py", FOREIGN)),  # where everything is uploaded to
        (project("/x/baseline/train.py"), project("/y/baseline/train.py", FOREIGN)),
        (CLONE, project("/content/nanogpt/train.py", FOREIGN, remote="https://github.com/ann/nanogpt")),
        (
            CLONE,
            project("/content/mine/train.py", remote="https://github.com/ann/mine"),
        ),  # a copy in another repository
        (CLONE, project("/content/alpha/train.py", FOREIGN, remote="https://github.com/bob/alpha")),
        (CLONE, project("/x/alpha/two/train.py", FOREIGN, path="two/train.py", remote="https://github.com/ann/alpha")),
        (project("/x/alpha/train.py", commit="c1"), project("/y/alpha/train.py", EDITED, commit="c2")),
    ],
)
def test_what_only_shares_the_name_is_another_project(known, mine):
    assert not same(known, mine)
    assert not same(mine, known)


def test_two_copies_of_a_script_in_one_repository_are_two_scripts():
    other = replace(CLONE, path="two/train.py", place="/home/ann/alpha/two/train.py")
    assert same(CLONE, other)
    assert not same(CLONE, other, copy_remains=True)


def test_a_few_equal_lines_that_call_other_modules_are_another_project():
    short = replace(ALPHA, sources={"model.py": "1"})
    other = replace(short, folder="beta", place="/home/ann/beta/train.py")
    assert same(short, other)
    assert not same(short, replace(other, sources={"model.py": "2"}))


@pytest.mark.parametrize(
    ("url", "remote"),
    [
        ("https://token@GitHub.com/ann/alpha.git", ("github.com/ann/alpha", "alpha")),
        ("git@github.com:ann/alpha.git", ("github.com/ann/alpha", "alpha")),
        ("ssh://git@github.com:2222/ann/alpha/", ("github.com/ann/alpha", "alpha")),
        ("/srv/git/alpha.git", ("", "alpha")),
        ("../alpha", ("", "alpha")),
        ("C:/git/alpha", ("", "alpha")),
        ("", ("", "")),
    ],
)
def test_a_remote_is_one_however_its_address_is_written(url, remote):
    found, name = remote_of(url)
    assert (found.replace("github.com/ann/Alpha", "github.com/ann/alpha"), name.lower()) == remote


def test_a_secret_in_an_address_is_not_recorded():
    assert "token" not in str(to_plain(project("/x/train.py", remote="https://ann:token@example.org/ann/alpha")))


def test_a_project_is_read_as_it_was_written():
    of = replace(CLONE, sources={"model.py": "1"})
    assert from_plain(to_plain(of)) == of


@pytest.mark.parametrize("told", [None, [], "x", {"folder": 1, "lines": {}, "sources": [1], "digest": None}])
def test_damage_in_a_record_is_an_unknown_project(told):
    assert from_plain(told) == Project()


def test_likeness_counts_the_lines_and_not_their_places():
    text = "\n".join(LINES)
    assert likeness(sketch(text), sketch("\n".join(f"  {line}" for line in reversed(LINES)))) == 1.0
    assert likeness(sketch(text), sketch("\n".join(FOREIGN))) == 0.0
    assert likeness(sketch(text), ()) is None


def test_a_proposed_name_is_free_and_can_be_a_folder():
    assert free_name(ALPHA, ()) == "alpha-train"
    assert free_name(ALPHA, ("alpha-train", "alpha-train-2")) == "alpha-train-3"
    assert free_name(project("/x/my project/train it.py"), ()) == "my-project-train-it"


def test_what_was_edited_is_named():
    known = replace(ALPHA, sources={"model.py": "1", "data.py": "1"})
    assert changes(known, known) == []
    assert changes(known, replace(known, digest="2", sources={"model.py": "2", "data.py": "1", "new.py": "1"})) == [
        "the script was edited",
        "model.py was edited",
    ]
    assert changes(Project(), known) == []
    assert arguments_changed(["--lr", "0.1"], ["--lr", "0.2"]) == "its arguments changed from `--lr 0.1` to `--lr 0.2`"
    assert arguments_changed([], ["-x"]) == "its arguments changed from none to `-x`"
    assert arguments_changed(["-x"], ["-x"]) == ""
