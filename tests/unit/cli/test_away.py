"""A store that is gone or hangs blocks no verb: this machine's own session answers, or two lines say what to do."""

import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from benchmarks.machines import until
from supervisor import wiring
from supervisor.core.claim import Rank
from supervisor.core.instant import Instant
from supervisor.core.status import RunStatus, to_json
from supervisor.engine import here, identity
from supervisor.engine.place import LocalPlace
from tests.unit.cli.away import Drive

HEARD = object()  # as long as it takes until the first signal was heard

# It writes each signal down, and ends at the first (or at the second, if it is told to).
SUPERVISOR = """
import signal, sys, time
def heard(number, _frame):
    with open(sys.argv[1], "a") as log:
        log.write(f"{number}\\n")
    with open(sys.argv[1]) as log:
        if len(log.readlines()) >= int(sys.argv[2]):
            sys.exit(143)
signal.signal(signal.SIGTERM, heard)
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def away(left, monkeypatch):
    """The run's store hangs."""
    made = Drive(left.store.root, fails="hung")
    monkeypatch.setattr(wiring, "open_store", lambda *_, **__: made)
    left.away = made
    return left


@pytest.fixture
def living(away, root):
    """A session of the run that lives on this machine, and ends at the signal of this number."""
    started = []

    def begin(ends_at=1, store=None, name="plates", **live):
        local = LocalPlace(root / "local/training-supervisor", f"id-{name}", Rank(3, "00000003"))
        local.session.mkdir(parents=True)
        process = subprocess.Popen(
            [sys.executable, "-c", SUPERVISOR, str(root / "signals"), str(ends_at)], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline() == "ready\n"
        noted = {"pid": process.pid, "since": identity.started(process.pid)}
        (local.session / "supervisor.json").write_text(json.dumps(noted))
        now = Instant(100.0, 1_795_000_000.0)
        status = RunStatus(
            run=name, id=f"id-{name}", state="RUNNING", epoch=3, step=41_600, total_steps=100_000, place="Drive",
            staged=41_600, submitted=41_400, durable=41_200, durable_at=Instant(0.0, now.wall_s - 840.0),
            unproved_since=Instant(now.mono_s - 720.0, now.wall_s - 720.0), evidence="drivefs", updated=now, attempt=1,
        )  # fmt: skip
        plain = {**to_json(status, now), "store": store or away.away.root, **live}
        local.status.write_text(json.dumps(plain))
        return local

    yield begin
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def end(pid):
    os.kill(pid, signal.SIGKILL)


class Pause:
    """What a verb waits with: this happens meanwhile, and then it goes on."""

    def __init__(self, meanwhile):
        self._meanwhile, self._event = meanwhile, threading.Event()

    def wait(self, seconds):
        if not self._meanwhile(seconds):
            self._event.wait(0.02)


def signals(root):
    return [int(line) for line in (root / "signals").read_text().split()] if (root / "signals").exists() else []


@pytest.mark.parametrize("verb", ["status", "list", "logs", "stop", "checkpoints", "resume"])
@pytest.mark.parametrize("kind", ["hung", "gone"])
def test_without_a_session_here_two_lines_say_what_happened_and_what_to_do(said, away, verb, kind):
    away.away.fails = kind
    code, words = said(verb)
    assert code == 4
    assert len(words.splitlines()) == 2
    assert "Drive has not answered for 10 s" in words
    assert "mount it again" in words


def test_status_tells_what_the_session_here_says_of_itself(said, living):
    living()
    code, words = said("status", "plates")
    assert code == 0
    assert "Drive has not answered for 10 s; this is what its session on this machine says" in words
    assert "plates: RUNNING · session 3 on this machine, attempt 1" in words
    assert "safe in Drive: step 41,200, 14 min ago" in words
    assert "Drive does not answer; step 41,600 is kept on the disk of its machine" in words
    assert "-> see that Drive is mounted" in words


def test_status_json_stays_one_object_and_says_that_the_store_is_silent(said, living, capsys):
    living()
    from supervisor.cli import main

    assert main(["status", "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert plain["store_answers"] is False
    assert plain["place"] == "Drive"
    assert "has not answered" in plain["unconfirmed"]
    assert plain["checkpoints"] == {"staged": 41_600, "submitted": 41_400, "durable": 41_200}


def test_a_session_that_has_died_does_not_answer(said, living, root):
    local = living()
    (local.session / "supervisor.json").write_text(json.dumps({"pid": 4_000_000, "since": "1"}))
    assert said("status", "plates")[0] == 4


def test_a_run_of_the_same_name_in_another_store_is_not_taken_for_it(said, living, root):
    living(store="/somewhere/else")
    assert said("status", "plates")[0] == 4
    assert said("stop", "plates")[0] == 4
    assert signals(root) == []


def test_with_two_runs_here_one_must_be_named(said, living):
    living()
    living(name="faces")
    assert said("status")[0] == 4
    assert said("status", "faces")[0] == 0


def test_stop_tells_the_session_here_directly(said, living, root):
    living()
    code, words = said("stop", "plates")
    assert code == 0, words
    assert "telling its session on this machine directly" in words
    assert "plates: told session 3 to save and end" in words
    assert "plates: session 3 ended" in words
    assert signals(root) == [signal.SIGTERM]


def test_stop_now_says_it_twice(said, living, root, monkeypatch):
    from supervisor.cli import stop

    monkeypatch.setattr(stop, "TWICE_AFTER_S", HEARD)
    monkeypatch.setattr(stop, "Event", lambda: Pause(lambda seconds: seconds is HEARD and until(lambda: signals(root))))
    living(ends_at=2)
    assert said("stop", "plates", "--now")[0] == 0
    assert signals(root) == [signal.SIGTERM, signal.SIGTERM]


def test_a_session_that_is_stopping_already_is_not_hurried(said, living, root, monkeypatch):
    from supervisor.cli import stop

    monkeypatch.setattr(stop, "PATIENCE_S", 0.0)
    living(state="CANCELLING")
    code, words = said("stop", "plates")
    assert code == 1
    assert "no answer for" in words
    assert signals(root) == []


def test_logs_print_what_the_session_here_has_on_its_disk(said, living):
    local = living()
    (local.session / "output-0001.log").write_bytes(b"first\n")
    (local.session / "output-0002.log").write_bytes(b"second\n")
    code, words = said("logs", "plates")
    assert code == 0
    assert "first\n--- session 3, attempt 2\nsecond\n" in words
    assert "second" not in said("logs", "plates", "--attempt", "1")[1]


def test_following_goes_on_until_the_session_here_ends(said, living, monkeypatch):
    from supervisor.cli import logs

    local = living()
    (local.session / "output-0001.log").write_bytes(b"first\n")
    pid = json.loads((local.session / "supervisor.json").read_text())["pid"]

    def ends_meanwhile(_seconds):
        (local.session / "output-0001.log").write_bytes(b"first\nlast\n")
        end(pid)

    monkeypatch.setattr(logs, "Event", lambda: Pause(ends_meanwhile))
    code, words = said("logs", "plates", "-f")
    assert code == 0
    assert words.count("first\n") == 1
    assert words.startswith("first\nlast\n")


def test_a_store_that_shows_the_run_no_more_is_no_reason_to_be_silent(said, living, away):
    away.away.fails = ""
    (away.root / "runs/plates/run.json").unlink()
    living()
    assert "plates: RUNNING" in said("status", "plates")[1]
    assert said("status", "faces")[0] == 2


def test_a_place_that_the_platform_refuses_is_away_too(said, living, monkeypatch):
    from supervisor.core.errors import UserError

    def refuse(*_, **__):
        raise UserError("it is on Google Drive, and Drive is not mounted here", "run this cell")

    monkeypatch.setattr(wiring, "open_store", refuse)
    assert said("status", "plates")[0] == 4
    living()
    code, words = said("status", "plates")
    assert code == 0
    assert "Drive is not mounted here; this is what its session on this machine says" in words


def test_a_machine_on_which_nothing_ever_ran_has_no_session(root):
    assert not list(here.living(root / "nowhere"))
