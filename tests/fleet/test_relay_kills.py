"""Agent and controller killed at every call that changes a disk: what comes after them goes on, and home ends the same."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from supervisor.fleet import parcels
from tests.fleet.published import RUN, Served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow
CALLS = ("open", "write", "pwrite", "link", "unlink", "rename", "replace", "mkdir")
SIZE = 1000
KILLED = 9
STRIDE = int(os.environ.get("RELAY_STRIDE", "8"))  # 1: every one of them, in about half a minute


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """Return a folder with a machine that has served, of which home knows nothing."""
    folder = tmp_path_factory.mktemp("template")
    served = Served(folder)
    served.enter()
    served.publish(20, os.urandom(3 * SIZE))
    served.publish(40, b"small")
    return folder


@pytest.fixture(autouse=True)
def small_and_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("CONTENT_BYTES_MAX", SIZE), ("BYTES_MAX", 4 * SIZE)):
        monkeypatch.setattr(parcels, name, value)
    monkeypatch.setattr("supervisor.fleet.outbox.SMALL_BYTES", 0)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # because a kill takes nothing out of the memory of the system


def forked(act: Callable[[], object]) -> int:
    """Do it in a process of its own and return how that ended."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            act()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def dying_at(number: int) -> None:
    """End this process, as nothing can prevent, before its n-th call that changes a disk."""
    counted = [0]

    def around(call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*given: Any, **more: Any) -> Any:
            counted[0] += 1
            if counted[0] == number:
                os._exit(KILLED)
            return call(*given, **more)

        return called

    for name in CALLS:
        setattr(os, name, around(getattr(os, name)))


def points(template: Path, folder: Path, act: Callable[[Path], object], first: int) -> Iterator[Path]:
    """Yield the folder as each death leaves it, until the act lives to its end."""
    number = first
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(template, folder)

        def die(at: int = number) -> None:
            dying_at(at)
            act(folder)

        ended = forked(die)
        assert ended in {0, KILLED}
        yield folder
        if ended == 0:
            return
        number += STRIDE


def test_killed_at_any_call_the_relay_goes_on(template: Path, tmp_path: Path):
    seen = 0
    for folder in points(template, tmp_path / "served", lambda at: Served(at).carry(), first=1):
        served, seen = Served(folder), seen + 1
        home = served.at_home()
        for path in served.outbox.acknowledged.held:
            assert home[path] == served.on_the_machine()[path]
        served.carry()
        assert served.at_home() == served.on_the_machine()
        assert served.home.newest().step == 40
        assert {served.machine.evidence(path) for path in served.on_the_machine()} == {"relay"}
        assert list((folder / "home/state/gathering").iterdir()) == []
    assert seen * STRIDE > 100


def test_killed_while_a_machine_is_seeded_the_next_try_seeds_it(template: Path, tmp_path: Path):
    carried = tmp_path / "carried"
    shutil.copytree(template, carried)
    Served(carried).carry()

    def sow(folder: Path) -> None:
        served = Served(folder)
        served.home.begin_machine()
        served.home.seed()

    for folder in points(carried, tmp_path / "seeded", sow, first=2):
        home = Served(folder).home
        home.begin_machine()
        seed = home.seed()
        told = [piece.path for parcel in seed.parcels for piece, _ in parcels.read(parcel.file, parcel.sha256)]
        assert seed.checkpoint is not None
        assert seed.checkpoint.step == 40
        assert RUN.record in told
        home.forget_seed()
        assert not (folder / "home/state/seed").exists()
