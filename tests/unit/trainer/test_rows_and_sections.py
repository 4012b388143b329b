"""The step log keeps each step once and never waits for a device; sections add up to the time that passed."""

import enum
import json
import math

import pytest

from supervisor.core.errors import UsageError
from supervisor.trainer.due import Due
from supervisor.trainer.rows import FLUSH_ROWS, Rows, exact_row
from supervisor.trainer.sections import Sections
from supervisor.trainer.settings import SaveEvery, read_settings


@pytest.fixture
def noticed():
    return []


@pytest.fixture
def rows(noticed):
    return Rows(lambda *what: noticed.append(what))


def test_two_calls_in_one_step_make_one_row(rows):
    rows.add(0, {"loss": 1.0})
    rows.add(0, {"lr": 0.5, "loss": 2.0})
    rows.add(3, {"loss": 0.1})
    assert rows.taken(10) == [{"step": 0, "loss": 2.0, "lr": 0.5}, {"step": 3, "loss": 0.1}]


def test_rows_are_given_until_they_are_in_a_staged_checkpoint(rows):
    for step in range(6):
        rows.add(step, {"loss": step})
    assert [row["step"] for row in rows.taken(4)] == [0, 1, 2, 3]
    assert [row["step"] for row in rows.taken(4)] == [0, 1, 2, 3]
    rows.forget(4)
    assert [row["step"] for row in rows.taken(6)] == [4, 5]


def test_what_is_not_finite_is_noticed_and_written_as_a_word_that_stands_for_it(rows, noticed):
    rows.add(0, {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 1.0, "e": "words"})
    (row,) = rows.taken(1)
    assert row == {"step": 0, "a": "NaN", "b": "Infinity", "c": "-Infinity", "d": 1.0, "e": "words"}
    assert [name for _, name, _ in noticed] == ["a", "b", "c"]
    back = exact_row(row)
    assert math.isnan(back["a"])
    assert (back["b"], back["c"], back["e"]) == (math.inf, -math.inf, "words")
    assert rows.metrics()["a"] == "NaN"


def test_a_value_that_is_no_number_is_refused_at_once(rows):
    with pytest.raises(UsageError, match=r"run.log\(loss=…\) was given a list"):
        rows.add(0, {"loss": [1, 2]})


def written(rows):
    """The rows as they stand in a file and in a message; the metrics too."""
    return json.loads(json.dumps(rows.taken(9), allow_nan=False).encode()), json.dumps(rows.metrics()).encode()


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("a\udcffb", "a\\udcffb"),
        (10**30, 10**30),
        (10**5000, hex(10**5000)),
        (enum.IntEnum("Level", ["LOW"]).LOW, 1),
        (enum.StrEnum("Word", {"A": "é"}).A, "é"),
    ],
    ids=["lone surrogate", "beyond 64 bits", "thousands of digits", "IntEnum", "StrEnum"],
)
def test_a_logged_value_never_stops_a_save(value, kept):
    told = []
    rows = Rows(lambda *_: None, on_text=lambda *what: told.append(what))
    for step in range(2):
        rows.add(step, {"x": value, "loss": 0.5})
    taken, _ = written(rows)
    assert taken == [{"step": 0, "x": kept, "loss": 0.5}, {"step": 1, "x": kept, "loss": 0.5}]
    assert len(told) == (kept != value)


def test_a_name_that_utf_8_does_not_have_is_written_out(rows):
    rows.add(0, {"a\udcff": 1.0})
    assert written(rows)[0] == [{"step": 0, "a\\udcff": 1.0}]


@pytest.mark.parametrize("value", [b"x", [1], {"a": 1}, object()])
def test_what_is_neither_number_nor_word_is_refused_in_two_lines(rows, value):
    with pytest.raises(UsageError, match=r"run.log\(x=…\) was given a") as refused:
        rows.add(0, {"x": value})
    assert refused.value.hint


