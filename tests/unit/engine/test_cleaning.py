"""What may be removed from this machine, what keeps it, and that the sizes are those of the disk."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.engine import cleaning
from supervisor.engine.cleaning import Places
from supervisor.environments import locks

RUN = "0123456789abcdef"


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """A machine with an environment, caches, packages of the supervisor, and two runs; one holds unproved work."""
    home, local = tmp_path / "clone/.supervisor", tmp_path / "cache/training-supervisor/runs"
    for name in ("envs/cp311-aa", "uv-cache", "packages-cp311", "tools", "ready"):
        (home / name).mkdir(parents=True)
        (home / name / "file").write_bytes(b"x" * 10_000)
    (home / "envs/cp311-aa.lock").touch()
    (home / "envs/cp311-aa/lock.txt").write_text("einops==1 \\\n    --hash=sha256:00\ntorch==2\n")
    (local / RUN / "wheels").mkdir(parents=True)
    (local / "fedcba9876543210" / "e00000001-00000001/staging/step-000000050-2").mkdir(parents=True)
    (local / "fedcba9876543210" / "e00000001-00000001/lock").touch()
    plates = tmp_path / "cache/hyperlpr_example"
    plates.mkdir()
    (tmp_path / "state").mkdir()
    return Places((home,), (local,), {plates: "plates"}, {tmp_path / "state": "launches"})


def names(items: list[cleaning.Item]) -> dict[str, str]:
    return {item.path.name: item.keeps for item in items}


def test_environments_caches_and_finished_runs_may_go_and_unproved_work_stays(places: Places):
    found = names(cleaning.found(places, everything=False))
    assert found.pop("fedcba9876543210").startswith("holds step 50 of")
    assert found == {"cp311-aa": "", "uv-cache": "", "ready": "", "hyperlpr_example": "", RUN: ""}


def test_all_means_the_supervisors_own_too_and_names_the_unproved_work(places: Places):
    found = cleaning.found(places, everything=True)
    assert set(names(found)) >= {"packages-cp311", "tools", "state"}
    (held,) = [item for item in found if item.path.name == "fedcba9876543210"]
    assert held.keeps == ""
    assert "holds step 50" in held.words


def test_an_environment_is_named_by_its_packages_and_sized_on_the_disk(places: Places):
    environment = next(item for item in cleaning.found(places, everything=False) if item.kind == "environment")
    assert "einops, torch" in environment.words
    assert environment.bytes >= 10_000


def test_a_file_with_two_names_counts_once(places: Places):
    home = places.homes[0]
    os.link(home / "uv-cache/file", home / "envs/cp311-aa/linked")
    before = sum(item.bytes for item in cleaning.found(places, everything=False))
    (home / "envs/cp311-aa/linked").unlink()
    (home / "envs/cp311-aa/own").write_bytes(b"x" * 10_000)
    assert sum(item.bytes for item in cleaning.found(places, everything=False)) > before


def test_what_is_removed_is_gone_with_what_lies_beside_it(places: Places):
    for item in cleaning.found(places, everything=True):
        assert cleaning.remove(item), item
    cleaning.remove_empty([places.homes[0] / "envs", *places.homes, *places.runs])
    assert not places.homes[0].exists()
    assert not places.runs[0].exists()


@pytest.mark.parametrize("name", ["cp311-aa.lock", "cp311-aa/complete"])
def test_what_is_locked_stays(places: Places, name: str):
    lock = places.homes[0] / "envs" / name
    lock.touch()
    with lock.open("rb") as file:
        if name.endswith(".lock"):
            fcntl.flock(file, fcntl.LOCK_EX)
        else:
            locks.hold_in_use(lock)
        found = cleaning.found(places, everything=True)
        (environment,) = [item for item in found if item.kind == "environment"]
        assert environment.keeps == "a process holds its lock"
        assert not cleaning.remove(environment)
    assert environment.path.is_dir()


def test_what_was_taken_into_use_since_it_was_listed_stays(places: Places):
    (item,) = [each for each in cleaning.found(places, everything=True) if each.path.name == "fedcba9876543210"]
    with (item.path / "e00000001-00000001/lock").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert not cleaning.remove(item)
    assert cleaning.remove(item)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="this system does not show what processes use")
def test_what_a_process_names_in_its_environment_stays(places: Places):
    folder = places.homes[0] / "envs/cp311-aa"
    child = subprocess.Popen(
        [sys.executable, "-c", "print('up', flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env={**os.environ, "VIRTUAL_ENV": str(folder)},
    )  # fmt: skip
    try:
        assert child.stdout
        child.stdout.readline()
        (environment,) = [item for item in cleaning.found(places, everything=True) if item.kind == "environment"]
        assert environment.keeps == f"process {child.pid} uses it"
    finally:
        child.communicate(b"\n")


def test_the_notes_of_a_launch_stay_while_its_machine_may_live(places: Places):
    serving = cleaning.replace(places, serving=lambda _: "colab-1")
    (launch,) = [item for item in cleaning.found(serving, everything=True) if item.kind == "launch"]
    assert launch.keeps == "the machine colab-1 may live"
