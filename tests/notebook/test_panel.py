"""The panel of a notebook: what it shows of a session, as HTML and as text."""

from __future__ import annotations

from supervisor.core import commands as do
from supervisor.core import events as ev
from supervisor.core import messages
from supervisor.core.checkpoint import CheckpointId
from supervisor.core.instant import Instant
from supervisor.core.status import RunStatus, to_json
from supervisor.engine import kept
from supervisor.engine.arrival import Arrival
from supervisor.views import notebook
from supervisor.views.notebook import Scene

NOW = Instant(1000.0, 5000.0)
STATUS = RunStatus(
    run="plates", platform="colab", device="Tesla T4", state="RUNNING", epoch=3, attempt=1, step=1234, total_steps=2000,
    step_s=0.02, metrics={"loss": 0.125}, durable=1200, submitted=1230, staged=1230, durable_at=Instant(820.0, 4820.0),
    place="Drive", deadline_at_s=1000.0 + 3600, next_save_at_s=1090.0, updated=NOW, good_s=90.0, badput={"start-up": 10.0},
)  # fmt: skip
LINES = [
    "[supervisor] going on from step 484, verified",
    "[supervisor] step 1,230/2,000 62 % · 50 steps/s",
    "epoch 1 <b>done</b>",
    "[supervisor] warning: this machine may end soon",
    "             %supervisor doctor",
]


def scene(**told: object) -> Scene:
    said, printed = notebook.sorted_lines(LINES)
    return Scene(**{"run": "plates", "plain": to_json(STATUS, NOW), "said": said, "printed": printed, **told})


def test_it_shows_what_a_person_wants_to_know() -> None:
    seen = notebook.text(scene())
    for words in (
        "plates: running", "step 1,234/2,000 (62 %)", "50 steps/s", "15 s left", "loss 0.125", "machine ends in 1 h",
        "safe in Drive: step 1,200, 3 min ago", "next save in 1 min 30 s", "on Tesla T4", "session 3", "goodput 90 %",
    ):  # fmt: skip
        assert words in seen, words
    assert "[#########################..............." in seen


def test_both_forms_say_the_same_and_html_is_escaped() -> None:
    bundle = notebook.panel(scene())
    assert set(bundle) == {"text/plain", "text/html"}
    assert "<b>done</b>" not in bundle["text/html"]
    assert "&lt;b&gt;done&lt;/b&gt;" in bundle["text/html"]
    assert "<script" not in bundle["text/html"]
    assert "width:61.7%" in bundle["text/html"]


def test_what_is_said_is_told_from_what_is_printed_and_progress_lines_are_left_out() -> None:
    said, printed = notebook.sorted_lines([*LINES, "error: it failed", "  try: `%supervisor logs`"])
    assert said == [
        "going on from step 484, verified", "warning: this machine may end soon", "    %supervisor doctor",
        "error: it failed", "  try: `%supervisor logs`",
    ]  # fmt: skip
    assert printed == ["epoch 1 <b>done</b>"]


def test_a_status_ages_while_nobody_writes_it() -> None:
    later = notebook.moved_on(to_json(STATUS, NOW), 100.0)
    assert later["durable_age_s"] == 280.0
    assert later["next_save_in_s"] == 0.0
    assert "no sign for 1 min 40 s" in notebook.text(scene(plain=later, silent_s=100.0))


def test_ends_are_said_in_words() -> None:
    assert notebook.text(scene(ended=True, code=0)).startswith("plates: finished")
    assert "run this cell again" in notebook.text(scene(ended=True, code=42)).splitlines()[0]
    assert "exit code 93" in notebook.text(scene(ended=True, code=93))
    assert "gone without a word" in notebook.text(scene(ended=True, code=None))
    assert notebook.text(Scene("plates")) == "plates: starting"
    leaving = scene(said=["the run is finished and safe: giving this machine back, so that no more units are used"])
    assert notebook.text(leaving).startswith("plates: finished; this machine is given back")


