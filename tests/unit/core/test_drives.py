"""A store whose proof comes later, and one that goes away: asked again, said rarely, never called safe by age."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor.core.checkpoint.manifest import CheckpointId
from supervisor.core.policy import liveness
from supervisor.core.session import commands as do
from supervisor.core.session import events as ev
from supervisor.core.session.state import Config, Phase, SaveSchedule
from supervisor.core.wire.messages import CheckpointStaged, Finished, Heartbeat
from tests.unit.core.driven import MINE
from tests.unit.core.told import DONE, HERE, Told, claimed, running

EVERY_STEPS = SaveSchedule("steps", 5)
UNWATCHED = liveness.LivenessPolicy(enabled=False)
DRIVE = Config(save_every=EVERY_STEPS, liveness=UNWATCHED, confirm_every_s=5.0, visibility_delay_s=60.0, place="Drive")


def id_(step: int) -> CheckpointId:
    return CheckpointId(MINE.generation, step, MINE.writer, 1)


def staged(step: int) -> ev.TrainerMessage:
    return ev.TrainerMessage(CheckpointStaged(step, f"/s/step-{step}", 10, "due", 0.1, 0.2))


def submitted(step: int) -> ev.CheckpointWritten:
    return ev.CheckpointWritten(f"/s/step-{step}", id_(step), 10)


def durable(step: int) -> ev.CheckpointDurable:
    return ev.CheckpointDurable(f"/s/step-{step}", id_(step), 10, 30.0, "drivefs")


def unconfirmed(step: int, *, possible: bool = True) -> ev.DurabilityPending:
    return ev.DurabilityPending(f"/s/step-{step}", "Drive has not uploaded it", possible)


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
                if isinstance(command, do.ConfirmDurability):
                    told(answer)
                elif isinstance(command, do.CheckFence):
                    told(ev.FenceChecked(HERE))
                elif isinstance(command, do.WriteJournal):
                    told(ev.JournalWritten())
                elif isinstance(command, do.RecordSessionEnd):
                    return said
    return said


def test_what_is_submitted_is_asked_about_until_it_is_proved():
    told = waiting()
    for _ in range(3):
        assert told.until(do.ConfirmDurability).asked(do.ConfirmDurability) == [do.ConfirmDurability("/s/step-10")]
        told(unconfirmed(10))
    assert told.session.saves.durable is None
    assert told.until(do.ConfirmDurability)(durable(10)).session.saves.durable == id_(10)
    assert told.asked(do.Prune)


def test_one_is_on_its_way_and_the_newest_waits():
    told = waiting()(staged(20), staged(30))
    assert told.asked(do.DeleteStaged) == [do.DeleteStaged("/s/step-20")]
    assert not told.asked(do.UploadCheckpoint)
    assert told(durable(10)).asked(do.UploadCheckpoint) == [do.UploadCheckpoint("/s/step-30", 30)]


def test_a_long_wait_is_said_ever_more_rarely_and_proves_nothing():
    told = waiting()
    said = [each for each in pass_by(told, 3600, unconfirmed(10)) if isinstance(each, do.Notify)]
    times = [each.message.split(":")[0].removeprefix("written but not safe for ") for each in said]
    assert times == ["2 min", "4 min", "8 min", "16 min", "32 min"]
    assert all("nothing of this session is safe" in each.hint for each in said)
    assert told.session.saves.durable is None


def test_an_upload_that_is_stuck_makes_way_for_a_newer_one():
    told = waiting()(staged(20))
    commands = pass_by(told, 1000, unconfirmed(10))
    assert do.UploadCheckpoint("/s/step-20", 20) in commands
    assert do.DeleteStaged("/s/step-10") in commands


def test_an_upload_that_moves_is_only_slow_and_keeps_its_turn():
    told = waiting()(staged(20))
    moving = replace(unconfirmed(10), progressing=True)
    for _ in range(3):
        assert not [each for each in pass_by(told, 890, unconfirmed(10)) if isinstance(each, do.UploadCheckpoint)]
        told(moving)
    commands = pass_by(told, 1000, unconfirmed(10))  # until nothing moves any more
    assert do.UploadCheckpoint("/s/step-20", 20) in commands


def test_a_store_that_can_never_prove_anything_is_not_waited_for_and_nothing_is_called_safe():
    told = waiting().until(do.ConfirmDurability)(unconfirmed(10, possible=False))
    assert told.session.saves.durable is None
    assert told.session.saves.uploading == ""
    assert told(staged(20)).asked(do.UploadCheckpoint)
    told(submitted(20), unconfirmed(20, possible=False), *DONE)
    assert told.asked(do.RecordSessionEnd)[0].reason == "succeeded"
    assert told.session.saves.unconfirmed == "/s/step-20"


def test_a_file_that_vanished_from_the_store_is_sent_again():
    told = waiting().until(do.ConfirmDurability)(ev.UploadFailed("/s/step-10", "state.json is not there"))
    assert told.until(do.UploadCheckpoint).asked(do.UploadCheckpoint) == [do.UploadCheckpoint("/s/step-10", 10)]


@pytest.mark.parametrize("kind", ["gone", "hung"])
def test_a_store_that_is_away_is_said_once_and_nothing_is_written_to_it(kind: str):
    told = waiting()
    first = told(ev.StoreUnreachable("Transport endpoint is not connected", kind))
    assert [each.level for each in first.asked(do.Notify)] == ["warning"]
    for _ in range(5):
        told.until(do.CheckFence)
        assert not told(ev.StoreUnreachable("Transport endpoint is not connected", kind)).asked(do.Notify)
        assert not told(staged(told.session.saves.next_upload_step + 10)).asked(do.UploadCheckpoint)
    assert told.session.phase is Phase.RUNNING


def test_after_it_is_back_a_listing_counts_only_when_it_cannot_be_stale():
    told = waiting()(ev.StoreUnreachable("gone", "gone"))
    back_s = told.now.mono_s
    told.until(do.CheckFence)(ev.FenceChecked(HERE))
    assert told.session.writes_suspended
    assert "answers again" in told.asked(do.Notify)[0].message
    told.until(do.ConfirmDurability)
    assert told.now.mono_s - back_s >= DRIVE.visibility_delay_s
    assert not told.session.writes_suspended


def test_a_successor_that_shows_only_later_is_still_seen_before_anything_is_written():
    told = waiting()(ev.StoreUnreachable("gone", "gone"))
    told.until(do.CheckFence)(ev.FenceChecked(HERE))
    told.until(do.CheckFence)(ev.FenceChecked((*HERE, f"e{MINE.generation + 1:08d}-zzzz")))
    assert told.session.ending.phase is Phase.FENCED
    assert not told.asked(do.ConfirmDurability)


def test_a_finished_run_waits_for_its_proof_and_says_so_once():
    told = waiting()(*DONE)
    commands = pass_by(told, 300, unconfirmed(10))
    assert [each.message for each in (*told.commands, *commands) if isinstance(each, do.Notify)][:1] != []
    assert not [each for each in commands if isinstance(each, do.RecordSessionEnd)]
    assert told(durable(10)).asked(do.RecordSessionEnd)[0].reason == "succeeded"


def test_a_finished_run_that_is_never_proved_does_not_end_as_if_it_were():
    told = waiting()(*DONE)
    commands = pass_by(told, 700, unconfirmed(10))
    ends = [each for each in commands if isinstance(each, do.RecordSessionEnd)]
    assert [(each.reason, each.exit_code) for each in ends] == [("unproved", 1)]
    assert told(ev.SessionEndRecorded()).session.phase is Phase.FAILED


def flushing() -> Told:
    told = waiting(replace(DRIVE, can_flush=True))
    pass_by(told(*DONE), 700, unconfirmed(10))
    return told(ev.SessionEndRecorded())


def test_what_is_not_proved_in_time_is_left_to_the_platform_to_send_and_is_then_safe():
    told = flushing()
    assert told.asked(do.FlushDrive)
    assert told(ev.DriveFlushed(id_(10))).session.phase is Phase.SUCCEEDED
    assert told.session.saves.durable == id_(10)


def test_a_flush_that_fails_is_said_and_nothing_is_called_safe():
    told = flushing()(ev.DriveFlushed(None, "flush_and_unmount failed"))
    assert told.session.phase is Phase.FAILED
    assert "could not send" in told.asked(do.Notify)[0].message
    assert told.session.saves.durable is None


def test_a_flush_that_hangs_ends_at_its_deadline():
    told = flushing()
    while told.session.phase is Phase.DRAINING:
        told.wake()
    assert told.session.phase is Phase.FAILED


def test_a_store_that_is_away_at_the_end_is_waited_for_a_minute_only():
    told = waiting()(ev.StoreUnreachable("gone", "gone"), *DONE)
    began_s = told.now.mono_s
    while not told.asked(do.RecordSessionEnd):
        told.wake()
        if told.asked(do.CheckFence) and not told.asked(do.RecordSessionEnd):
            told(ev.StoreUnreachable("gone", "gone"))
    assert told.now.mono_s - began_s <= 90


def test_the_time_of_waiting_for_a_silent_rival_is_used_to_install():
    from supervisor.core.checkpoint.session_id import SessionId, SessionObservation

    told = Told(DRIVE)(
        ev.SessionStarted(), ev.RunInspected(("e00000001-aaaa",), SessionObservation(SessionId(1, "aaaa"), 3))
    )
    assert told.asked(do.PrepareEnvironment)
    told.until(do.InspectRun)(ev.RunInspected(("e00000001-aaaa",), SessionObservation(SessionId(1, "aaaa"), 3)))
    assert not told.asked(do.PrepareEnvironment)


# --- what a dead session wrote and nobody proved --------------------------------------------------------------------

DEAD = CheckpointId(2, 40, "old", 1)


def inherited(**options):
    """Return a session that goes on from a dead one's checkpoint, which the drive has not confirmed yet."""
    told = claimed(Config(confirm_every_s=2.0, upload_wait_s=600.0, **options))
    return told(
        ev.CheckpointReady("/r", DEAD, durable=False),
        ev.TrainerStarted(7),
        ev.TrainerMessage(Heartbeat(40, "after", 40)),
    )


