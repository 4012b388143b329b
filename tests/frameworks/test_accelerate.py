"""A loop written with Accelerate that is interrupted anywhere ends as if it had not been, and nothing used is read again."""

from pathlib import Path

import pytest

import supervisor
from supervisor.core.errors import UserError
from supervisor.core.messages import Finished
from supervisor.trainer import ends, life
from tests.frameworks.resuming import Attempts

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install torch")
accelerate = pytest.importorskip("accelerate", reason="needs Accelerate: pip install accelerate")

from accelerate.state import AcceleratorState, GradientState  # noqa: E402  # it may be absent

from tests.frameworks.scripts import accelerate_loop as script  # noqa: E402  # it imports what may be absent

pytestmark = [pytest.mark.frameworks, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

SCRIPT = Path(script.__file__)


@pytest.fixture
def attempts(tmp_path, monkeypatch):
    return Attempts(tmp_path, monkeypatch)


def trained(*words):
    """Return a function that trains in three epochs of six steps."""

    def train():
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
        return script.trained(script.options(["--steps", "18", *words]))

    return train


@pytest.mark.parametrize("words", [(), ("--accumulate", "1"), ("--bf16",)], ids=str)
@pytest.mark.parametrize("stops", [(1,), (2, 6, 7), (11, 12, 14)], ids=str)
def test_it_ends_as_if_it_had_not_been_interrupted(attempts, words, stops):
    _, _, wanted = attempts.attempt(trained(*words), "whole")
    for stop in stops:
        assert attempts.attempt(trained(*words), "parts", stop) is None
        assert attempts.step("parts") == stop
    _, _, best = attempts.attempt(trained(*words), "parts")
    assert attempts.differences("whole", "parts") == []
    assert vars(best) == vars(wanted)
    assert best.epochs == 3


def test_an_epoch_goes_on_without_a_read_of_what_was_used(attempts, monkeypatch):
    """About 100 steps an epoch: at 1 % and at 97 % the same is read, the next batch and the one fetched ahead."""
    made, make = [], script.Samples
    monkeypatch.setattr(script, "Samples", lambda count: made.append(make(count)) or made[-1])
    reads = []
    for position in (1, 96):
        train = trained("--steps", "300", "--accumulate", "1")
        attempts.attempt(train, f"at {position}", position)
        attempts.attempt(train, f"at {position}", position + 1)
        reads.append(made[-1].reads)
    assert reads == [8, 8]


def test_chance_in_workers_is_said_not_to_be_kept(attempts):
    for stop in (2, 3):
        attempts.attempt(trained("--workers", "1"), "run", stop)
    assert any("inside the DataLoader's workers" in word for word in attempts.said)


def test_a_finished_run_does_nothing_more(attempts):
    first, again = (attempts.attempt(trained(), "run") for _ in range(2))
    assert again[0].step == first[0].step == 18
    assert again[1].reads == 0
    assert vars(again[2]) == vars(first[2])


def test_a_loader_that_is_not_prepared_is_refused(attempts):
    def train():
        supervisor.AccelerateRun(accelerate.Accelerator(cpu=True), torch.utils.data.DataLoader([1, 2]))

    with pytest.raises(UserError, match="has not prepared") as raised:
        attempts.attempt(train, "run")
    assert "accelerator.prepare(loader)" in raised.value.hint


def test_a_stateful_loader_is_refused(attempts):
    with pytest.raises(UserError, match="StatefulDataLoader draws its chance when it is made"):
        attempts.attempt(trained("--stateful"), "run")


def test_one_of_several_processes_is_refused(attempts, monkeypatch):
    monkeypatch.setattr(accelerate.Accelerator, "num_processes", 2)
    with pytest.raises(UserError, match="keeps one process, this is one of 2"):
        attempts.attempt(trained(), "run")


@pytest.mark.parametrize("inner", [True, False], ids=["the batches' loop", "the epochs' loop"])
def test_a_loop_that_is_left_by_hand_says_at_its_end_how_far_it_came(attempts, inner):
    def train():
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
        accelerator = accelerate.Accelerator(cpu=True)
        loader = accelerator.prepare(torch.utils.data.DataLoader(list(range(8)), 2))
        run = supervisor.AccelerateRun(accelerator, loader)
        for epoch, batches in run.epochs(3):
            for number, _ in enumerate(batches):
                if inner and number == 1:
                    break
            if not inner and epoch == 1:
                break

    attempts.attempt(train, "run")
    told = ends.word(life.here(), None)
    assert isinstance(told, Finished)
    assert told.short_of == 12, "the supervisor's last line has it"
    assert 0 < told.step < 12