@pytest.mark.torch
@pytest.mark.parametrize(
    ("make", "kept"),
    [
        (lambda torch, _: torch.tensor(1j), "1j"),
        (lambda torch, _: torch.ones((), device="meta"), "Tensor that cannot be read"),
        (lambda torch, _: torch.eye(1).to_sparse(), "Tensor that cannot be read"),
        (lambda _, numpy: numpy.longdouble(0.25), 0.25),
        (lambda _, numpy: numpy.complex64(2 - 1j), "(2-1j)"),
        (lambda _, numpy: numpy.datetime64("2026-11-30"), "2026-11-30"),
        (lambda _, numpy: numpy.bytes_(b"ab"), "b'ab'"),
        (lambda _, numpy: numpy.float64("nan"), "NaN"),
        (lambda _, numpy: numpy.str_("\udc80"), "\\udc80"),
    ],
)
def test_a_frameworks_value_without_a_form_in_json_is_written_as_text(make, kept):
    torch, numpy = pytest.importorskip("torch"), pytest.importorskip("numpy")
    rows = Rows(lambda *_: None)
    rows.add(0, {"x": make(torch, numpy), "loss": torch.tensor(2.0)})
    assert written(rows)[0] == [{"step": 0, "x": kept, "loss": 2.0}]


@pytest.mark.torch
def test_tensors_are_kept_as_they_were_and_become_exact_numbers(rows):
    torch = pytest.importorskip("torch")
    running = torch.zeros(())
    for step in range(FLUSH_ROWS + 10):
        running += 0.1
        rows.add(step, {"sum": running, "half": torch.tensor([0.1], dtype=torch.float16), "count": torch.tensor(step)})
    found = rows.taken(FLUSH_ROWS + 10)
    assert found[0]["sum"] == torch.tensor(0.1).item()
    assert found[1]["sum"] != found[0]["sum"]
    assert found[-1]["half"] == torch.tensor(0.1, dtype=torch.float16).item()
    assert [row["count"] for row in found] == list(range(FLUSH_ROWS + 10))
    assert rows.metrics()["sum"] == running.item()


class Clock:
    def __init__(self):
        self.now_s = 1001.0

    def __call__(self):
        return self.now_s


def test_a_section_within_another_is_not_counted_twice():
    clock = Clock()
    sections = Sections(clock)
    clock.now_s += 2
    sections.enter("step")
    clock.now_s += 3
    with sections.within("eval"):
        clock.now_s += 10
    clock.now_s += 1
    sections.lap(clock.now_s)
    clock.now_s += 3
    sections.lap(clock.now_s)
    assert sections.seconds == {"start": 2, "step": 7, "eval": 10}
    assert sections.longest_s == {"start": 2, "step": 4, "eval": 10}
    assert sections.name == "step"


def test_a_checkpoint_is_due_at_exact_multiples_however_the_run_was_cut():
    due = Due(SaveEvery(steps=500))
    due.begin(730, 0.0, None)
    assert due.step == 1000
    due.passed(1003, 0.0)
    assert due.step == 1500
    epochs = Due(SaveEvery(epochs=2))
    epochs.begin(0, 0.0, 30)
    assert epochs.step == 60


def test_epochs_without_a_length_are_refused():
    with pytest.raises(UsageError, match="needs the length of an epoch"):
        Due(SaveEvery(epochs=2)).begin(0, 0.0, None)


def test_settings_with_and_without_a_supervisor():
    alone = read_settings({}, "a/train.py")
    assert (alone.supervised, alone.name, alone.save_every.seconds) == (False, "train", 600.0)
    assert alone.staging.parts[-2:] == ("checkpoints", "train")
    told = read_settings({"SUPERVISOR_RUN_CHANNEL": "/x", "SUPERVISOR_RUN_SAVE_EVERY": "2ep"}, "train.py")
    assert (told.supervised, told.save_every) == (True, SaveEvery(epochs=2))
    assert read_settings({"SUPERVISOR_RUN_SAVE_EVERY": "asked"}, "t.py").save_every == SaveEvery()
    with pytest.raises(UsageError, match="'soon'"):
        read_settings({"SUPERVISOR_RUN_SAVE_EVERY": "soon"}, "t.py")
