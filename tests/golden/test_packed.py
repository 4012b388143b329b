"""A store of an early build of version 0.1, whose newest checkpoint is packed: named with its way out, and passed over.

``packed_store`` was made once by commit 8184219 with ``project/packed.py``; no later version can make it again.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.machines import Machine
from supervisor.cli import main
from supervisor.core import checkpoint as cp
from supervisor.core.errors import FAILED, FAILED_PRECHECKS, UserError
from supervisor.engine import catalogue, checkpoints, finished, packed, retaining
from supervisor.engine.claims import ranks
from supervisor.engine.place import RunPlace
from supervisor.fleet import next_machine
from supervisor.stores.folder import FolderStore

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RUN = RunPlace("packed")
LINE = re.compile(r"in a clone of training-supervisor: `(git worktree add [^`]*)`")


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A copy of the store, for commands in this process and in others."""
    monkeypatch.setenv("SUPERVISOR_RUN_LOCAL", str(tmp_path / "local"))
    shutil.copytree(HERE / "packed_store", tmp_path / "store")
    return FolderStore(str(tmp_path / "store"))


@pytest.fixture
def only_packed(store):
    """The store without its plain checkpoint."""
    shutil.rmtree(next(Path(store.traits.where).glob("packed/*/step-000000005")))
    return store


def command(capsys, store, *words):
    """Run a command in this process; return its exit code, stdout and stderr on one line each, and all of both."""
    code = main([*words, "--store", store.traits.where])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, " ".join(out.split()), err


def id_of(store, step):
    return next(each.id for each in checkpoints.find(store, RUN) if each.id.step == step)


def test_the_packed_one_is_named_and_the_plain_one_is_whole(store, tmp_path):
    found = {each.id.step: (each.verdict, each.why) for each in catalogue.judged(store, RUN, tmp_path)}
    assert found == {15: (cp.Verdict.PACKED, cp.PACKED), 5: (cp.Verdict.WHOLE, "")}


def test_no_newer_version_is_asked_for_and_none_is_damaged():
    assert not issubclass(cp.PackedFormat, cp.NewerFormat)
    (path,) = HERE.glob("packed_store/packed/*/step-000000015/manifest-*.json")
    with pytest.raises(cp.PackedFormat):
        cp.parse_manifest(path.name, path.read_bytes())


def test_verify_prints_the_line_that_exports_it(store, capsys):
    code, out, _ = command(capsys, store, "checkpoints", "packed", "verify")
    assert code == FAILED_PRECHECKS
    assert "step 15 of session 1: packed" in out
    assert "1 packed, 1 verified" in out
    assert store.traits.where in LINE.search(out)[1]


@pytest.mark.parametrize(
    "words", [("list",), ("status", "packed"), ("checkpoints", "packed"), ("logs", "packed", "--steps")]
)
def test_views_show_such_a_run_as_any_other(only_packed, capsys, words):
    code, out, _ = command(capsys, only_packed, *words)
    assert (code, out != "") == (0, True)


def test_the_newest_plain_one_is_exported_and_the_packed_one_named(store, capsys, tmp_path):
    code, out, _ = command(capsys, store, "checkpoints", "packed", "export", "latest", str(tmp_path / "to"))
    assert code == 0
    assert "passed over: step 15 of session 1: packed" in out
    assert LINE.search(out)
    assert json.loads((tmp_path / "to" / "checkpoint.json").read_text())["step"] == 5


def test_the_packed_one_is_not_exported_and_its_way_out_is_the_second_line(store, capsys, tmp_path):
    code, _, err = command(capsys, store, "checkpoints", "packed", "export", "15", str(tmp_path / "to"))
    assert code == FAILED
    what, hint = err.splitlines()
    assert "step 15 of session 1: packed" in what
    assert LINE.search(hint)
    assert not (tmp_path / "to").exists()


