"""The product on played machines of Colab, Kaggle, Slurm and Google Cloud: what a platform is asked and tells, for real."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from threading import Event
from typing import TYPE_CHECKING

import pytest

from benchmarks.machines import TOY, Machine, Turn, final_state
from tests.unit.platforms.loopback import Loopback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow
JOB = ("--steps", "60", "--state-mb", "0.1")
# Only where a machine keeps its things is played; the rest is the product as it is.
COMMAND = """
import sys
from dataclasses import replace
from pathlib import Path
from supervisor.engine import leaving
from supervisor.platforms import colab, kaggle
folder = Path(sys.argv[1])
leaving.PAUSE_S = 0.1
colab.STAMP, colab.HOSTNAME = folder / "first-seen.json", folder / "hostname"
kaggle.STORE, kaggle.INPUT = str(folder / "working/supervisor"), folder / "input"
if (folder / "drive").exists():  # the store proves as one on Drive does, so that it outlives the machine
    from supervisor.stores.folder import FolderStore
    proves = FolderStore.__init__
    def on_drive(self, *words, **more):
        proves(self, *words, **more)
        self.traits = replace(self.traits, evidence="drivefs", place="Drive")
    FolderStore.__init__ = on_drive
from supervisor.cli import main
sys.exit(main(sys.argv[2:]))
"""


class Played(Machine):
    """A machine whose platform is played by variables and a folder."""

    def __init__(self, folder: Path, store: Path, **variables: str) -> None:
        super().__init__(folder, store)
        self.variables = variables
        self.keeps = True

    def environ(self, **more: str) -> dict[str, str]:
        return super().environ(**self.variables, **more)

    def command(self, *words: str) -> list[str]:
        _, _, _, verb, *rest = super().command(*words)
        return [sys.executable, "-c", COMMAND, str(self.folder), verb, *(rest if self.keeps else rest[2:])]


@pytest.fixture
def server() -> Iterator[Loopback]:
    made = Loopback()
    yield made
    made.close()


@pytest.fixture
def played(tmp_path: Path, store: Path) -> Iterator[Callable[..., Played]]:
    made: list[tuple[Played, list[Turn]]] = []

    def make(name: str = "machine", **variables: str) -> Played:
        one, turns = Played(tmp_path / name, store, **variables), []
        whole = one.start
        one.start = lambda *words, **more: turns.append(whole(*words, **more)) or turns[-1]
        made.append((one, turns))
        return one

    yield make
    for _, turns in made:
        for turn in turns:
            turn.end()


def test_a_finished_run_gives_its_colab_machine_back_once(played: Callable[..., Played], server: Loopback) -> None:
    server.on("POST /unassign", "")
    machine = played(COLAB_RELEASE_TAG="release", TBE_RUNTIME_ADDR=server.address)
    (machine.folder / "drive").touch()
    turn = machine.start(TOY, arguments=(*JOB, "--step-ms", "1"))
    assert turn.wait() == 0, turn.text
    assert [question for question, _ in server.asked] == ["POST /unassign"]
    said = turn.text
    assert re.search(r"a Colab machine, \d+ s old, planned for 12 h 0 min · ", said)
    assert 0 < said.index("SUCCEEDED: ") < said.index("giving this machine back")
    again = machine.start(TOY, arguments=(*JOB, "--step-ms", "1"))
    assert again.wait() == 0
    assert "this run is finished already" in again.text.lower()
    assert len(server.asked) == 1, "who comes to look at a finished run keeps the machine"


@pytest.mark.parametrize(
    ("drive", "more", "words"),
    [(True, {"SUPERVISOR_RUN_KEEP_MACHINE": "1"}, "this machine is kept"), (False, {}, "this machine's own disk")],
)
def test_a_machine_is_kept_that_a_fleet_gives_back_or_that_holds_all_of_the_run(
    played: Callable[..., Played], server: Loopback, drive: bool, more: dict[str, str], words: str
) -> None:
    machine = played(COLAB_RELEASE_TAG="release", TBE_RUNTIME_ADDR=server.address, **more)
    if drive:
        (machine.folder / "drive").touch()
    turn = machine.start(TOY, arguments=(*JOB, "--step-ms", "1"))
    assert turn.wait() == 0, turn.text
    assert words in turn.text
    assert server.asked == []


def test_slurms_notice_saves_hands_over_and_puts_the_job_back(
    played: Callable[..., Played], tmp_path: Path, store: Path
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    scontrol = tools / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$*" >> {tools}/asked\necho "JobId=7 JobState=RUNNING Requeue=1"\n')
    scontrol.chmod(0o755)
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    first = played("first", SLURM_JOB_ID="7", PATH=path).start(TOY, arguments=(*JOB, "--step-ms", "150"))
    trainer = first.until(lambda: first.trainer() if "step 3" in first.text or "] step" in first.text else None)
    os.kill(trainer, signal.SIGUSR1)  # as Slurm does to every process of a step
    first.signal(signal.SIGUSR1)
    assert first.wait() == 42, first.text
    assert "this machine ends soon: SIGUSR1 from Slurm job 7" in first.text
    assert "attempt 2" not in first.text
    assert "is back in the queue" in first.text
    assert (tools / "asked").read_text().splitlines() == ["show job 7", "requeue 7"]
    handed_over = final_state(store, "toy")["step"]
    assert handed_over > 0
    second = played("second", SLURM_JOB_ID="7", SLURM_RESTART_COUNT="1").start(TOY, arguments=(*JOB, "--step-ms", "1"))
    assert second.wait() == 0, second.text
    assert "Slurm job 7, start 2 of it" in second.text
    assert f"going on from step {handed_over:,}, verified" in second.text


def test_a_spot_machines_notice_saves_and_hands_over(
    played: Callable[..., Played], server: Loopback, tmp_path: Path, store: Path
) -> None:
    (tmp_path / "firmware").mkdir()
    (tmp_path / "firmware" / "product_name").write_text("Google Compute Engine\n")
    taken = Event()
    server.on("GET /computeMetadata/v1/instance/preempted", lambda _: "TRUE" if taken.wait(8) else "FALSE")
    server.on("GET /computeMetadata/v1/instance/maintenance-event", "NONE")
    machine = played(SUPERVISOR_RUN_FIRMWARE=str(tmp_path / "firmware"), GCE_METADATA_HOST=server.address)
    turn = machine.start(TOY, arguments=(*JOB, "--step-ms", "150"))
    turn.until("] step")
    taken.set()
    assert turn.wait() == 42, turn.text
    assert "this machine ends soon: Google Cloud takes this spot machine back" in turn.text
    assert final_state(store, "toy")["step"] > 0


def test_a_saved_version_of_a_kaggle_notebook_goes_on_as_the_input_of_the_next(played: Callable[..., Played]) -> None:
    machine = played(KAGGLE_KERNEL_RUN_TYPE="Batch")
    machine.keeps = False
    first = machine.start(TOY, arguments=(*JOB, "--step-ms", "150"))
    first.until("] step")
    first.signal(signal.SIGTERM)
    assert first.wait() == 143, first.text
    working = machine.folder / "working"
    reached = final_state(working / "supervisor", "toy")["step"]
    shutil.move(working, machine.folder / "input" / "my-notebook")
    shutil.rmtree(machine.local)
    second = machine.start(TOY, arguments=(*JOB, "--step-ms", "1"))
    assert second.wait() == 0, second.text
    assert (
        f"my-notebook/supervisor holds this run, up to step {reached:,} of session 1: copying it first" in second.text
    )
    assert f"going on from step {reached:,}, verified" in second.text
    assert [row["step"] for row in final_state(working / "supervisor", "toy")["log"]] == list(range(60))
