"""The words on what is safe: never more than is proved, and what to do about the rest."""

from dataclasses import replace
from io import StringIO

import pytest

from supervisor.core.checkpoint import CheckpointId
from supervisor.core.events import CheckpointReady, Durable, FenceSeen
from supervisor.core.instant import Instant
from supervisor.core.session import Config, Ending, Phase, Session, Trainer
from supervisor.core.status import OwnSaves, RunStatus, fold, to_json
from supervisor.views import safety, status, words
from supervisor.views.farewell import all_lost, farewell
from supervisor.views.farewell import goodbye as print_goodbye
from supervisor.views.lines import Lines
from supervisor.views.terminal import GREEN, YELLOW, LiveScreen, PlainScreen

NOW = Instant(10_000.0, 1_795_000_000.0)


def ago(seconds):
    return Instant(NOW.mono_s - seconds, NOW.wall_s - seconds)


SAFE = RunStatus(
    run="plates", state="RUNNING", step=41_600, total_steps=100_000, place="Drive", evidence="drivefs",
    staged=41_200, submitted=41_200, durable=41_200, durable_at=ago(180),
)  # fmt: skip
LATE = replace(
    SAFE, staged=41_600, submitted=41_400, unproved_since=ago(720), unconfirmed="Drive has not uploaded it yet"
)
DARK = replace(LATE, dark=True, unconfirmed="the store does not answer: no answer for 10 s")
UNPROVABLE = replace(LATE, durable=None, durable_at=None, evidence=None, provable=False, place="the mounted drive")


def seen(of, **changed):
    return replace(safety.of_status(of, NOW), **changed)


def test_what_is_safe_is_said_with_the_place_and_its_age():
    assert words.line(SAFE, NOW).endswith("safe in Drive: step 41,200, 3 min ago")
    assert words.line(replace(SAFE, place=""), NOW).endswith("safe: step 41,200, 3 min ago")


def test_of_a_script_whose_steps_nobody_tells_it_is_said_too_as_soon_as_anything_is_safe():
    out = StringIO()
    screen = PlainScreen(Lines(out))
    began = replace(SAFE, step=0, section="start", total_steps=None, durable=None, durable_at=None)
    screen.record(NOW, FenceSeen(None), began)
    screen.record(NOW, Durable("", None, 1, 1.0, "fsync"), replace(began, durable=1, durable_at=NOW))
    screen.close()
    assert out.getvalue() == "[supervisor] running · safe in Drive: step 1, 0 s ago\n"


def test_of_a_fleet_it_is_the_users_own_computer_that_fetches():
    home = replace(LATE, place="your computer", evidence="relay", unconfirmed="your computer has not fetched it yet")
    text = words.line(home, NOW)
    assert "safe on your computer: step 41,200, 3 min ago" in text
    assert "not safe for 12 min: step 41,400 is written but your computer has not fetched it" in text
    assert safety.because(seen(home)) == ""
    assert "is your computer awake and online" in safety.what_to_do(seen(home), "plates")


def test_what_is_not_confirmed_for_long_is_said_with_what_is_safe():
    text = words.line(LATE, NOW)
    assert "safe in Drive: step 41,200, 3 min ago" in text
    assert "not safe for 12 min: step 41,400 is written but Drive has not uploaded it" in text


def test_an_upload_that_takes_a_moment_is_no_news():
    assert "confirmed" not in words.line(replace(LATE, unproved_since=ago(30)), NOW)


def test_nothing_is_called_safe_before_anything_is_proved():
    text = words.line(replace(LATE, durable=None, durable_at=None), NOW)
    assert "nothing safe yet · not safe for 12 min: step 41,400" in text


def test_what_is_only_staged_is_said_to_lie_on_this_machine():
    text = words.line(replace(LATE, submitted=41_200), NOW)
    assert "not safe for 12 min: step 41,600 is only on the disk of this machine" in text


def test_a_drive_that_does_not_answer_is_said_at_once_with_what_is_kept():
    assert "Drive does not answer; step 41,600 is kept on the disk of this machine" in words.line(DARK, NOW)


def test_a_mount_without_proof_is_never_called_safe():
    text = words.line(UNPROVABLE, NOW)
    assert (
        "nothing safe yet · step 41,400 is written to the mounted drive, which cannot tell whether it is safe" in text
    )


