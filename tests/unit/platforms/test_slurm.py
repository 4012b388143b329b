"""Slurm: the end that its variables or its tools tell, and the way back into the queue; its tools are played by scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from supervisor.core.deadline import Lifetime
from supervisor.core.errors import UserError
from supervisor.core.instant import Instant
from supervisor.platforms import slurm

if TYPE_CHECKING:
    from pathlib import Path

NOW = Instant(mono_s=50.0, wall_s=1_800_000_600.0)
JOB = {"SLURM_JOB_ID": "4711"}
TIMES = {"SLURM_JOB_START_TIME": "1800000000", "SLURM_JOB_END_TIME": "1800007200"}


class Tools:
    """squeue and scontrol in a folder of their own; ``asked`` is what they were called with."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "asked"

    def play(self, name: str, prints: str = "", code: int = 0) -> None:
        program = self.folder / name
        error = f"echo '{prints}' >&2" if code else f"printf '%s\\n' '{prints}'"
        program.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.log}\n{error}\nexit {code}\n')
        program.chmod(0o755)

    @property
    def asked(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return Tools(tmp_path)


def job(**fields: str) -> str:
    told = {"JobId": "4711", "JobState": "RUNNING", "Requeue": "1", "Restarts": "0", **fields}
    return "\n   ".join(f"{name}={value}" for name, value in told.items())


def test_the_end_that_the_variables_tell_is_certain():
    described = slurm.describe({**JOB, **TIMES}, NOW)
    assert described.lifetime == Lifetime(7200.0, hard=True)
    assert described.age_s == 600.0
    assert described.asked is None


def test_without_a_start_the_time_left_counts_from_now():
    described = slurm.describe({**JOB, "SLURM_JOB_END_TIME": TIMES["SLURM_JOB_END_TIME"]}, NOW)
    assert described.lifetime == Lifetime(6600.0, hard=True)
    assert described.age_s == 0


@pytest.mark.parametrize("end", ["", "soon", "0"])
def test_an_end_that_makes_no_sense_never_makes_a_negative_life(end: str):
    lifetime = slurm.describe({**JOB, "SLURM_JOB_END_TIME": end}, NOW).lifetime
    assert lifetime is None or lifetime.seconds >= 1


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("5:00", 300),
        ("0:30", 30),
        ("1:02:03", 3723),
        ("1-02:03:04", 93784),
        ("UNLIMITED", None),
        ("INVALID", None),
        ("", None),
    ],
)
def test_where_the_variables_do_not_tell_slurm_is_asked(tools: Tools, said: str, seconds: int | None):
    tools.play("squeue", said)
    described = slurm.describe(JOB, NOW)
    assert described.lifetime is None
    assert described.asked is not None
    assert tools.asked == []  # nothing is asked to know where we are
    assert described.asked() == (None if seconds is None else Lifetime(seconds, hard=True))
    assert tools.asked == ["squeue -h -j 4711 -o %L"]


def test_a_slurm_that_does_not_answer_gives_no_end(tools: Tools, monkeypatch: pytest.MonkeyPatch):
    tools.play("squeue", "slurm_load_jobs error: Unable to contact slurm controller", 1)
    assert slurm.left("4711") is None
    monkeypatch.setenv("PATH", "/nowhere")
    assert slurm.left("4711") is None


def test_a_job_that_may_be_requeued_is(tools: Tools):
    tools.play("scontrol", job())
    assert "back in the queue" in slurm.requeue("4711")
    assert tools.asked == ["scontrol show job 4711", "scontrol requeue 4711"]


@pytest.mark.parametrize(
    ("fields", "words"), [({"Requeue": "0"}, "submit it again"), ({"JobState": "CANCELLED"}, "was cancelled")]
)
def test_a_job_that_may_not_or_that_a_person_ended_is_left_alone(tools: Tools, fields: dict[str, str], words: str):
    tools.play("scontrol", job(**fields))
    assert words in slurm.requeue("4711")
    assert tools.asked == ["scontrol show job 4711"]


def test_a_requeue_that_fails_is_said_in_slurms_own_words(tools: Tools, monkeypatch: pytest.MonkeyPatch):
    tools.play("scontrol", "Invalid job id specified", 1)
    with pytest.raises(UserError, match="Invalid job id specified") as refused:
        slurm.requeue("4711")
    assert "submit the job again" in refused.value.hint
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="Slurm was not reached"):
        slurm.requeue("4711")


def test_its_signals_announce_the_end_and_restarts_are_counted():
    described = slurm.describe({**JOB, "SLURM_RESTART_COUNT": "2"}, NOW)
    assert described.signals == {"SIGUSR1": 300.0, "SIGTERM": 30.0}
    assert described.title == "Slurm job 4711, start 3 of it"
