"""A store whose proof comes later, and one that goes away: asked again, said rarely, never called safe by age."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor.core import commands as do
from supervisor.core import events as ev
from supervisor.core import liveness
from supervisor.core.checkpoint import CheckpointId
from supervisor.core.messages import Beat, Finished, Staged
from supervisor.core.session import Config, Phase, SaveEvery
from tests.unit.core.driven import MINE
from tests.unit.core.told import DONE, HERE, Told, claimed, running

EVERY_STEPS = SaveEvery("steps", 5)
UNWATCHED = liveness.Policy(enabled=False)
DRIVE = Config(save_every=EVERY_STEPS, liveness=UNWATCHED, confirm_every_s=5.0, settle_s=60.0, place="Drive")


def id_(step: int) -> CheckpointId:
    return CheckpointId(MINE.epoch, step, MINE.writer, 1)


def staged(step: int) -> ev.TrainerSaid:
    return ev.TrainerSaid(Staged(step, f"/s/step-{step}", 10, "due", 0.1, 0.2))


def submitted(step: int) -> ev.Submitted:
    return ev.Submitted(f"/s/step-{step}", id_(step), 10)


def durable(step: int) -> ev.Durable:
    return ev.Durable(f"/s/step-{step}", id_(step), 10, 30.0, "drivefs")


def unconfirmed(step: int, *, possible: bool = True) -> ev.Unconfirmed:
    return ev.Unconfirmed(f"/s/step-{step}", "Drive has not uploaded it", possible)


def waiting(config: Config = DRIVE) -> Told:
    return running(config)(staged(10), submitted(10))


def pass_by(told: Told, seconds: float, answer: ev.Event) -> list[do.Command]:
    """Let so much time go by in a world where every question for the proof is answered like this."""
    until_s = told.now.mono_s + seconds
    said: list[do.Command] = []
    while told.now.mono_s < until_s:
        told.wake()
        while told.commands:
            commands = told.commands
            said += commands
            told.commands = []
            for command in commands:
                if isinstance(command, do.Confirm):
                    told(answer)
                elif isinstance(command, do.LookAtFence):
                    told(ev.FenceSeen(HERE))
                elif isinstance(command, do.WriteJournal):
                    told(ev.JournalWritten())
                elif isinstance(command, do.WriteEnd):
                    return said
    return said


def test_what_is_submitted_is_asked_about_until_it_is_proved():
    told = waiting()
    for _ in range(3):
        assert told.until(do.Confirm).asked(do.Confirm) == [do.Confirm("/s/step-10")]
        told(unconfirmed(10))
    assert told.session.saves.durable is None
    assert told.until(do.Confirm)(durable(10)).session.saves.durable == id_(10)
    assert told.asked(do.Retain)


def test_one_is_on_its_way_and_the_newest_waits():
    told = waiting()(staged(20), staged(30))
    assert told.asked(do.Discard) == [do.Discard("/s/step-20")]
    assert not told.asked(do.Publish)
    assert told(durable(10)).asked(do.Publish) == [do.Publish("/s/step-30", 30)]


def test_a_long_wait_is_said_ever_more_rarely_and_proves_nothing():
    told = waiting()
    said = [each for each in pass_by(told, 3600, unconfirmed(10)) if isinstance(each, do.Say)]
    times = [each.words.split(":")[0].removeprefix("written but not safe for ") for each in said]
    assert times == ["2 min", "4 min", "8 min", "16 min", "32 min"]
    assert all("nothing of this session is safe" in each.hint for each in said)
    assert told.session.saves.durable is None


def test_an_upload_that_is_stuck_makes_way_for_a_newer_one():
    told = waiting()(staged(20))
    commands = pass_by(told, 1000, unconfirmed(10))
    assert do.Publish("/s/step-20", 20) in commands
    assert do.Discard("/s/step-10") in commands


def test_an_upload_that_moves_is_only_slow_and_keeps_its_turn():
    told = waiting()(staged(20))
    moving = replace(unconfirmed(10), moving=True)
    for _ in range(3):
        assert not [each for each in pass_by(told, 890, unconfirmed(10)) if isinstance(each, do.Publish)]
        told(moving)
    commands = pass_by(told, 1000, unconfirmed(10))  # until nothing moves any more
    assert do.Publish("/s/step-20", 20) in commands


def test_a_store_that_can_never_prove_anything_is_not_waited_for_and_nothing_is_called_safe():
    told = waiting().until(do.Confirm)(unconfirmed(10, possible=False))
    assert told.session.saves.durable is None
    assert told.session.saves.publishing == ""
    assert told(staged(20)).asked(do.Publish)
    told(submitted(20), unconfirmed(20, possible=False), *DONE)
    assert told.asked(do.WriteEnd)[0].reason == "succeeded"
    assert told.session.saves.unproved == "/s/step-20"


def test_a_file_that_vanished_from_the_store_is_sent_again():
    told = waiting().until(do.Confirm)(ev.PublishFailed("/s/step-10", "state.json is not there"))
    assert told.until(do.Publish).asked(do.Publish) == [do.Publish("/s/step-10", 10)]


@pytest.mark.parametrize("kind", ["gone", "hung"])
def test_a_store_that_is_away_is_said_once_and_nothing_is_written_to_it(kind: str):
    told = waiting()
    first = told(ev.FenceUnreadable("Transport endpoint is not connected", kind))
    assert [each.level for each in first.asked(do.Say)] == ["warning"]
    for _ in range(5):
        told.until(do.LookAtFence)
        assert not told(ev.FenceUnreadable("Transport endpoint is not connected", kind)).asked(do.Say)
        assert not told(staged(told.session.saves.waiting_step + 10)).asked(do.Publish)
    assert told.session.phase is Phase.RUNNING


def test_after_it_is_back_a_listing_counts_only_when_it_cannot_be_stale():
    told = waiting()(ev.FenceUnreadable("gone", "gone"))
    back_s = told.now.mono_s
    told.until(do.LookAtFence)(ev.FenceSeen(HERE))
    assert told.session.frozen
    assert "answers again" in told.asked(do.Say)[0].words
    told.until(do.Confirm)
    assert told.now.mono_s - back_s >= DRIVE.settle_s
    assert not told.session.frozen


def test_a_successor_that_shows_only_later_is_still_seen_before_anything_is_written():
    told = waiting()(ev.FenceUnreadable("gone", "gone"))
    told.until(do.LookAtFence)(ev.FenceSeen(HERE))
    told.until(do.LookAtFence)(ev.FenceSeen((*HERE, f"e{MINE.epoch + 1:08d}-zzzz")))
    assert told.session.ending.phase is Phase.FENCED
    assert not told.asked(do.Confirm)


def test_a_finished_run_waits_for_its_proof_and_says_so_once():
    told = waiting()(*DONE)
    commands = pass_by(told, 300, unconfirmed(10))
    assert [each.words for each in (*told.commands, *commands) if isinstance(each, do.Say)][:1] != []
    assert not [each for each in commands if isinstance(each, do.WriteEnd)]
    assert told(durable(10)).asked(do.WriteEnd)[0].reason == "succeeded"


def test_a_finished_run_that_is_never_proved_does_not_end_as_if_it_were():
    told = waiting()(*DONE)
    commands = pass_by(told, 700, unconfirmed(10))
    ends = [each for each in commands if isinstance(each, do.WriteEnd)]
    assert [(each.reason, each.exit_code) for each in ends] == [("unproved", 1)]
    assert told(ev.EndWritten()).session.phase is Phase.FAILED


def flushing() -> Told:
    told = waiting(replace(DRIVE, can_flush=True))
    pass_by(told(*DONE), 700, unconfirmed(10))
    return told(ev.EndWritten())


def test_what_is_not_proved_in_time_is_left_to_the_platform_to_send_and_is_then_safe():
    told = flushing()
    assert told.asked(do.Flush)
    assert told(ev.Flushed(id_(10))).session.phase is Phase.SUCCEEDED
    assert told.session.saves.durable == id_(10)


def test_a_flush_that_fails_is_said_and_nothing_is_called_safe():
    told = flushing()(ev.Flushed(None, "flush_and_unmount failed"))
    assert told.session.phase is Phase.FAILED
    assert "could not send" in told.asked(do.Say)[0].words
    assert told.session.saves.durable is None


def test_a_flush_that_hangs_ends_at_its_deadline():
    told = flushing()
    while told.session.phase is Phase.DRAINING:
        told.wake()
    assert told.session.phase is Phase.FAILED


def test_a_store_that_is_away_at_the_end_is_waited_for_a_minute_only():
    told = waiting()(ev.FenceUnreadable("gone", "gone"), *DONE)
    began_s = told.now.mono_s
    while not told.asked(do.WriteEnd):
        told.wake()
        if told.asked(do.LookAtFence) and not told.asked(do.WriteEnd):
            told(ev.FenceUnreadable("gone", "gone"))
    assert told.now.mono_s - began_s <= 90


def test_the_time_of_waiting_for_a_silent_rival_is_used_to_install():
    from supervisor.core.claim import Rank, Sighting

    told = Told(DRIVE)(ev.Started(), ev.Looked(("e00000001-aaaa",), Sighting(Rank(1, "aaaa"), 3)))
    assert told.asked(do.PrepareEnvironment)
    told.until(do.Look)(ev.Looked(("e00000001-aaaa",), Sighting(Rank(1, "aaaa"), 3)))
    assert not told.asked(do.PrepareEnvironment)


# --- what a dead session wrote and nobody proved --------------------------------------------------------------------

DEAD = CheckpointId(2, 40, "old", 1)


def inherited(**options):
    """Return a session that goes on from a dead one's checkpoint, which the drive has not confirmed yet."""
    told = claimed(Config(confirm_every_s=2.0, upload_wait_s=600.0, **options))
    return told(ev.CheckpointReady("/r", DEAD, durable=False), ev.Launched(7), ev.TrainerSaid(Beat(40, "after", 40)))


