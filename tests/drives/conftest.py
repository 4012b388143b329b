"""Drives for the tests, and the certainty that no mount and no process of them stays, even when a test run is killed."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.machines import Machine, Turn, final_state
from tests.drives import told
from tests.drives.drive import Disk, Drive, Guard
from tests.drives.fake_drive import FakeDrive
from tests.drives.hasty import HastyMachine
from tests.drives.rclone_drive import RcloneDrive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def _missing() -> str:
    if os.getuid() != 0:
        return "not root: these tests mount drives"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "no /dev/fuse here: these tests mount drives"
    tools = [tool for tool in ("fusermount3", "rclone") if shutil.which(tool) is None]
    if importlib.util.find_spec("mfusepy") is None:
        tools.append("mfusepy")
    return f"{', '.join(tools)} not installed: these tests mount drives" if tools else ""


MISSING = _missing()


@pytest.fixture(scope="session")
def guard() -> Iterator[Guard]:
    """Whoever mounts tells it."""
    if MISSING:
        pytest.skip(MISSING)
    guard = Guard()
    yield guard
    guard.end()


@pytest.fixture
def new_drive(tmp_path: Path, guard: Guard) -> Iterator[Callable[..., Any]]:
    """Each call makes another drive of a kind, and mounts it; another machine's drive is one with the same cloud."""
    made: list[Drive] = []

    def make(kind: type[Drive], *, mount: bool = True, **options: Any) -> Drive:
        made.append(kind(tmp_path / f"drive-{len(made) + 1}", guard, **options))
        if mount:
            made[-1].mount()
        return made[-1]

    yield make
    for drive in made:
        drive.kill()


@pytest.fixture
def fake(new_drive: Callable[..., FakeDrive]) -> FakeDrive:
    return new_drive(FakeDrive)


@pytest.fixture
def rclone(new_drive: Callable[..., RcloneDrive]) -> RcloneDrive:
    return new_drive(RcloneDrive)


@pytest.fixture
def new_disk(tmp_path: Path, guard: Guard) -> Iterator[Callable[..., Disk]]:
    """Each call is a small disk of its own."""
    made: list[Disk] = []

    def make(size_bytes: int, name: str = "") -> Disk:
        made.append(Disk(tmp_path / (name or f"disk-{len(made) + 1}"), size_bytes, guard))
        return made[-1]

    yield make
    for disk in made:
        disk.end()


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], dict[str, Any]]:
    """Return how the toy's run of so many steps ends in a plain folder when nothing happens to it."""

    @functools.cache
    def ends(steps: int) -> dict[str, Any]:
        folder = tmp_path_factory.mktemp("reference")
        machine = Machine(folder / "machine", folder / "supervisor")
        turn = told.begin(machine, steps=steps, step_ms=1)
        assert turn.wait() == 0, turn.text
        return final_state(machine.store, told.RUN)

    return ends


@pytest.fixture
def new_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], Machine]]:
    """Each call is another blank machine with its store at a place."""
    made: list[HastyMachine] = []
    turns: list[Turn] = []
    whole = Machine.start

    def start(self: Machine, *words: Any, **more: Any) -> Turn:
        turns.append(whole(self, *words, **more))
        return turns[-1]

    monkeypatch.setattr(Machine, "start", start)

    def make(store: Path) -> Machine:
        made.append(HastyMachine(tmp_path / f"machine-{len(made) + 1}", store))
        return made[-1]

    yield make
    for turn in turns:
        turn.end()
    for machine in made:
        told.end_all(machine)
