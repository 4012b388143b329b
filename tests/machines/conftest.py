"""Machines of namespaces for the tests, and the certainty that nothing of them stays."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.machines import TOY, Machine, final_state
from tests.machines.cloud import Cloud
from tests.machines.jobs import JOB, LONG
from tests.machines.machine import NamespacedMachine, Sort, missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MISSING = missing()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if MISSING:
        for item in items:
            if "tests/machines/" in str(item.path):
                item.add_marker(pytest.mark.skip(reason=MISSING))


@pytest.fixture
def cloud(tmp_path: Path) -> Cloud:
    return Cloud(tmp_path / "cloud")


@pytest.fixture
def new_machine(tmp_path: Path, cloud: Cloud) -> Iterator[Callable[..., NamespacedMachine]]:
    """Each call is another machine on the same cloud; the options are those of ``Sort``."""
    made: list[NamespacedMachine] = []

    def make(**options: Any) -> NamespacedMachine:
        made.append(NamespacedMachine(tmp_path / f"machine-{len(made) + 1}", cloud.folder, Sort(**options)))
        return made[-1]

    yield make
    for machine in made:
        machine.end()


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The end of the job on one machine with a plain folder."""
    return _end(JOB, tmp_path_factory.mktemp("uninterrupted"))


@pytest.fixture(scope="session")
def long_uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The same for the long job."""
    return _end(LONG, tmp_path_factory.mktemp("long-uninterrupted"))


@pytest.fixture
def begun(tmp_path: Path, cloud: Cloud) -> Callable[[tuple[str, ...]], None]:
    """Begin a job's run in the cloud's own folder, and stop it when a part is done."""

    def begin(job: tuple[str, ...]) -> None:
        turn = Machine(tmp_path / "machine-0", cloud.runs).start(TOY, "--save-every", "100ms", arguments=job)
        turn.until("safe: step")
        turn.signal(signal.SIGTERM)
        assert turn.wait() == 143, turn.text

    return begin


def _end(job: tuple[str, ...], folder: Path) -> dict[str, Any]:
    machine = Machine(folder / "machine", folder / "runs")
    done = machine.run("start", str(TOY), "--", *job[:3], "0", *job[4:])
    assert done.returncode == 0, done.stdout + done.stderr
    return final_state(machine.store, "toy")
