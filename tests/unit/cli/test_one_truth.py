"""One truth for *safe*: whatever moment a supervisor is killed at, every screen says the same of its checkpoints."""

from __future__ import annotations

import json
import re

import pytest

from supervisor.core import events as ev
from supervisor.core.instant import Instant
from supervisor.core.messages import Staged
from supervisor.core.status import RunStatus, to_json
from supervisor.engine import checkpoints, claims, receipts
from supervisor.engine.clock import BootClock
from supervisor.engine.journal import Journal
from tests.unit.cli.conftest import DEAD

ELSEWHERE = {"boot": "another", "processes": "pid:[1]", "pid": 7, "since": "7", "host": "another"}
MOMENTS = ["staged 10", "written 10", "safe 10", "staged 20", "written 20", "safe 20"]


class Killed:
    """A supervisor that was killed at a moment: its store, and on its own machine its local journal and live status."""

    def __init__(self, left, machine):
        self.left = left
        self.folder = left.root / "local" / "0123456789abcdef" / "e00000001-00000001"
        self.folder.mkdir(parents=True)
        here = self.folder if "pid" in machine and machine["pid"] == DEAD["pid"] else "/nowhere"
        self.rank = left.session(1, machine, local=str(here))
        self.journal = Journal(None, RunStatus(run=left.run.name))
        self.journal.open_spool(self.folder / "journal.jsonl")
        self.ids = {}
        self.record(ev.Started(), ev.ClaimWritten(self.rank))

    def record(self, *values):
        now = BootClock().now()
        for value in values:
            self.journal.record(Instant(now.mono_s - 60, now.wall_s - 60), value)

    def until(self, moment, *, piece_after="", status_after=""):
        for each in MOMENTS[: MOMENTS.index(moment) + 1]:
            what, step = each.split()
            if what == "staged":
                self.record(ev.TrainerSaid(Staged(int(step), f"/s/step-{int(step):09d}-1", 10, "due", 0.1, 0.1)))
            elif what == "written":
                self.ids[step] = self.left.checkpoint(self.rank, int(step))
                self.record(ev.Submitted("/s", self.ids[step], 10))
            else:
                self.record(ev.Durable("/s", self.ids[step], 10, 0.1, "fsync"))
            if each == piece_after:
                for name, body in self.journal.take():
                    self.left.store.create(f"{self.left.run.session(self.rank)}/{name}", body)
            if each == status_after:
                (self.folder / "status.json").write_text(json.dumps(to_json(self.journal.status, BootClock().now())))
        return self

    def end(self, step):
        id_ = self.ids[step]
        plain = {"epoch": id_.epoch, "step": id_.step, "writer": id_.writer, "seq": id_.seq}
        body = {
            "reason": "stopped",
            "exit_code": 130,
            "words": "stopped by Ctrl-C",
            "step": id_.step,
            "checkpoint": plain,
        }
        claims.write_end(self.left.store, self.left.run, self.rank, "stopped", body)


def safe_by(said):
    """Return the newest safe step by each screen, which must be one."""
    rows = json.loads(said("checkpoints", "--json")[1])
    by_list = max((row["step"] for row in rows if row["state"] == "DURABLE"), default=None)
    plain = json.loads(said("status", "--json")[1])
    [listed] = json.loads(said("list", "--json")[1])
    head, row = said("list")[1].splitlines()[:2]
    at = head.index("safe step")
    cell = row[at : at + len("safe step")].strip()
    shown = {int(found[1]) if (found := re.search(r"safe: step (\d+)", said("status")[1])) else None}
    shown.add(int(cell) if cell.isdecimal() else None)
    assert {by_list, plain["checkpoints"]["durable"], listed["checkpoints"]["durable"]} | shown == {by_list}
    return by_list


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("piece_after", ["", "staged 10", "written 10", "safe 10", "written 20"])
@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_killed_at_any_moment_every_screen_says_the_same(said, left, mine, *, moment, piece_after, where):
    killed = Killed(left, {**mine, **DEAD} if where == "here" else ELSEWHERE)
    killed.until(moment, piece_after=piece_after, status_after="written 10")
    safe = safe_by(said)
    if where == "here":
        assert safe == {"safe 10": 10, "staged 20": 10, "written 20": 10, "safe 20": 20}.get(moment)
    assert "upload" not in said("status")[1], "on a plain folder nothing is uploaded"


@pytest.mark.parametrize("moment", ["written 20", "safe 20"])
def test_what_the_record_of_an_end_names_is_safe_on_every_screen(said, left, moment):
    """As after a second Ctrl-C: the last upload came through, and its session's journal was closed before."""
    killed = Killed(left, ELSEWHERE).until(moment, piece_after="safe 10")
    killed.end("20")
    assert safe_by(said) == 20
    assert "not safe" not in said("checkpoints")[1]


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_verify_proves_it_for_good_on_every_screen(said, left, mine, where):
    killed = Killed(left, {**mine, **DEAD} if where == "here" else ELSEWHERE).until("written 20", piece_after="safe 10")
    assert safe_by(said) == 10
    code, words = said("status")
    assert code == 0
    if where == "here":  # of a machine that may live on, it is only on its way
        assert "step 20 is written, and no record says that it is safe on the disk" in words
        assert "checkpoints plates verify` reads it back and records that" in words
    assert said("checkpoints", "verify")[0] == 0
    assert safe_by(said) == 20
    assert "not safe" not in said("checkpoints")[1]
    assert killed.ids["20"] in receipts.receipts(left.store, left.run)
    assert "no record" not in said("status")[1]


def test_a_damaged_one_is_not_proved_by_verify(said, left):
    killed = Killed(left, ELSEWHERE).until("written 20", piece_after="safe 10")
    killed.left.file(killed.ids["20"], "state.json").write_bytes(b"changed")
    said("checkpoints", "verify")
    assert safe_by(said) == 10
    assert len(checkpoints.find(left.store, left.run)) == 2
