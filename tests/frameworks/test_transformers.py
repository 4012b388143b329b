"""A transformers Trainer that is interrupted anywhere ends as if it had not been, and no sample that was used is read again."""

from pathlib import Path

import pytest

import supervisor
from supervisor.core.errors import UserError
from supervisor.core.messages import Finished, ScriptFailed
from supervisor.trainer import ends, life
from tests.frameworks.resuming import Attempts

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install torch")
transformers = pytest.importorskip("transformers", reason="needs transformers: pip install transformers accelerate")
pytest.importorskip("accelerate", reason="needs Accelerate: pip install accelerate")

from tests.frameworks.scripts import transformers_trainer as script  # noqa: E402  # it imports what may be absent

pytestmark = [pytest.mark.frameworks, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

SCRIPT = Path(script.__file__)
STEPS = 18  # in three epochs of six


@pytest.fixture
def attempts(tmp_path, monkeypatch):
    return Attempts(tmp_path, monkeypatch)


def trained(*words, callbacks=None, **changed):
    """Return a function that trains, and returns the Trainer."""

    def train():
        options = script.options(["--steps", str(STEPS), *words])
        trainer = script.trainer_of(
            options, callbacks and callbacks(), **{name: made() for name, made in changed.items()}
        )
        trainer.result = trainer.train()
        return trainer

    return train


def history(trainer):
    return [
        {name: row[name] for name in row if "runtime" not in name and "second" not in name}
        for row in trainer.state.log_history
    ]


def ends_as_uninterrupted(attempts, train, *stops):
    """Train once without and once with interruptions; return both Trainers."""
    whole = attempts.attempt(train, "whole")
    for stop in stops:
        assert attempts.attempt(train, "parts", stop) is None
        assert attempts.step("parts") == stop
    resumed = attempts.attempt(train, "parts")
    assert attempts.differences("whole", "parts") == []
    assert history(resumed) == history(whole)
    assert resumed.result.training_loss == whole.result.training_loss
    assert all(
        torch.equal(one, other) for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True)
    )
    return whole, resumed


@pytest.mark.parametrize("stops", [(1,), (2, 4), (6,), (11, 12, 17), (7,)], ids=str)
def test_it_ends_as_if_it_had_not_been_interrupted(attempts, stops):
    ends_as_uninterrupted(attempts, trained(), *stops)