def test_the_run_counts_as_finished_although_its_last_checkpoint_is_packed(store):
    (found,) = checkpoints.find_in(store, RUN, ranks(store, RUN)[-1], 15)
    assert finished._missing_of(store, RUN, found) == ""


def test_the_next_machine_of_a_launch_gets_the_plain_one(store, tmp_path):
    chosen = next_machine.choose(store, RUN, tmp_path / "into")
    assert chosen.manifest.id.step == 5
    assert LINE.search(chosen.skipped[-1])
    assert retaining.pinned(store, RUN) == {id_of(store, 15)}


def test_a_launch_that_finds_packed_ones_alone_ends_in_two_lines(only_packed, tmp_path):
    with pytest.raises(UserError) as refused:
        next_machine.choose(only_packed, RUN, tmp_path / "into")
    assert cp.PACKED in refused.value.what
    assert LINE.search(refused.value.hint)


def test_packed_ones_are_pinned_once_and_no_other(store, tmp_path):
    found = list(catalogue.judged(store, RUN, tmp_path))
    packed.keep(store, RUN, found)
    packed.keep(store, RUN, found)
    assert retaining.pinned(store, RUN) == {id_of(store, 15)}


def without_its_end(store):
    (end,) = Path(store.traits.where).glob("packed/*/end-*.json")
    end.unlink()


@pytest.mark.slow
def test_a_start_goes_on_from_the_plain_one_and_keeps_the_packed_one(store, tmp_path):
    without_its_end(store)
    machine = Machine(tmp_path / "machine", Path(store.traits.where))
    words = ("--no-install", "--takeover", "--save-every", "1steps", "--keep-last", "2")
    turn = machine.start(HERE / "project" / "packed.py", *words)
    assert turn.wait() == 0, turn.text
    said = " ".join(turn.text.split())
    assert "the checkpoint of step 15 of session 1 was passed over" in said
    assert LINE.search(said)
    assert "going on from step 5, verified" in said
    assert {each.id.epoch for each in checkpoints.find(store, RUN)} == {1, 2}
    assert id_of(store, 15) in retaining.pinned(store, RUN)
    assert list(Path(store.traits.where).glob("packed/e00000001-*/step-000000015/state-00000.safetensors.packed"))


@pytest.mark.slow
def test_a_start_that_finds_packed_ones_alone_ends_in_two_lines(only_packed, tmp_path):
    without_its_end(only_packed)
    machine = Machine(tmp_path / "machine", Path(only_packed.traits.where))
    turn = machine.start(HERE / "project" / "packed.py", "--no-install", "--takeover")
    assert turn.wait() == FAILED_PRECHECKS, turn.text
    assert "Traceback" not in turn.text
    said = " ".join(turn.text.split())
    assert "early builds of version 0.1 packed its files" in said
    assert "start --resume never" in said
    assert LINE.search(said)


@pytest.mark.slow
@pytest.mark.network
def test_the_line_that_is_printed_exports_it(store, tmp_path):
    """The line runs in a clone beside this checkout, in which the earlier build makes its own private environment."""
    has = ["git", "-C", str(ROOT), "cat-file", "-e", f"{packed.BUILD}:supervisor/engine/container.py"]
    if subprocess.run(has, capture_output=True, check=False).returncode:
        pytest.skip(f"this checkout has no history back to {packed.BUILD}: it is a shallow clone, or none")
    subprocess.run(["git", "clone", "-q", "--shared", "--no-checkout", str(ROOT), str(tmp_path / "clone")], check=True)
    found = max(checkpoints.find(store, RUN), key=lambda each: each.id)
    line = LINE.search(packed.way_out(store, RUN, found))[1].replace("python3", shlex.quote(sys.executable))
    done = subprocess.run(line, shell=True, cwd=tmp_path / "clone", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    state = tmp_path / "packed-15" / "state-00000.safetensors"
    assert state.stat().st_size > 4096
    assert json.loads((tmp_path / "packed-15" / "checkpoint.json").read_text())["step"] == 15
