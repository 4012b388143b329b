"""The supervisor on a machine: never twice, whoever started it, and its end is found by whoever comes."""

from __future__ import annotations

import os
import shutil
import signal
import time
from typing import TYPE_CHECKING

import pytest

from supervisor.engine.clock import BootClock
from supervisor.fleet.turn import Turn

if TYPE_CHECKING:
    from pathlib import Path

WAIT_S_MAX = 400.0


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    path = tmp_path / "gate"
    os.mkfifo(path)
    return path


def begin(turn: Turn, tmp_path: Path, script: str) -> bool:
    return turn.begin(["/bin/sh", "-c", script], os.environ, tmp_path / "log", {"cwd": str(tmp_path)})


def ended(turn: Turn) -> None:
    end_s = BootClock().now().mono_s + WAIT_S_MAX
    while turn.lives:
        assert BootClock().now().mono_s < end_s
        time.sleep(0.01)


@pytest.mark.parametrize("code", [0, 1, 42, 143])
def test_its_exit_code_is_found_also_by_an_agent_that_did_not_start_it(tmp_path, gate, code):
    first = Turn(tmp_path / "notes")
    assert begin(first, tmp_path, f"cat {gate}; exit {code}")
    second = Turn(tmp_path / "notes")
    assert second.lives
    assert second.code() is None
    assert not begin(second, tmp_path, "exit 99")  # never twice
    gate.write_bytes(b"go")
    ended(first)
    assert not second.lives
    assert second.code() == code
    assert len(second.begun) == 1


def test_one_whose_shell_was_killed_still_lives_and_leaves_no_code(tmp_path, gate):
    turn = Turn(tmp_path / "notes")
    begin(turn, tmp_path, f"echo $PPID >shell; cat {gate}")
    while not (tmp_path / "shell").exists() or not (tmp_path / "shell").read_text().strip():
        time.sleep(0.01)
    os.kill(int((tmp_path / "shell").read_text()), signal.SIGKILL)
    assert Turn(tmp_path / "notes").lives
    gate.write_bytes(b"go")
    ended(turn)
    assert turn.code() is None


def test_what_it_prints_is_kept_and_the_next_one_follows_it(tmp_path):
    turn = Turn(tmp_path / "notes")
    for words in ("first", "second"):
        begin(turn, tmp_path, f"echo {words}; pwd; exit 137")
        ended(turn)
        assert turn.code() == 137
    assert (tmp_path / "log").read_text() == f"first\n{tmp_path}\nsecond\n{tmp_path}\n"
    assert len(turn.begun) == 2


def test_it_is_in_a_process_session_of_its_own(tmp_path):
    turn = Turn(tmp_path / "notes")
    begin(turn, tmp_path, "ps -o sid= -p $$ || cut -d' ' -f6 /proc/self/stat")
    ended(turn)
    assert int((tmp_path / "log").read_text()) != os.getsid(0)


def test_its_folder_may_be_removed_under_it_and_it_is_not_started_twice(tmp_path, gate):
    turn = Turn(tmp_path / "notes")
    assert begin(turn, tmp_path, f"cat {gate}; exit 7")
    shutil.rmtree(tmp_path / "notes")
    assert turn.lives
    assert not begin(turn, tmp_path, "exit 99")
    assert turn.begun == [{"cwd": str(tmp_path)}]
    gate.write_bytes(b"go")
    ended(turn)
    assert turn.code() == 7, "its shell found the folder that was made again"
    assert begin(turn, tmp_path, "exit 5")
    ended(turn)
    assert (turn.code(), len(turn.begun)) == (5, 2)


def test_a_folder_whose_machine_is_gone_is_not_made_again(tmp_path):
    machine = tmp_path / "machine"
    turn = Turn(machine / "notes")
    shutil.rmtree(machine)
    with pytest.raises(FileNotFoundError):
        _ = turn.lives
    assert not machine.exists()