def proof_of_the_dead():
    return ev.CheckpointDurable("/r", DEAD, 10, 0.0, "client")


@pytest.mark.parametrize(
    ("ends", "phase"),
    [
        ((ev.TrainerMessage(Finished(40)), ev.TrainerExited(0)), Phase.SUCCEEDED),
        ((ev.SignalReceived("SIGTERM"), ev.TrainerExited(143)), Phase.CANCELLED),
        ((ev.FenceChecked(HERE, "save"), ev.TrainerExited(0)), Phase.CANCELLED),
        ((ev.PreemptionNotice(600.0, "spot"), ev.TrainerExited(0)), Phase.HANDED_OVER),
    ],
    ids=["finished", "SIGTERM", "stop", "notice"],
)
def test_every_end_waits_for_the_proof_of_what_a_dead_session_wrote(ends, phase):
    told = inherited()(*ends)
    assert told.session.phase is Phase.DRAINING
    assert not told.asked(do.RecordSessionEnd)
    assert told.until(do.ConfirmDurability).asked(do.ConfirmDurability) == [do.ConfirmDurability("/r")]
    assert not told(ev.DurabilityPending("/r", "not uploaded")).asked(do.RecordSessionEnd)
    [end] = told(proof_of_the_dead()).asked(do.RecordSessionEnd)
    assert end.step == 40
    assert told(ev.SessionEndRecorded()).session.phase is phase


