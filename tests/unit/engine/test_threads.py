"""Without another thread or process what can do without goes on, and all else ends the session by name."""

from __future__ import annotations

import errno
import io
import os
import sys
import threading

import pytest

from supervisor.cli import main
from supervisor.core.ending import controller_failed
from supervisor.core.errors import FAILED_PRECHECKS, NO_MORE_PROCESSES, NO_MORE_PROCESSES_HINT
from supervisor.core.instant import Instant
from supervisor.core.session import Config, Session
from supervisor.engine import threads
from supervisor.engine.identity import started
from supervisor.engine.lane import Lane
from supervisor.engine.process import Listeners, TrainerProcess
from supervisor.trainer import writer
from supervisor.trainer.writer import NewFile
from supervisor.views.lines import Lines


@pytest.fixture
def none_left(monkeypatch):
    """No thread can be started any more."""

    def start(_thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)


@pytest.mark.usefixtures("none_left")
def test_a_lane_without_a_thread_does_its_work_at_once():
    done = []
    lane = Lane("store")
    lane.submit(lambda: done.append(threading.current_thread()))
    lane.submit(lambda: done.append(threading.current_thread()))
    assert done == [threading.main_thread()] * 2


@pytest.mark.usefixtures("none_left")
def test_the_screen_is_written_by_who_has_the_text():
    out = io.StringIO()
    lines = Lines(out)
    lines.write("one\n")
    lines.write("two\n")
    lines.close()
    assert out.getvalue() == "one\ntwo\n"


@pytest.mark.usefixtures("none_left")
def test_a_checkpoint_is_written_without_a_second_thread(tmp_path):
    large, small = NewFile("large", [memoryview(b"abc")]), NewFile("small", [memoryview(b"d")])
    writer.write_folder(tmp_path, "step-1", [large], lambda _: ("seal", b""), lambda: [small])
    assert sorted(path.name for path in (tmp_path / "step-1").iterdir()) == ["large", "seal", "small"]


@pytest.mark.usefixtures("none_left")
def test_what_can_be_done_without_is_not_begun():
    assert threads.start(lambda: None, "watch") is None


def test_a_trainer_that_nobody_could_hear_is_not_left_running(none_left, monkeypatch):
    born = []
    right = os.killpg

    def killpg(pid, number):
        born.append((pid, started(pid)))
        right(pid, number)

    monkeypatch.setattr(os, "killpg", killpg)
    with pytest.raises(RuntimeError):
        TrainerProcess(
            [sys.executable, "-S", "-c", "import time; time.sleep(600)"], {}, Listeners(lambda _: None, lambda *_: None)
        )
    [(pid, since)] = born
    assert since is not None
    assert started(pid) != since


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (RuntimeError("can't start new thread"), True),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), True),
        (RuntimeError("another one"), False),
        (OSError(errno.EIO, "Input/output error"), False),
    ],
    ids=repr,
)
def test_a_refused_thread_or_process_is_no_defect_and_says_what_to_do(error, refused):
    failed = threads.defect(error)
    session, _ = controller_failed(Session(Config()), failed, Instant(0.0, 0.0))
    assert session.ending is not None
    assert (session.ending.words == NO_MORE_PROCESSES) == refused
    assert (session.ending.hint == NO_MORE_PROCESSES_HINT) == refused
    assert (session.ending.exit_code == FAILED_PRECHECKS) == refused
    assert type(error).__name__ in failed.error


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), BlockingIOError(errno.EAGAIN, "again")])
def test_any_verb_says_it_in_two_lines(monkeypatch, capsys, error):
    from supervisor.cli import listing

    def run(_arguments):
        raise error

    monkeypatch.setattr(listing, "run", run)
    assert main(["list"]) == FAILED_PRECHECKS
    assert capsys.readouterr().err == f"error: {NO_MORE_PROCESSES}\n  try: {NO_MORE_PROCESSES_HINT}\n"