def proof_of_the_dead():
    return ev.Durable("/r", DEAD, 10, 0.0, "client")


@pytest.mark.parametrize(
    ("ends", "phase"),
    [
        ((ev.TrainerSaid(Finished(40)), ev.TrainerExited(0)), Phase.SUCCEEDED),
        ((ev.Signalled("SIGTERM"), ev.TrainerExited(143)), Phase.CANCELLED),
        ((ev.FenceSeen(HERE, "save"), ev.TrainerExited(0)), Phase.CANCELLED),
        ((ev.Notice(600.0, "spot"), ev.TrainerExited(0)), Phase.HANDED_OVER),
    ],
    ids=["finished", "SIGTERM", "stop", "notice"],
)
def test_every_end_waits_for_the_proof_of_what_a_dead_session_wrote(ends, phase):
    told = inherited()(*ends)
    assert told.session.phase is Phase.DRAINING
    assert not told.asked(do.WriteEnd)
    assert told.until(do.Confirm).asked(do.Confirm) == [do.Confirm("/r")]
    assert not told(ev.Unconfirmed("/r", "not uploaded")).asked(do.WriteEnd)
    [end] = told(proof_of_the_dead()).asked(do.WriteEnd)
    assert end.step == 40
    assert told(ev.EndWritten()).session.phase is phase