@pytest.mark.parametrize("width", range(40, 200, 13))
@pytest.mark.parametrize("of", [SAFE, LATE, DARK, UNPROVABLE])
def test_a_narrow_terminal_still_shows_what_is_not_safe(of, width):
    text = words.line(of, NOW, width)
    assert len(text) <= width
    if of is not SAFE and width >= 79:
        assert any(
            word in text for word in ("not safe for", "does not answer", "not known to be safe", "cannot tell whether")
        )
    if of is not UNPROVABLE and width >= 110:
        assert "safe in Drive: step 41,200" in text


@pytest.mark.parametrize(
    ("of", "hint"),
    [
        (
            LATE,
            "is Drive full? drive.google.com/settings/storage; is the upload slow? nothing is lost while this machine",
        ),
        (
            replace(LATE, place="the rclone drive", evidence="rclone"),
            "see the log of rclone and `rclone about REMOTE:`",
        ),
        (UNPROVABLE, "`python3 -m supervisor checkpoints plates verify --store x` from another machine makes it safe"),
        (
            DARK,
            "see that Drive is mounted; what is staged waits on the local disk, and it is sent when it answers again",
        ),
        (replace(LATE, submitted=41_200), "nothing is lost while this machine lives: keep it running"),
    ],
)
def test_what_to_do_fits_what_is_wrong(of, hint):
    assert hint in safety.what_to_do(seen(of), "plates", " --store x")


def test_when_its_session_has_ended_the_proof_can_still_be_asked_for():
    assert "checkpoints plates verify` asks whether it is safe" in safety.what_to_do(seen(LATE, live=False), "plates")
    assert "it is not known whether Drive uploaded it" in safety.lying(seen(LATE, live=False))
    assert "resume plates" in safety.what_to_do(seen(replace(LATE, submitted=41_200), live=False), "plates")


def block(of, *, live=True):
    return "\n".join(status.block(to_json(of, NOW), "session 3", (), status.Live(live, ("stop plates",))))


def test_the_status_has_what_is_not_confirmed_why_and_what_to_do_on_lines_of_their_own():
    text = block(replace(LATE, unconfirmed="Drive has 3 MB free"))
    assert "  safe in Drive: step 41,200, 3 min ago\n" in text
    assert "  not safe for 12 min: step 41,400 is written but Drive has not uploaded it (Drive has 3 MB free)\n" in text
    assert "    -> is Drive full?" in text


def test_a_reason_that_says_nothing_new_is_left_out():
    assert "(Drive has not uploaded" not in block(LATE)


def test_the_status_of_an_ended_run_does_not_say_that_anything_is_still_waited_for():
    text = block(LATE, live=False)
    assert "not safe for" not in text
    assert "step 41,400 is written, and it is not known whether Drive uploaded it" in text


def test_the_status_of_a_run_that_is_all_safe_says_only_that():
    text = block(SAFE)
    assert text.count("step 41,200") == 1
    assert "->" not in text


def goodbye(of, phase=Phase.CANCELLED):
    ending = Ending(phase, 130, "stopped", "stopped by Ctrl-C")
    session = Session(Config()).with_(phase=phase, ending=ending)
    return "\n".join(farewell(session, "plates", of, NOW))


def test_the_last_words_say_what_is_safe_and_what_is_not():
    text = goodbye(LATE)
    assert "CANCELLED: Stopped by Ctrl-C · safe in Drive: step 41,200, 3 min ago · exit code 130\n" in text
    assert "             step 41,400 is written but Drive has not uploaded it\n" in text
    assert "keep it running; `python3 -m supervisor checkpoints plates verify` asks whether it is safe" in text


def test_the_last_words_of_a_session_that_saved_all_have_no_hint():
    assert "->" not in goodbye(SAFE)


def test_the_last_words_of_a_fenced_session_say_nothing_of_its_own_staged_checkpoints():
    assert "41,400" not in goodbye(LATE, Phase.FENCED)


def test_a_run_that_ends_with_nothing_safe_is_not_told_to_export_it():
    assert "export" in goodbye(SAFE, Phase.SUCCEEDED)
    text = goodbye(replace(SAFE, durable=None, durable_at=None, submitted=None, staged=None), Phase.SUCCEEDED)
    assert "export" not in text
    assert "python3 -m supervisor logs plates" in text


