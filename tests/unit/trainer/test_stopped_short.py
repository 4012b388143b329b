"""The hooks in scripts that nobody changed say when a framework's loop ends before its total without a word."""

from types import SimpleNamespace

import pytest

from supervisor.trainer.hooks import lightning, transformers


class Script:
    """What hears the hooks."""

    silent = False

    def __init__(self):
        self.said, self.step, self.total_steps = [], 0, None

    def say(self, note):
        self.said.append(note.text)

    def loop_began(self, _driver, step, total):
        self.step, self.total_steps = step, total

    def loop_ended(self):
        self.total_steps = None


@pytest.mark.parametrize(
    ("steps", "epoch_steps", "asked", "said"),
    [
        (12, 6, False, True),  # the data of each epoch were fewer than their length
        (12, 6, True, False),  # a callback stopped it
        (12, 0, True, True),  # Trainer stopped by itself, because an epoch had no batch
        (18, 6, True, False),  # it is done: Trainer's own callback says that it stops
    ],
)
def test_a_trainer_that_ends_before_its_last_step(steps, epoch_steps, asked, said):
    script = Script()
    training = transformers._Training(script)
    training.began(SimpleNamespace(global_step=0, max_steps=18))
    training.epoch_began(SimpleNamespace(global_step=steps - epoch_steps))
    training.ended(SimpleNamespace(global_step=steps, max_steps=18), SimpleNamespace(should_training_stop=asked))
    assert bool(script.said) == said
    assert not said or "train() ended at step 12 of 18" in script.said[0]


def advance(how):
    """As Lightning's own loop: it raises StopIteration where the script's hook returned -1."""
    if how == "asked":
        raise StopIteration
    if how == "cut":
        training_step()


def training_step():
    raise StopIteration


@pytest.mark.parametrize(
    ("how", "should_stop", "said"),
    [("cut", False, True), ("cut", True, False), ("asked", False, False), ("", False, False)],
)
def test_a_fit_that_ends_before_its_last_step(monkeypatch, how, should_stop, said):
    monkeypatch.setattr(lightning, "EPOCH_LOOP_FILE", "test_stopped_short.py")
    loop = SimpleNamespace(advance=lambda: advance(how))
    trainer = SimpleNamespace(
        fit_loop=SimpleNamespace(epoch_loop=loop), estimated_stepping_batches=10, global_step=0, should_stop=should_stop
    )
    script = Script()
    training = lightning._Training(script, trainer)
    if how:
        with pytest.raises(StopIteration):
            loop.advance()
    script.step = 4
    training.ended()
    assert bool(script.said) == said
    assert not said or "fit() ended at step 4 of 10, and nothing asked for that" in script.said[0]