def test_without_that_proof_it_is_no_success():
    told = inherited()(ev.TrainerSaid(Finished(40)), ev.TrainerExited(0))
    pass_by(told, 700, ev.Unconfirmed("/r", "not uploaded"))
    assert told.session.ending.phase is Phase.FAILED


def test_what_a_dead_session_wrote_gives_way_to_our_own():
    told = inherited()
    assert told(staged(50)).asked(do.Publish) == [do.Publish("/s/step-50", 50)]
    assert told.asked(do.Discard) == [do.Discard("/r")]
    assert not told(proof_of_the_dead()).asked(do.Publish)


def test_what_is_gone_from_the_store_is_sent_from_here():
    told = inherited()(ev.PublishFailed("/r", "it is not in the store as it was written"))
    assert told.until(do.Publish).asked(do.Publish) == [do.Publish("/r", 40)]
    # from then on it is an upload like any other: one is in flight, and a newer one waits (I17)
    assert not told(ev.Submitted("/r", DEAD, 10), staged(50)).asked(do.Publish)
    assert told(ev.Durable("/r", DEAD, 10, 0.0, "client")).asked(do.Publish) == [do.Publish("/s/step-50", 50)]


def test_on_a_folder_it_is_asked_for_at_once_and_own_checkpoints_are_no_dead_ones():
    told = claimed()(ev.CheckpointReady("/r", DEAD, durable=False)).until(do.Confirm)
    assert told.asked(do.Confirm) == [do.Confirm("/r")]
    assert told.now.mono_s < 1001
    own = claimed()(ev.CheckpointReady("/r", CheckpointId(MINE.epoch, 40, MINE.writer, 1), durable=False))
    assert own.session.timers.confirm is None


def test_nothing_is_asked_for_while_another_machine_may_have_the_run():
    told = claimed()(ev.Woke(), after_s=4000.0)
    assert told.session.frozen
    told(ev.CheckpointReady("/r", DEAD, durable=False)).wake()
    assert not told.asked(do.Confirm)
    assert told(ev.FenceSeen(HERE)).until(do.Confirm).asked(do.Confirm) == [do.Confirm("/r")]


def test_a_last_checkpoint_that_is_damaged_on_this_disk_is_no_success():
    told = running()(staged(900), *DONE)
    told(ev.PublishFailed("/s/step-900", "model.safetensors changed on the local disk", hopeless=True))
    [end] = told.asked(do.WriteEnd)
    assert (end.reason, end.exit_code) == ("failed", 1)
    assert "changed on the local disk" in end.words