def test_without_that_proof_it_is_no_success():
    told = inherited()(ev.TrainerMessage(Finished(40)), ev.TrainerExited(0))
    pass_by(told, 700, ev.DurabilityPending("/r", "not uploaded"))
    assert told.session.ending.phase is Phase.FAILED


def test_what_a_dead_session_wrote_gives_way_to_our_own():
    told = inherited()
    assert told(staged(50)).asked(do.UploadCheckpoint) == [do.UploadCheckpoint("/s/step-50", 50)]
    assert told.asked(do.DeleteStaged) == [do.DeleteStaged("/r")]
    assert not told(proof_of_the_dead()).asked(do.UploadCheckpoint)


def test_what_is_gone_from_the_store_is_sent_from_here():
    told = inherited()(ev.UploadFailed("/r", "it is not in the store as it was written"))
    assert told.until(do.UploadCheckpoint).asked(do.UploadCheckpoint) == [do.UploadCheckpoint("/r", 40)]
    # from then on it is an upload like any other: one is in flight, and a newer one waits (I17)
    assert not told(ev.CheckpointWritten("/r", DEAD, 10), staged(50)).asked(do.UploadCheckpoint)
    assert told(ev.CheckpointDurable("/r", DEAD, 10, 0.0, "client")).asked(do.UploadCheckpoint) == [
        do.UploadCheckpoint("/s/step-50", 50)
    ]


def test_on_a_folder_it_is_asked_for_at_once_and_own_checkpoints_are_no_dead_ones():
    told = claimed()(ev.CheckpointReady("/r", DEAD, durable=False)).until(do.ConfirmDurability)
    assert told.asked(do.ConfirmDurability) == [do.ConfirmDurability("/r")]
    assert told.now.mono_s < 1001
    own = claimed()(ev.CheckpointReady("/r", CheckpointId(MINE.generation, 40, MINE.writer, 1), durable=False))
    assert own.session.timers.confirm is None


def test_nothing_is_asked_for_while_another_machine_may_have_the_run():
    told = claimed()(ev.TimerFired(), after_s=4000.0)
    assert told.session.writes_suspended
    told(ev.CheckpointReady("/r", DEAD, durable=False)).wake()
    assert not told.asked(do.ConfirmDurability)
    assert told(ev.FenceChecked(HERE)).until(do.ConfirmDurability).asked(do.ConfirmDurability) == [
        do.ConfirmDurability("/r")
    ]


def test_a_last_checkpoint_that_is_damaged_on_this_disk_is_no_success():
    told = running()(staged(900), *DONE)
    told(ev.UploadFailed("/s/step-900", "model.safetensors changed on the local disk", permanent=True))
    [end] = told.asked(do.RecordSessionEnd)
    assert (end.reason, end.exit_code) == ("failed", 1)
    assert "changed on the local disk" in end.message