def test_the_way_to_the_first_new_step_is_told_by_part_and_adds_up() -> None:
    told = arrived(drift=("the accelerator was Tesla T4, is now L4",))
    first, drift = notebook.arrival(told, 996.0, {"mounting Drive": 4.0})
    assert first == (
        "going on from step 484: first new step 1 min 29 s after this cell began: mounting Drive 4.0 s, supervisor's start"
        " 4.0 s, looking at the store 1.0 s, waiting for what other machines wrote 1 min, restore 2.0 s, waiting for"
        " packages 10 s, start-up to the first step 8.0 s; packages 1 min 12 s, meanwhile"
    )
    assert drift == "other than on the machine before: the accelerator was Tesla T4, is now L4"
    elsewhere = notebook.arrival(told, None, {})[0]
    assert "first new step 1 min 21 s after its start: looking at the store" in elsewhere


def test_what_was_done_is_told_however_quick_it_was_and_a_wait_only_where_there_was_one() -> None:
    quick = {"began_at_s": 10.0, "stepped_at_s": 10.9, "from_step": 484, "claim_s": 0.0, "settle_s": 0.0}
    quick |= {"restore_s": 0.001, "waited_for_packages_s": 0.049, "start_up_s": 0.051}
    (told,) = notebook.arrival(quick, 9.99, {"mounting Drive": 0.004})
    assert told == (
        "going on from step 484: first new step 0.9 s after this cell began: mounting Drive under 0.1 s, supervisor's"
        " start under 0.1 s, looking at the store under 0.1 s, restore under 0.1 s, start-up to the first step 0.1 s"
    )
    slow = notebook.arrival(quick | {"settle_s": 0.06, "waited_for_packages_s": 0.06}, None, {})[0]
    assert "waiting for what other machines wrote 0.1 s, restore under 0.1 s, waiting for packages 0.1 s" in slow
    first = notebook.arrival(quick | {"from_step": None}, None, {})[0]
    assert first.startswith("first step 0.9 s after its start: looking at the store under 0.1 s, start-up")


def test_later_attempts_do_not_change_what_the_first_took() -> None:
    arrival = Arrival()
    before = dict(arrived(arrival=arrival))
    assert not arrival.see(Instant(2000.0, 0.0), ev.Launched(2), STATUS)
    assert arrival.told == before


def test_before_the_first_new_step_nothing_is_told() -> None:
    assert notebook.arrival({"began_at_s": 1.0}, 0.0, {}) == []


def test_what_a_notebook_started_is_found_again(tmp_path) -> None:
    import os

    folder = kept.new(tmp_path)
    mine = kept.note(folder, os.getpid(), "plates", "/runs")
    (folder / kept.OUTPUT).write_bytes(b"one\ntwo\nhal")
    assert mine.lives
    assert mine.code is None
    assert mine.printed(0) == ("one\ntwo\n", 8)
    assert mine.printed(8) == ("", 8)
    mine.saw({"step": 3})
    kept.ended(folder, 42)
    found = list(kept.known(tmp_path, "/runs"))
    assert found == [mine]
    assert (found[0].seen["step"], found[0].code) == (3, 42)
    assert not list(kept.known(tmp_path, "/other"))


def test_old_ones_are_forgotten_and_living_ones_are_not(tmp_path) -> None:
    import os

    alive = kept.note(kept.new(tmp_path), os.getpid(), "plates", "/runs")
    for _ in range(2 * kept.OLD_KEPT):
        kept.note(kept.new(tmp_path), 2**22 + 1, "plates", "/runs")
    found = list(kept.known(tmp_path, "/runs"))
    assert len(found) <= kept.OLD_KEPT + 2
    assert alive in found


def arrived(arrival: Arrival | None = None, drift: tuple[str, ...] = ()) -> dict[str, object]:
    arrival = arrival or Arrival()
    status = RunStatus(session_from_step=484, step=484)
    for at_s, record in (
        (1000.0, ev.Started()),
        (1001.0, ev.ClaimWritten(CheckpointId(3, 0, "ab", 1).rank)),
        (1061.0, do.ReadHistory()),
        (1063.0, ev.CheckpointReady("folder", CheckpointId(2, 484, "ab", 1), durable=True, seconds=1.9)),
        (1073.0, ev.EnvironmentReady(72.0, ("torch 2",), drift)),
        (1073.0, ev.Launched(1)),
    ):
        assert not arrival.see(Instant(at_s, 0.0), record, status)
    beat = ev.TrainerSaid(messages.Beat(step=485, section="step", total_steps=2000))
    assert arrival.see(Instant(1081.0, 0.0), beat, RunStatus(session_from_step=484, step=485))
    return arrival.told
