"""The controller's journal is whole at every instruction, and tells the next controller all that it must know."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from supervisor.core import codec
from supervisor.core import fleet_words as fw
from supervisor.core.errors import FENCED, UserError
from supervisor.core.fleet_state import Phase, Policy
from supervisor.core.instant import Instant
from supervisor.core.provisioning import Machine
from supervisor.fleet.controller import JOURNAL, Controller, Journal
from supervisor.launching import _require_same_place

if TYPE_CHECKING:
    from pathlib import Path

OURS = Machine("run-1", "machine-1", record='{"id": 1}')
NIGHT = (
    fw.Began(on="colab"), fw.Listed(), fw.BroughtUp(OURS), fw.Prepared(), fw.AgentStarted(), fw.Polled(1, "running", safe=0),
    fw.Polled(2, "running", step=30, safe=25),
)  # fmt: skip


def written(folder: Path, *events: fw.Event) -> Journal:
    journal = Journal(folder, "run")
    for at, event in enumerate(events):
        journal.record(Instant(at, at), event)
    journal.close()
    again = Journal(folder, "another")
    again.close()
    return again


def test_the_next_controller_knows_the_machine_and_where_it_is(tmp_path):
    first = written(tmp_path, *NIGHT).first
    assert (first.prefix, first.machine, first.phase, first.safe, first.on) == ("run", OURS, Phase.SERVING, 25, "colab")
    _require_same_place(first, "colab")
    with pytest.raises(UserError, match="still serves this run, on colab") as refused:
        _require_same_place(first, "local")
    assert "--on colab" in refused.value.hint


def test_a_journal_cut_at_any_byte_is_read_and_goes_on(tmp_path):
    written(tmp_path / "whole", *NIGHT)
    body = (tmp_path / "whole" / JOURNAL).read_bytes()
    begun = body.index(b"\n") + 1
    for number, cut in enumerate(range(begun, len(body), 37)):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / JOURNAL).write_bytes(body[:cut])
        assert written(folder, fw.Began(), fw.Listed(), fw.BroughtUp(OURS)).first.machine == OURS


def test_a_killed_first_write_leaves_no_journal_that_cannot_be_read(tmp_path):
    (tmp_path / f".new-{JOURNAL}").write_text('{"pre')
    assert written(tmp_path, *NIGHT).first.machine == OURS


def test_polls_that_say_nothing_new_are_left_out_and_the_first_after_a_trouble_is_not(tmp_path):
    polls = [fw.Polled(beat, "running", step=beat, safe=25) for beat in range(3, 9)]
    trouble = fw.Failed("Poll", "unreachable", "no route")
    written(tmp_path, *NIGHT, *polls, trouble, *polls)
    lines = (tmp_path / JOURNAL).read_text().splitlines()
    assert len(lines) == 1 + len(NIGHT) + 2
    assert '"Polled"' in lines[-1]


def test_nights_of_hiccups_do_not_make_the_fold_give_a_machine_back(tmp_path):
    journal = Journal(tmp_path, "run")
    for at, event in enumerate(NIGHT):
        journal.record(Instant(at, at), event)
    for hour in range(1, 12):
        for minute in range(3):
            at = Instant(hour * 3600 + minute, 0)
            journal.record(at, fw.Failed("Poll", "unreachable", "no route"))
        journal.record(Instant(hour * 3600 + 10, 0), fw.Listed((OURS,)))
        journal.record(Instant(hour * 3600 + 20, 0), fw.Polled(hour * 1000, "running", step=30, safe=25))
    journal.close()
    first = Journal(tmp_path, "run").first
    assert (first.phase, first.machine, first.restarts) == (Phase.SERVING, OURS, 0)


def test_a_second_controller_is_sent_away(tmp_path):
    journal = Journal(tmp_path, "run")
    with pytest.raises(UserError) as refused:
        Journal(tmp_path, "run")
    assert refused.value.exit_code == FENCED
    journal.close()
    Journal(tmp_path, "run").close()


class Hands:
    """Answers each call at once; ``done``: the names of the calls."""

    def __init__(self, *answers):
        self.answers, self.done = list(answers), []

    def do(self, call):
        self.done.append(type(call).__name__)
        return self.answers.pop(0) if self.answers else fw.Failed(type(call).__name__, "unreachable", "no route")


class Show:
    def __init__(self):
        self.words = []

    def said(self, said):
        self.words.append(f"{said.words} {said.hint}")

    def seen(self, fleet, event, now): ...


class Still:
    def now(self):
        return Instant(0, 0)


def test_a_journal_on_a_full_disk_is_waited_for_and_what_costs_meanwhile_is_said(tmp_path, monkeypatch):
    journal, show = Journal(tmp_path, "run"), Show()
    hands = Hands(fw.Listed(), fw.BroughtUp(OURS), fw.Prepared(), fw.AgentStarted(), fw.Polled(1, "done", 0, safe=9), fw.Released("machine-1"))  # fmt: skip
    monkeypatch.setattr("supervisor.fleet.controller.JOURNAL_AGAIN_S", 0.01)
    append, failed = Journal._append, []

    def full(self, line):
        if '"AgentStarted"' in line and len(failed) < 3:
            failed.append(line)
            raise UserError("journal.jsonl cannot be written: No space left on device", "see to its disk")
        append(self, line)

    monkeypatch.setattr(Journal, "_append", full)
    end = Controller(journal, hands, Still(), show).run(fw.Began().policy)
    journal.close()
    assert (end.state, len(failed)) == ("SUCCEEDED", 3)
    (said,) = [each for each in show.words if "cannot be written" in each]
    assert "make room on its disk; meanwhile machine-1 goes on" in said
    assert folded_machine(tmp_path) is None


def test_a_leave_while_the_journal_cannot_be_written_ends_the_controller(tmp_path, monkeypatch):
    journal, show = Journal(tmp_path, "run"), Show()
    hands = Hands(fw.Listed(), fw.BroughtUp(OURS))
    monkeypatch.setattr("supervisor.fleet.controller.JOURNAL_AGAIN_S", 0.01)
    controller, append = Controller(journal, hands, Still(), show), Journal._append

    def full(self, line):
        if '"BroughtUp"' in line:
            controller.tell(fw.Told("leave"))
            raise UserError("journal.jsonl cannot be written: No space left on device", "see to its disk")
        append(self, line)

    monkeypatch.setattr(Journal, "_append", full)
    with pytest.raises(UserError, match="left while the journal could not be written"):
        controller.run(fw.Began().policy)
    journal.close()


def folded_machine(folder):
    journal = Journal(folder, "run")
    journal.close()
    return journal.first.machine


def test_without_a_place_for_the_journal_nothing_is_done_and_two_lines_say_so(tmp_path):
    class Hands:
        def do(self, call):
            raise AssertionError(f"{call} was done, and nobody could know")

    class Show:
        def said(self, said): ...
        def seen(self, fleet, event, now): ...

    class Clock:
        def now(self):
            return Instant(0, 0)

    journal = Journal(tmp_path, "run")
    (tmp_path / JOURNAL).unlink()
    (tmp_path / JOURNAL).mkdir()
    with pytest.raises(UserError, match="cannot be written") as refused:
        Controller(journal, Hands(), Clock(), Show()).run(NIGHT[0].policy)
    assert "takes it up again" in refused.value.hint
    journal.close()


@pytest.mark.parametrize("head", [b"\0\0\n", b"[" * 100_000 + b"\n", b'{"prefix": 5}\n', b'{"prefix": "../x"}\n'])
def test_a_journal_whose_first_line_is_damaged_is_named_in_two_lines(tmp_path, head):
    (tmp_path / "journal.jsonl").write_bytes(head)
    with pytest.raises(UserError, match=r"journal\.jsonl is damaged") as error:
        Journal(tmp_path, "night")
    assert "launch again" in error.value.hint


def test_an_event_of_other_types_is_passed_over(tmp_path):
    Journal(tmp_path, "night").close()
    with (tmp_path / "journal.jsonl").open("a") as file:
        file.write(
            '{"mono_s": 1.0, "wall_s": "x", "is": "Woke"}\n{"mono_s": 1.0, "wall_s": 1.0, "is": "Balanced", "units": []}\n'
        )
    assert Journal(tmp_path, "night").first.prefix == "night"


def test_limits_that_no_person_can_set_are_no_record(tmp_path):
    Journal(tmp_path, "night").close()
    policy = codec.to_plain(Policy()) | {"a_day": -1}
    line = {"mono_s": 1.0, "wall_s": 1.0, "is": "Began", "policy": policy, "on": "local"}
    with (tmp_path / "journal.jsonl").open("a") as file:
        file.write(
            json.dumps(line) + "\n" + json.dumps({"mono_s": 2.0, "wall_s": 2.0, "is": "Listed", "machines": []}) + "\n"
        )
    assert Journal(tmp_path, "night").first.policy == Policy()
