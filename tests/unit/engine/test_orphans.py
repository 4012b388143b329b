"""What a dead supervisor left on this machine: a trainer that may still stage its last checkpoint, and old folders."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from supervisor.core.claim import Rank
from supervisor.engine import identity, orphans

if TYPE_CHECKING:
    from pathlib import Path

DEAD, MINE = Rank(1, "aa"), Rank(2, "bb")
HOLD = "import os, sys; sys.stdin.read()"
IGNORE = "import signal, os, time; print(flush=True)\nwhile True: time.sleep(9)"
WORKER = "import os, sys, time\nsys.stdin.readline()\nif os.fork():\n    os._exit(0)\nprint(flush=True)\nwhile True: time.sleep(9)"


@pytest.fixture
def dead(tmp_path) -> Path:
    session = tmp_path / str(DEAD)
    session.mkdir()
    return session


def orphan(session: Path, program: str) -> subprocess.Popen[bytes]:
    """Start a trainer that holds the session's lock, whose supervisor is no more."""
    lock = orphans.hold(session / orphans.LOCK)
    trainer = subprocess.Popen(
        [sys.executable, "-S", "-c", program], pass_fds=(lock,), start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    orphans.note_trainer(session, trainer.pid)
    os.close(lock)
    return trainer


def finish(trainer: subprocess.Popen[bytes]) -> int:
    with trainer:
        pass
    return trainer.returncode


def test_a_trainer_that_ends_by_itself_is_waited_for(dead, monkeypatch):
    trainer = orphan(dead, HOLD)
    monkeypatch.setattr(orphans, "POLL_S", 0.001)
    looks = []
    held = orphans.is_held

    def look(lock: Path) -> bool:
        looks.append(lock)
        if len(looks) == 3:
            assert trainer.stdin is not None
            trainer.stdin.close()
        return held(lock)

    monkeypatch.setattr(orphans, "is_held", look)
    orphans.end_orphans(dead.parent, MINE)
    assert len(looks) >= 3
    assert finish(trainer) == 0


def test_a_trainer_that_does_not_end_is_killed(dead, monkeypatch):
    monkeypatch.setattr(orphans, "WAIT_S", 0.1)
    trainer = orphan(dead, IGNORE)
    orphans.end_orphans(dead.parent, MINE)
    assert finish(trainer) == -signal.SIGKILL
    assert not orphans.is_held(dead / orphans.LOCK)


def test_workers_that_outlived_their_trainer_are_killed_too(dead):
    trainer = orphan(dead, WORKER)
    assert trainer.stdin is not None
    assert trainer.stdout is not None
    trainer.stdin.write(b"\n")  # its pid is recorded by now: the trainer may fork and end
    trainer.stdin.flush()
    trainer.stdout.readline()
    trainer.wait()
    assert orphans.is_held(dead / orphans.LOCK)
    orphans.end_orphans(dead.parent, MINE)
    assert not orphans.is_held(dead / orphans.LOCK)
    finish(trainer)


def test_a_process_that_only_looks_at_the_lock_is_left_alone(dead, monkeypatch):
    monkeypatch.setattr(orphans, "WAIT_S", 0.05)
    bystander = orphan(dead, HOLD)
    (dead / orphans.TRAINER).write_text(json.dumps({"pid": 1, "since": "1"}))
    orphans.end_orphans(dead.parent, MINE)
    assert bystander.poll() is None
    assert finish(bystander) == 0


def test_a_session_whose_supervisor_lives_is_left_to_it(dead, monkeypatch):
    monkeypatch.setattr(orphans, "WAIT_S", 0.05)
    trainer = orphan(dead, HOLD)
    note = {"pid": os.getpid(), "since": identity.started(os.getpid())}
    (dead / "supervisor.json").write_text(json.dumps(note))
    orphans.end_orphans(dead.parent, MINE)
    assert trainer.poll() is None
    finish(trainer)


def test_folders_of_dead_sessions_go_but_for_the_one_that_is_needed(tmp_path):
    needed, old, higher = (tmp_path / str(Rank(epoch, "aa")) for epoch in (2, 1, 9))
    for session in (needed, old, higher, tmp_path / "scratch"):
        (session / "staging").mkdir(parents=True)
    orphans.forget_dead_sessions(tmp_path, Rank(3, "bb"), keep=needed / "staging")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([needed.name, higher.name, "scratch"])


def test_the_folder_of_a_session_that_is_still_held_stays(dead, tmp_path):
    lock = orphans.hold(dead / orphans.LOCK)
    orphans.forget_dead_sessions(dead.parent, MINE, keep=tmp_path / "elsewhere")
    assert dead.exists()
    os.close(lock)
    orphans.forget_dead_sessions(dead.parent, MINE, keep=tmp_path / "elsewhere")
    assert not dead.exists()


def test_nothing_here_is_nothing_to_do(tmp_path):
    orphans.end_orphans(tmp_path / "none", MINE)
    orphans.forget_dead_sessions(tmp_path / "none", MINE, keep=tmp_path)
