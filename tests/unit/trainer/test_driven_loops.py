"""A loop that a framework drives: the run is told what happens, and is as good as one that goes over ``steps()``."""

import json

import pytest

from supervisor.core.liveness import AFTER
from supervisor.trainer import clock
from supervisor.trainer.folder import open_folder
from supervisor.trainer.life import Life
from supervisor.trainer.run import Run
from supervisor.trainer.saver import Saver
from supervisor.trainer.sections import Sections
from supervisor.trainer.settings import read_settings
from supervisor.trainer.state import State


@pytest.fixture
def begun(tmp_path, holder):
    """Return a function that makes a run over one attached number, and that number's holder."""

    def make(**environ):
        life = Life(read_settings({"SUPERVISOR_RUN_STAGING": str(tmp_path / "staged"), **environ}, "train.py"))
        said = []
        life.say = said.append
        held = holder({"weight": 0.0})
        state = State({"model": held})
        saver = Saver(life.settings.staging, 1, clock.now_s, said.append)
        run = Run(life, state, saver, Sections(clock.now_s), clock.now_s)
        life.run = run
        return run, held

    return make


def staged(tmp_path):
    return sorted(path for path in (tmp_path / "staged").iterdir() if path.name.startswith("step-"))


def rows(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def drive(run, held, steps):
    for _ in range(steps):
        held.state = {"weight": held.state["weight"] + 1.0}
        run.log(loss=held.state["weight"])
        run.advance()


def test_steps_are_counted_saved_when_due_and_logged_once(begun, tmp_path):
    run, held = begun(SUPERVISOR_RUN_SAVE_EVERY="2steps")
    run.begin(5)
    for _ in range(5):
        drive(run, held, 1)
        run.flush()
    run.end()
    folders = staged(tmp_path)
    assert [open_folder(folder).step for folder in folders] == [2, 4, 5]
    assert [row["step"] for folder in folders for row in rows(folder)] == [0, 1, 2, 3, 4]


def test_a_loop_of_unknown_length_that_ends_has_its_last_step_saved(begun, tmp_path):
    run, held = begun(SUPERVISOR_RUN_SAVE_EVERY="100steps")
    run.begin(None)
    drive(run, held, 3)
    run.end()
    assert open_folder(staged(tmp_path)[-1]).step == 3


def test_told_to_stop_it_ends_at_the_next_boundary_with_its_state_saved(begun, tmp_path):
    run, held = begun()
    run.begin(10)
    drive(run, held, 1)
    run.told_by_signal(15)
    with pytest.raises(SystemExit) as ended:
        drive(run, held, 1)
    assert ended.value.code == 143
    assert open_folder(staged(tmp_path)[-1]).step == 2


def test_sections_that_a_callback_enters_and_leaves_nest_in_the_step(begun):
    run, held = begun()
    run.begin(10)
    drive(run, held, 1)
    run.enter("eval")
    assert run.beat().section == "eval"
    run.leave()
    assert run.beat().section == "step"


def test_what_comes_after_the_loop_is_no_step_and_a_second_loop_is_one_again(begun):
    run, held = begun()
    run.begin(2)
    drive(run, held, 2)
    run.end()
    assert run.beat().section == AFTER
    run.begin(4)
    drive(run, held, 2)
    assert (run.beat().section, run.step) == ("step", 4)


def test_the_loop_over_steps_ends_in_the_same_section(begun):
    run, held = begun()
    for _ in run.steps(2):
        held.state = {"weight": 1.0}
    assert run.beat().section == AFTER


def test_a_driven_loop_asks_which_steps_to_leave_out_and_they_have_a_row(begun, tmp_path):
    run, held = begun(SUPERVISOR_RUN_CHANNEL="/nowhere", SUPERVISOR_RUN_ROLLBACKS="e00000001-aa:1:3:1")
    run.begin(5)
    while run.step < 5:
        if run.skips(run.step):
            run.pass_over()
        else:
            drive(run, held, 1)
    run.end()
    assert [row.get("skipped", False) for row in rows(staged(tmp_path)[-1])] == [False, True, True, False, False]
    assert held.state == {"weight": 3.0}


def test_a_driven_loop_that_cannot_leave_out_a_step_is_said_once(begun):
    run, held = begun(SUPERVISOR_RUN_CHANNEL="/nowhere", SUPERVISOR_RUN_ROLLBACKS="e00000001-aa:1:3:1")
    said = run._life.say.__self__
    run.begin(5)
    drive(run, held, 5)
    again = [each.text for each in said if "was done again" in getattr(each, "text", "")]
    assert again == ["step 1 was to be left out, but what drives this loop cannot do that: it was done again"]


def test_after_a_trouble_that_somebody_acts_on_nothing_is_saved_any_more(begun, tmp_path):
    run, held = begun(
        SUPERVISOR_RUN_CHANNEL="/nowhere", SUPERVISOR_RUN_ON_NAN="stop", SUPERVISOR_RUN_SAVE_EVERY="2steps"
    )
    said = run._life.say.__self__
    run.begin(6)
    drive(run, held, 3)
    run.flush()
    run.log(loss=float("nan"))
    run.advance()
    drive(run, held, 2)
    run.end()
    assert [open_folder(folder).step for folder in staged(tmp_path)] == [2]
    assert [(each.step, each.fine) for each in said if type(each).__name__ == "Trouble"] == [(3, 2)]