VARIANTS = {
    "one batch a step": (("--accumulate", "1"), {}),
    "three batches a step": (("--accumulate", "3"), {}),
    "bfloat16": (("--bf16",), {}),
    "log, evaluate at the end of the epoch": (
        (),
        {"logging_strategy": lambda: "epoch", "eval_strategy": lambda: "epoch"},
    ),
    "its own checkpoints": ((), {"save_strategy": lambda: "steps", "save_steps": lambda: 5}),
    "an evaluation at the start": ((), {"eval_on_start": lambda: True}),
    "no seedable sampler": ((), {"accelerator_config": lambda: {"use_seedable_sampler": False}}),
    "batches of equal length": ((), {"train_sampling_strategy": lambda: "group_by_length"}),
    "rate by plateau": ((), {"lr_scheduler_type": lambda: "reduce_lr_on_plateau"}),
    "cosine": ((), {"lr_scheduler_type": lambda: "cosine"}),
    "adafactor": ((), {"optim": lambda: "adafactor"}),
    "ignore_data_skip": ((), {"ignore_data_skip": lambda: True}),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_a_trainer_may_be_told(attempts, variant):
    words, changed = VARIANTS[variant]
    ends_as_uninterrupted(attempts, trained(*words, **changed), 3, 9)


class Counting(transformers.TrainerCallback):
    """A callback with a state, in the way that this package's users write it."""

    def __init__(self):
        self.ended = 0

    def on_step_end(self, args, state, control, **objects):
        self.ended += 1

    def state_dict(self):
        return {"ended": self.ended}

    def load_state_dict(self, kept):
        self.ended = kept["ended"]


def test_early_stopping_stops_where_it_would_have(attempts):
    train = trained("--patience", "1", learning_rate=lambda: 1.0, eval_steps=lambda: 2)
    whole, resumed = ends_as_uninterrupted(attempts, train, 3)
    assert whole.state.global_step == resumed.state.global_step < STEPS


def test_a_run_that_has_stopped_early_is_over(attempts):
    train = trained("--patience", "1", learning_rate=lambda: 1.0, eval_steps=lambda: 2)
    first, again = (attempts.attempt(train, "run") for _ in range(2))
    assert again.state.global_step == first.state.global_step
    assert again.result.training_loss == first.result.training_loss


def test_a_callback_with_a_state_dict_is_kept(attempts):
    train = trained(callbacks=lambda: [Counting(), supervisor.TransformersCallback()])
    _, resumed = ends_as_uninterrupted(attempts, train, 4)
    assert resumed.pop_callback(Counting).ended == STEPS


def test_an_epoch_goes_on_without_a_read_of_what_was_used(attempts):
    """100 steps an epoch, of 4 samples each: at 1 % and at 99 % the same is read, the next batch and the one fetched ahead."""
    reads, seen = [], []

    def train():
        options = script.options(["--steps", "300", "--accumulate", "1"])
        trainer = script.trainer_of(
            options, [supervisor.TransformersCallback()], eval_strategy="no",
            train_dataset=script.Sentences(400, 1),
        )  # fmt: skip
        seen.append(trainer.train_dataset)
        trainer.train()

    for position in (1, 98):
        attempts.attempt(train, f"at {position}", position)
        attempts.attempt(train, f"at {position}", position + 1)
        reads.append(seen[-1].reads)
    assert reads == [8, 8]


class Stream(torch.utils.data.IterableDataset):
    def __init__(self, count):
        self.sentences = script.Sentences(count, 1)

    def __iter__(self):
        return (self.sentences[index] for index in range(len(self.sentences)))


def plain(samples):
    return {name: torch.stack([each[name] for each in samples]) for name in samples[0]}


def test_a_stream_is_read_up_to_its_place_again_and_that_is_said(attempts):
    train = trained(train_dataset=lambda: Stream(48), data_collator=lambda: plain)
    ends_as_uninterrupted(attempts, train, 3)
    assert any("are a stream" in word for word in attempts.said)


def test_a_trainer_that_is_there_already_takes_it_too(attempts):
    def train():
        trainer = script.trainer_of(script.options(["--steps", "4"]), [transformers.EarlyStoppingCallback()])
        trainer.add_callback(supervisor.TransformersCallback(trainer))
        trainer.train()
        return trainer

    attempts.attempt(train, "whole")
    attempts.attempt(train, "parts", 2)
    attempts.attempt(train, "parts")
    assert attempts.differences("whole", "parts") == []


def test_added_later_without_the_trainer_it_says_how(attempts):
    def train():
        trainer = script.trainer_of(script.options(["--steps", "2"]), [transformers.EarlyStoppingCallback()])
        trainer.add_callback(supervisor.TransformersCallback())
        trainer.train()

    with pytest.raises(UserError, match="made already") as raised:
        attempts.attempt(train, "run")
    assert "TransformersCallback(trainer)" in raised.value.hint


def test_resume_from_checkpoint_is_not_for_it(attempts):
    def train():
        trainer = script.trainer_of(script.options(["--steps", "2"]))
        trainer._init_training_state(2, 1, 2, "output/checkpoint-1", None)

    with pytest.raises(UserError, match="resumes by itself") as raised:
        attempts.attempt(train, "run")
    assert "trainer.train()" in raised.value.hint


def test_a_trainer_with_another_loop_is_refused(attempts, monkeypatch):
    monkeypatch.delattr(transformers.Trainer, "_run_epoch")
    with pytest.raises(UserError, match="does not know the training loop of transformers") as raised:
        attempts.attempt(trained(), "run")
    assert "install transformers" in raised.value.hint


def test_what_begins_again_with_smaller_batches_is_refused(attempts):
    with pytest.raises(UserError, match="auto_find_batch_size"):
        attempts.attempt(trained(auto_find_batch_size=lambda: True), "run")


def test_one_of_several_processes_is_refused(attempts, monkeypatch):
    monkeypatch.setattr(transformers.TrainingArguments, "world_size", 2)
    with pytest.raises(UserError, match="keeps one process, this is one of 2"):
        attempts.attempt(trained(), "run")


def test_other_data_in_the_middle_of_an_epoch_are_refused(attempts):
    attempts.attempt(trained(), "run", 3)
    with pytest.raises(UserError, match="in the middle of an epoch of 11 batches"):
        attempts.attempt(trained(train_dataset=lambda: script.Sentences(80, 1)), "run")


class Ending(torch.utils.data.IterableDataset):
    """A stream of so many sentences that it tells nobody; it can be read once."""

    def __init__(self, count):
        self.left = iter([script.Sentences(count, 1)[index] for index in range(count)])

    def __iter__(self):
        return self.left


def test_a_training_whose_data_run_out_is_no_success(attempts):
    """Trainer stops by itself then, as if a callback had asked for it."""
    attempts.attempt(
        trained(train_dataset=lambda: Ending(24), accelerator_config=lambda: {"dispatch_batches": False}), "run"
    )
    told = ends.word(life.here(), None)
    assert isinstance(told, ScriptFailed)
    assert told.kind == "short"


def test_a_training_that_a_callback_stops_is_a_success(attempts):
    attempts.attempt(trained("--patience", "1", learning_rate=lambda: 1.0, eval_steps=lambda: 2), "run")
    told = ends.word(life.here(), None)
    assert isinstance(told, Finished)
    assert told.step < STEPS