OWN = OwnSaves(3, Instant(NOW.mono_s - 45, NOW.wall_s - 45), Instant(NOW.mono_s - 5, NOW.wall_s - 5))


def test_of_a_script_that_cannot_be_asked_no_next_save_is_promised():
    of = replace(SAFE, asked=False, own_saves=OWN, next_save_at_s=None, save_every_s=None, expected_loss_s=None)
    told = "the script saves by itself: last 5 s ago, about every 20 s"
    assert told in words.line(of, NOW)
    assert told in block(of)
    assert "next save" not in words.line(of, NOW) + block(of)
    assert to_json(of, NOW)["own_saves"] == {"count": 3, "last_age_s": 5.0, "every_s": 20.0}
    assert to_json(replace(of, asked=True), NOW)["own_saves"] is None


def test_what_nobody_counts_is_a_snapshot_on_every_screen():
    of = replace(SAFE, counted=False)
    for text in (words.line(of, NOW), block(of), goodbye(of)):
        assert "safe in Drive: snapshot 41,200" in text
        assert " step " not in text
    assert to_json(of, NOW)["unit"] == "snapshot"


def test_a_loop_that_counts_is_told_in_steps_also_where_its_snapshots_are_numbered_only():
    of = replace(SAFE, counted=False, step=120, step_s=0.5)
    text = words.line(of, NOW)
    assert text.startswith("step 120")
    assert "safe in Drive: snapshot 41,200" in text


NOTHING = replace(SAFE, durable=None, durable_at=None, submitted=None, staged=None)


@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.CANCELLED, Phase.HANDED_OVER])
def test_a_run_that_ends_with_nothing_safe_says_so_at_the_level_of_errors(phase, capsys):
    ending = Ending(phase, 0, "stopped", "the script finished")
    session = Session(Config()).with_(phase=phase, ending=ending, trainer=Trainer(attempt=1))
    for of, why in (
        (NOTHING, "no checkpoint was saved"),
        (replace(NOTHING, staged=41_200), "step 41,200 is only on"),
    ):
        print_goodbye(session, "plates", of, NOW, option="", json_lines=False)
        errors = capsys.readouterr().err
        assert "error: nothing of this run is safe" in " ".join(errors.split())
        assert why in " ".join(errors.split())
    print_goodbye(session, "plates", SAFE, NOW, option="", json_lines=False)
    assert "error" not in capsys.readouterr().err


def test_a_run_that_never_trained_is_not_said_to_have_lost_anything():
    session = Session(Config()).with_(phase=Phase.CANCELLED)
    assert all_lost(session, "plates", NOTHING) is None


def test_what_is_gone_on_from_is_not_called_nothing_while_it_is_on_its_way():
    """A dead session left it on this disk: it is verified here, and goes up."""
    ready = CheckpointReady("folder", CheckpointId(1, 41_200, "a", 1), durable=False, adopted=True)
    of = fold(NOTHING, ready, NOW)
    for text in (words.line(of, NOW), block(of), goodbye(of)):
        assert "step 41,200 is verified on the disk of" in text
        assert "nothing safe" not in text
    assert "safe in Drive: step 41,200" in words.line(replace(of, durable=41_200, durable_at=NOW), NOW)


@pytest.mark.parametrize(("good", "export"), [("10 20", True), ("", False)])
def test_after_a_run_that_ended_in_nan_the_newest_is_not_the_one_to_export(good, export):
    of = replace(SAFE, nan_since=25, nan_fine=24, nan_names="loss", good=good)
    text = goodbye(of, Phase.SUCCEEDED)
    assert "export latest" not in text
    assert ("checkpoints plates export 20 DIR" in text) == export
    assert "checkpoints plates list" in text


class Caught:
    """What a screen writes."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text


@pytest.mark.parametrize(("of", "colour"), [(SAFE, GREEN), (LATE, YELLOW), (DARK, YELLOW)])
def test_the_live_line_changes_its_colour_with_what_is_not_confirmed(of, colour):
    out = Caught()
    LiveScreen(out, lambda: 120).record(NOW, None, replace(of, section="step"))
    assert colour in out.text
