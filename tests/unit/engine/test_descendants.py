"""What a dead trainer has started ends at the next start, wherever it went; no process that is not its descendant ever does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from supervisor.core.claim import Rank
from supervisor.engine import descendants, identity, orphans
from supervisor.engine.descendants import VARIABLE, Mark

if TYPE_CHECKING:
    from collections.abc import Iterator

DEAD = Mark(os.urandom(8).hex(), Rank(1, "aa"), 4_000_000, "1")  # a run of these tests alone
MINE = Rank(2, "bb")
STAYS = "import time\nprint(flush=True)\ntime.sleep(600)"
DEAF = f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{STAYS}"
FORKED = "import os\nif os.fork():\n    os._exit(0)\nos.setsid()\n" + STAYS


@pytest.fixture
def start() -> Iterator[object]:
    """Start a process with a mark in its environment, or without one; all are gone at the end."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(mark: Mark | str | None, program: str = STAYS, **options: object) -> subprocess.Popen[bytes]:
        command = ["sh", "-c", "echo; exec sleep 600"] if "user" in options else [sys.executable, "-S", "-c", program]
        environ = {name: value for name, value in os.environ.items() if name != VARIABLE}
        marked = environ if mark is None else {**environ, VARIABLE: str(mark)}
        process = subprocess.Popen(command, env=marked, stdout=subprocess.PIPE, **options)
        started.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        return process

    yield begin
    for process in started:
        process.kill()
        with process:
            pass


def at_the_next_start(tmp_path, said=None):
    """Do what the next session of the run does first on this machine."""
    run = tmp_path / DEAD.run_id
    (run / str(DEAD.rank)).mkdir(parents=True, exist_ok=True)
    orphans.end_orphans(run, MINE, (said if said is not None else []).append)


@pytest.mark.parametrize("own_session", [False, True], ids=["in our process session", "in one of its own"])
def test_a_program_that_the_dead_trainer_started_ends_at_the_next_start_and_that_is_said(start, tmp_path, own_session):
    left, said = start(DEAD, start_new_session=own_session), []
    at_the_next_start(tmp_path, said)
    assert left.wait(30) == -signal.SIGTERM
    assert said == ["ended 1 process that the trainer of session 1 had started and left behind"]


def test_one_that_does_not_listen_is_killed(start, monkeypatch, tmp_path):
    monkeypatch.setattr(descendants.end, "__defaults__", (0.1,))
    left = start(DEAD, DEAF)
    at_the_next_start(tmp_path)
    assert left.wait(30) == -signal.SIGKILL


def test_a_daemon_of_it_ends_too(start, tmp_path):
    first = start(DEAD, FORKED)
    assert first.wait(30) == 0
    at_the_next_start(tmp_path)
    assert first.stdout.read() == b""  # the end of its output: whoever held it is gone


def test_the_local_folder_need_not_be_there_any_more(start, tmp_path):
    left = start(DEAD)
    orphans.end_orphans(tmp_path / DEAD.run_id, MINE)
    assert left.wait(30) == -signal.SIGTERM


OTHERS = {
    "of nobody": None,
    "of another run": replace(DEAD, run_id="fedcba9876543210"),
    "of a later session": replace(DEAD, rank=Rank(3, "cc")),
    "of a session whose supervisor lives": replace(DEAD, pid=os.getpid(), since=identity.started(os.getpid()) or ""),
    "with half a mark": f"{DEAD.run_id} e00000001-aa",
    "with a mark of other words": f"{DEAD.run_id} e00000001-aa x y",
    "with an empty mark": "",
}


@pytest.mark.parametrize("mark", OTHERS.values(), ids=OTHERS)
def test_a_process_that_is_not_its_descendant_is_left_alone(start, tmp_path, mark):
    other, ours = start(mark), start(DEAD)
    at_the_next_start(tmp_path)
    assert ours.wait(30) == -signal.SIGTERM
    assert other.poll() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process of another user")
def test_a_process_of_another_user_is_left_alone_even_with_our_mark(start, tmp_path):
    other, ours = start(DEAD, user=65534), start(DEAD)
    at_the_next_start(tmp_path)
    assert ours.wait(30) == -signal.SIGTERM
    assert other.poll() is None


@pytest.mark.slow
def test_this_process_and_those_above_it_are_left_alone():
    """A trainer may start another supervisor: what that ends must not be itself."""
    run_id = os.urandom(8).hex()  # of this test alone, because other trainers may live on this machine
    inner = f"from supervisor.engine import descendants as d; print(d.end(lambda mark: mark.run_id == {run_id!r}))"
    program = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {inner!r}], check=True)"
    told = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, VARIABLE: str(replace(DEAD, run_id=run_id))},
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert told.stdout == "0\n"


def test_a_number_that_is_another_process_by_now_is_not_signalled(start):
    left = start(DEAD)
    assert not descendants._signal(left.pid, "1", lambda _: True, signal.SIGKILL)
    assert left.poll() is None


def test_what_forked_and_holds_the_lock_of_a_dead_trainer_is_not_waited_for(start, tmp_path, monkeypatch):
    """The trainer is gone, so there is no last checkpoint to wait for."""
    session = tmp_path / DEAD.run_id / str(DEAD.rank)
    session.mkdir(parents=True)
    lock = orphans.hold(session / orphans.LOCK)
    first = start(DEAD, FORKED, pass_fds=(lock,), start_new_session=True)
    orphans.note_trainer(session, first.pid)
    os.close(lock)
    first.wait(30)
    assert orphans.is_held(session / orphans.LOCK)
    monkeypatch.setattr(orphans, "WAIT_S", float("nan"))  # waiting would fail
    at_the_next_start(tmp_path)
    assert not orphans.is_held(session / orphans.LOCK)


def test_the_wait_for_a_living_trainer_is_said_at_once(start, tmp_path, monkeypatch):
    session = tmp_path / DEAD.run_id / str(DEAD.rank)
    session.mkdir(parents=True)
    monkeypatch.setattr(orphans, "WAIT_S", 0.1)
    lock = orphans.hold(session / orphans.LOCK)
    trainer = start(DEAD, DEAF, pass_fds=(lock,), start_new_session=True)
    orphans.note_trainer(session, trainer.pid)
    os.close(lock)
    said = []
    at_the_next_start(tmp_path, said)
    assert said[0].startswith(
        f"the trainer of session 1 has outlived its supervisor (process {trainer.pid}): waiting at most"
    )
    assert trainer.wait(30) == -signal.SIGKILL


def test_a_system_without_proc_has_none(tmp_path, monkeypatch):
    monkeypatch.setattr(descendants, "PROC", tmp_path)
    assert descendants.end(lambda _: True) == 0
