"""A run is its project's: what the disk tells of a script, and who may enter the run of that name."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from supervisor.core.claim import Rank
from supervisor.core.errors import FAILED_PRECHECKS, UserError
from supervisor.core.project import Project, to_plain
from supervisor.engine import claims, project, retaining, runs
from supervisor.engine.place import RunPlace
from supervisor.stores.folder import FolderStore

if TYPE_CHECKING:
    from pathlib import Path

FIRST, SECOND = Rank(1, "aa"), Rank(2, "bb")
CODE = "import model\nfor step in range(10):\n    model.train(step)\n    print(step)\n"
OTHER = "from data import load\nwhile True:\n    load().sort()\n    break\n"
RUN = RunPlace("train")


def script(path: Path, text: str = CODE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def git(folder: Path, *words: str) -> None:
    own = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main")
    subprocess.run(["git", "-C", str(folder), *own, *words], check=True, capture_output=True)


def repository(folder: Path, text: str = CODE) -> Path:
    made = script(folder / "train.py", text)
    git(folder, "init")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "first")
    return made


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(str(tmp_path / "store"))


def enter(store: FolderStore, of: Path, **more: bool) -> runs.Run:
    return runs.enter(store, RUN, of, [], {}, **more)


def claim(store: FolderStore, rank: Rank, of: Path, *, known: bool = True) -> None:
    body = {"arguments": [], "script": str(of), "local": f"/cache/ab12cd34ab12cd34/{rank}", "options": {"keep_last": 5}}
    claims.write_claim(store, RUN, rank, body | ({"project": to_plain(project.of(of))} if known else {}))


def refused(store: FolderStore, of: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        enter(store, of)
    assert caught.value.exit_code == FAILED_PRECHECKS
    assert "another script" in caught.value.what
    assert "--same-run" in caught.value.hint
    return caught.value


def test_another_folders_script_is_refused_with_a_name_that_can_be_pasted(store, tmp_path):
    first = enter(store, script(tmp_path / "alpha/train.py"))
    other = script(tmp_path / "beta/train.py", OTHER)
    error = refused(store, other)
    assert "'alpha'" in error.what
    assert "'beta'" in error.what
    assert "--name beta-train " in error.hint
    assert enter(store, other, same_run=True).id == first.id


def test_the_proposed_name_is_the_projects_own_run_if_it_has_one(store, tmp_path):
    enter(store, script(tmp_path / "alpha/train.py"))
    mine, theirs = (
        script(tmp_path / "beta/train.py", OTHER),
        script(tmp_path / "x/beta/train.py", "import sys\nsys.exit(3)\n"),
    )
    runs.enter(store, RunPlace("beta-train"), mine, [], {})
    assert "--name beta-train " in refused(store, mine).hint
    assert "--name beta-train-2 " in refused(store, theirs).hint


def test_two_folders_of_one_name_are_told_apart_by_their_paths(store, tmp_path):
    enter(store, script(tmp_path / "one/alpha/train.py"))
    error = refused(store, script(tmp_path / "two/alpha/train.py", OTHER))
    assert "one/alpha" in error.what
    assert "two/alpha" in error.what


def test_two_repositories_are_told_apart_and_a_clone_is_the_same(store, tmp_path):
    first = enter(store, repository(tmp_path / "alpha"))
    refused(store, repository(tmp_path / "beta", OTHER))
    refused(store, repository(tmp_path / "x/alpha", CODE.replace("step", "each")))
    git(tmp_path, "clone", str(tmp_path / "alpha"), str(tmp_path / "vm2/checkout"))
    clone = tmp_path / "vm2/checkout/train.py"
    assert enter(store, clone).id == first.id
    clone.write_text(f"{CODE}print('more')\n")
    assert enter(store, clone).id == first.id


def test_a_moved_or_edited_project_is_the_same(store, tmp_path):
    made = repository(tmp_path / "alpha")
    git(tmp_path / "alpha", "remote", "add", "origin", "https://example.org/ann/alpha.git")
    first = enter(store, made)
    (tmp_path / "alpha").rename(tmp_path / "moved")
    script(tmp_path / "moved/train.py", OTHER)
    assert enter(store, tmp_path / "moved/train.py").id == first.id


def test_two_scripts_of_one_name_in_one_repository_are_two(store, tmp_path):
    repository(tmp_path / "alpha")
    git(tmp_path / "alpha", "remote", "add", "origin", "https://example.org/ann/alpha.git")
    enter(store, script(tmp_path / "alpha/one/train.py"))
    refused(store, script(tmp_path / "alpha/two/train.py"))
    refused(store, script(tmp_path / "alpha/two/train.py", OTHER))


def test_a_worktree_is_of_its_repository(tmp_path):
    repository(tmp_path / "alpha")
    git(tmp_path / "alpha", "remote", "add", "origin", "https://example.org/ann/alpha.git")
    git(tmp_path / "alpha", "worktree", "add", str(tmp_path / "beside"))
    assert project.of(tmp_path / "beside/train.py").remote == "example.org/ann/alpha"


def test_where_the_run_went_on_with_consent_it_goes_on_without(store, tmp_path):
    first, other = script(tmp_path / "alpha/train.py"), script(tmp_path / "beta/train.py", OTHER)
    enter(store, first)
    claim(store, FIRST, first)
    enter(store, other, same_run=True)
    claim(store, SECOND, other)
    enter(store, other)
    enter(store, first)


def older_record(store: FolderStore, of: Path) -> None:
    body = {
        "schema": 1,
        "id": "ab12cd34ab12cd34",
        "script": of.name,
        "digest": project.of(of).digest,
        "arguments": [],
        "options": {},
    }
    store.create(RUN.record, json.dumps(body).encode())


def test_a_record_of_an_older_version_is_known_by_its_sessions(store, tmp_path):
    of = script(tmp_path / "alpha/train.py")
    older_record(store, of)
    claim(store, FIRST, of, known=False)
    assert enter(store, script(of, OTHER)).id == "ab12cd34ab12cd34"
    assert enter(store, script(tmp_path / "else/alpha/train.py", OTHER)).id == "ab12cd34ab12cd34"
    refused(store, script(tmp_path / "beta/train.py", OTHER))


def test_a_record_of_an_older_version_without_sessions_is_anybodys_of_that_name(store, tmp_path):
    older_record(store, script(tmp_path / "alpha/train.py"))
    assert enter(store, script(tmp_path / "beta/train.py", OTHER)).id == "ab12cd34ab12cd34"
    refused(store, script(tmp_path / "beta/main.py", OTHER))


@pytest.mark.parametrize(
    "body",
    [
        None, b"", b'{"schema": 1, ', b"[]", b"null", b'{"schema": "1"}', b'{"schema": 1, "id": 1.5}',
        b'{"schema": 1, "id": 1.5, "script": "train.py", "arguments": [], "options": {}}',
        b'{"schema": 1, "id": "../x", "script": "train.py", "arguments": [], "options": {}}',
        b'{"schema": 1, "id": "ab12cd34ab12cd34", "script": 7, "arguments": [], "options": {}}',
        b'{"schema": 1, "id": "ab12cd34ab12cd34", "script": "train.py", "arguments": [1], "options": {}}',
        b'{"schema": 1, "id": "ab12cd34ab12cd34", "script": "train.py", "arguments": [], "options": []}',
    ],
)  # fmt: skip
def test_a_lost_or_damaged_record_is_read_from_the_sessions_and_written_again(store, tmp_path, body):
    of = script(tmp_path / "alpha/train.py")
    claim(store, FIRST, of)
    if body is not None:
        store.create(RUN.record, body)
    assert runs.names(store) == ["train"]
    known = runs.read(store, RUN)
    assert (known.id, known.script, known.options) == ("ab12cd34ab12cd34", "train.py", {"keep_last": 5})
    assert ("missing" if body is None else "damaged") in known.damaged
    assert enter(store, of).id == "ab12cd34ab12cd34"
    assert runs.read(store, RUN).damaged == ""
    refused(store, script(tmp_path / "beta/train.py", OTHER))


def test_a_damaged_record_without_sessions_stops_nobody_but_is_said(store, tmp_path):
    store.create(RUN.record, b"{")
    with pytest.raises(runs.DamagedRecord):
        runs.read(store, RUN)
    assert enter(store, script(tmp_path / "alpha/train.py")).id


def test_a_claim_keeps_only_what_is_of_the_right_type(store):
    store.create(f"{RUN.session(FIRST)}/claim.json", b'{"arguments": "x", "options": 5, "local": 1, "script": "a.py"}')
    assert claims.read_claim(store, RUN, FIRST) == {"script": "a.py"}


def test_what_home_knows_of_a_project_reaches_the_machine(tmp_path):
    told = project.of(script(tmp_path / "alpha/train.py"))
    assert project.told_by(project.passed_on(told)) == told
    assert project.told_by("") is None
    assert project.told_by("{") is None
    assert project.told_by("{}") is None


def test_the_modules_beside_a_script_are_known_and_those_of_others_are_not(tmp_path):
    of = script(
        tmp_path / "alpha/train.py", "import os, json\nfrom model import Net\nimport nets.deep\nimport supervisor\n"
    )
    script(tmp_path / "alpha/model.py", "import layers\n")
    script(tmp_path / "alpha/layers.py", "import train\n")
    script(tmp_path / "alpha/nets/__init__.py", "")
    script(tmp_path / "alpha/nets/deep.py", "")
    script(tmp_path / "alpha/unused.py", "")
    assert set(project.of(of).sources) == {"model.py", "layers.py", "nets/__init__.py", "nets/deep.py"}
    assert Project().known is False


@pytest.mark.parametrize(
    ("told", "kept"), [({"keep_last": 5}, 5), ({"keep_last": None}, 3), ({"keep_last": "x"}, 3), ({}, 3)]
)
def test_recorded_options_of_another_type_count_as_absent(told, kept):
    assert retaining.keep_last(told, 3) == kept
    assert retaining.watched({"nan_watch": "a,b"}) == ("a", "b")
    assert retaining.watched({"nan_watch": None}) == ()
