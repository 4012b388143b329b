"""A fit by Keras that is interrupted anywhere ends as if it had not been, and no batch that was trained on is read again."""

import os
import random

import numpy as np
import pytest

from benchmarks.machines import ROOT
from supervisor.core.errors import UsageError
from supervisor.trainer import life
from supervisor.trainer.refused import RefusedError
from tests.frameworks.resuming import Attempts

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
keras = pytest.importorskip("keras", reason="needs Keras 3: pip install keras, and a backend")
BACKEND = keras.backend.backend()
callback = pytest.importorskip("supervisor.trainer.callbacks.keras", reason="needs Keras 3: pip install keras")

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore")]

BATCHES, BATCH = 10, 2
SCRIPT = ROOT / "tests" / "frameworks" / "scripts" / "keras_fit.py"
CHANCE = np.random.default_rng(5)
X = CHANCE.normal(size=(BATCH * BATCHES - 1, 4)).astype("float32")  # the last batch is a smaller one
Y = np.sin(X.sum(axis=1, keepdims=True))


class Rows(keras.utils.PyDataset):
    """Which batches were read, in order."""

    def __init__(self, batches=BATCHES):
        super().__init__()
        self.batches, self.reads = batches, []

    def __len__(self):
        return self.batches

    def __getitem__(self, index):
        self.reads.append(index)
        return X[:BATCH] + index, Y[:BATCH]


class Now(list):
    """A list of a class of its own is no plain value: it is of this attempt only."""


class Heard(keras.callbacks.Callback):
    """What a callback is told, also over all attempts."""

    def __init__(self):
        super().__init__()
        self.now, self.all = Now(), []

    def on_epoch_begin(self, epoch, logs=None):
        self.now.append(("epoch", epoch))

    def on_train_batch_begin(self, batch, logs=None):
        self.now.append(batch)
        self.all.append(batch)


@pytest.fixture
def attempts(tmp_path, monkeypatch):
    return Attempts(tmp_path, monkeypatch)


def fit(*, policy="float32", steps_per_execution=1, heard=None, more=(), epochs=3, data=None, **options):
    """Fit a small net as a fresh process would, and return its history."""
    callback._used.clear()
    keras.utils.clear_session()
    keras.utils.set_random_seed(7)
    keras.config.set_dtype_policy(policy)
    layers = [keras.layers.Dense(4, "tanh"), keras.layers.Dropout(0.5), keras.layers.Dense(1, dtype="float32")]
    model = keras.Sequential(layers)
    optimizer = keras.optimizers.Adam(0.05, use_ema=True, ema_momentum=0.9)
    model.compile(optimizer, "mse", metrics=["mae"], steps_per_execution=steps_per_execution)
    keras.config.set_dtype_policy("float32")
    callbacks = [
        callback.KerasCallback(),
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.9),
        keras.callbacks.EarlyStopping("val_loss", patience=9, restore_best_weights=True),
        keras.callbacks.ReduceLROnPlateau("val_loss", patience=1),
        heard or Heard(),
        *more,
    ]
    given = data() if data is not None else {"x": X, "y": Y, "batch_size": BATCH}
    history = model.fit(
        **given, epochs=epochs, callbacks=callbacks, verbose=0, validation_data=(X[:4], Y[:4]), **options
    )
    return history.epoch, history.history


def reordered_rows():
    return {"x": Rows(), "shuffle": True}


def pipeline():
    tf = pytest.importorskip("tensorflow", reason="needs TensorFlow: pip install tensorflow")
    return {"x": tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(7).batch(BATCH).prefetch(2)}


def loader():
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install torch")
    rows = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    return {"x": torch.utils.data.DataLoader(rows, BATCH, shuffle=True)}


def weighed():
    return {"x": X, "y": (Y > 0).astype("int32")[:, 0], "batch_size": BATCH, "class_weight": {0: 1.0, 1: 3.0}}


KINDS = {
    "arrays": {},
    "shuffled within batches": {"shuffle": "batch"},
    "not shuffled": {"shuffle": False},
    "a PyDataset": {"data": reordered_rows},
    "a tf.data pipeline": {"data": pipeline},
    "class weights": {"data": weighed},
    "epochs shorter than the data": {"steps_per_epoch": 5},
    "mixed precision": {"policy": "mixed_float16"},
    "a later first epoch": {"initial_epoch": 1},
} | ({} if BACKEND == "torch" else {"steps per execution": {"steps_per_execution": 3}}) | (
    {"a DataLoader": {"data": loader}} if BACKEND == "torch" else {}
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_stopped_within_an_epoch_and_at_its_end_it_ends_as_if_it_had_not_been(attempts, kind):
    whole = attempts.attempt(lambda: fit(**KINDS[kind]), "whole")
    total = attempts.step("whole")
    epoch_steps = total // len(whole[0])
    for stop_at in (epoch_steps // 2 + 1, *([epoch_steps] if kind in {"arrays", "a tf.data pipeline"} else [])):
        assert attempts.attempt(lambda: fit(**KINDS[kind]), f"stopped-{stop_at}", stop_at) is None
        assert attempts.attempt(lambda: fit(**KINDS[kind]), f"stopped-{stop_at}") == whole
        assert attempts.differences("whole", f"stopped-{stop_at}") == []
    assert not [words for words in attempts.said if "anew" in words]


@pytest.mark.slow
@pytest.mark.parametrize("done", [1, 99])
def test_a_resume_reads_what_is_left_of_the_epoch_and_nothing_else(attempts, done):
    rows = []

    def data():
        rows.append(Rows(100))
        return {"x": rows[-1], "shuffle": True}

    attempts.attempt(lambda: fit(data=data, epochs=1), "run", done)
    attempts.attempt(lambda: fit(data=data, epochs=1), "run")
    looked_at = [0, 1] if BACKEND == "tensorflow" else rows[1].reads[: len(rows[1].reads) - (100 - done)]
    assert rows[1].reads[: len(looked_at)] == looked_at, "what Keras reads to know the form of a batch"
    assert len(looked_at) <= 2
    rest = rows[1].reads[len(looked_at) :]
    first = rows[0].reads[len(looked_at) :][:done]
    assert sorted(first + rest) == list(range(100))


@pytest.mark.slow
def test_callbacks_hear_the_numbers_of_epochs_and_batches_as_if_nothing_had_happened(attempts):
    before, after = Heard(), Heard()
    attempts.attempt(lambda: fit(heard=before), "run", 14)
    attempts.attempt(lambda: fit(heard=after), "run")
    assert list(after.now) == [("epoch", 1), *range(4, 10), ("epoch", 2), *range(10)]
    assert after.all == [*range(10)] * 3


@pytest.mark.slow
def test_a_fit_that_stopped_early_is_not_gone_on_with(attempts):
    class Enough(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

    whole = attempts.attempt(lambda: fit(more=[Enough()]), "run")
    assert whole[0] == [0, 1]
    heard = Heard()
    assert attempts.attempt(lambda: fit(more=[Enough()], heard=heard), "run") == whole
    assert not heard.now


@pytest.mark.slow
def test_nan_is_noticed_and_logged_with_its_step(attempts):
    class Poisoned(Rows):
        def __getitem__(self, index):
            x, y = super().__getitem__(index)
            return x, y + (np.nan if index == 3 else 0)

    attempts.attempt(lambda: fit(data=lambda: {"x": Poisoned(), "shuffle": False}, epochs=1), "run")
    assert [words for words in attempts.said if words.startswith("loss is nan at step 3")]


@pytest.mark.slow
def test_a_generator_begins_anew_and_it_is_said(attempts):
    def stream():
        return {"x": ((X[:BATCH] + index % 7, Y[:BATCH]) for index in range(10_000)), "steps_per_epoch": BATCHES}

    attempts.attempt(lambda: fit(data=stream), "run", 14)
    assert attempts.attempt(lambda: fit(data=stream), "run")[0] == [0, 1, 2]
    assert attempts.step("run") == 30
    assert any("begins anew after a resume" in words for words in attempts.said)


@pytest.mark.slow
def test_other_arrays_than_those_it_began_with_are_refused(attempts):
    attempts.attempt(fit, "run", 4)
    with pytest.raises(RefusedError, match="batch_size was 2 and is 4"):
        attempts.attempt(lambda: fit(data=lambda: {"x": X, "y": Y, "batch_size": 4}), "run")


@pytest.mark.slow
def test_a_second_fit_of_a_script_is_refused_in_two_lines(attempts):
    def twice():
        fit(epochs=1)
        used = list(callback._used)
        model = keras.Sequential([keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        assert used
        model.fit(X, Y, verbose=0, callbacks=[callback.KerasCallback()])

    with pytest.raises(UsageError, match="keeps one fit of a script"):
        attempts.attempt(twice, "run")


@pytest.mark.slow
def test_left_within_a_step_nothing_of_it_is_kept(attempts):
    class Leaving(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 4:
                raise SystemExit(0)

    attempts.attempt(lambda: fit(more=[Leaving()]), "run")
    life.here().run.close()
    with pytest.raises(ValueError, match="empty"):
        attempts.step("run")


class Chosen(Rows):
    """Batches in an order of its own, which changes with each epoch, and which it can tell."""

    def __init__(self):
        super().__init__()
        self.order, self.chance = list(range(self.batches)), random.Random(3)

    def __getitem__(self, index):
        return super().__getitem__(self.order[index])


class AtTheBegin(Chosen):
    def on_epoch_begin(self):
        self.chance.shuffle(self.order)


class AtTheEnd(Chosen):
    def on_epoch_end(self):
        self.chance.shuffle(self.order)


class Twice(AtTheBegin, AtTheEnd):
    pass


def telling(kind):
    """Return the kind with the two methods that keep its order."""
    return type(
        kind.__name__,
        (kind,),
        {
            "state_dict": lambda self: {"order": list(self.order), "chance": self.chance.getstate()},
            "load_state_dict": lambda self, kept: (
                self.order.__setitem__(slice(None), kept["order"]),
                self.chance.setstate(kept["chance"]),
            ),
        },
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", [AtTheBegin, AtTheEnd, Twice])
def test_data_that_shuffle_themselves_and_tell_their_order_go_on_within_an_epoch_and_at_its_end(attempts, kind):
    def run():
        return fit(data=lambda: {"x": telling(kind)(), "shuffle": False})

    whole = attempts.attempt(run, "whole")
    for stop_at in (14, 20):
        attempts.attempt(run, f"stopped-{stop_at}", stop_at)
        assert attempts.attempt(run, f"stopped-{stop_at}") == whole
        assert attempts.differences("whole", f"stopped-{stop_at}") == []
    assert not [words for words in attempts.said if "may change" in words]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "named"),
    [(AtTheBegin, "on_epoch_begin()"), (AtTheEnd, "on_epoch_end()"), (Twice, "on_epoch_begin() and on_epoch_end()")],
)
def test_data_that_shuffle_themselves_and_cannot_tell_their_order_are_named_at_the_begin(attempts, kind, named):
    attempts.attempt(lambda: fit(data=lambda: {"x": kind(), "shuffle": False}, epochs=1), "run", 1)
    assert [words for words in attempts.said if words.startswith(f"{kind.__name__}.{named} may change")]


class Profiled(keras.callbacks.Callback):
    """Notes what is open in this process, and fails where it is told something else."""

    def __init__(self):
        super().__init__()
        self._is_tracing = self._profiler_started = self.recording = False
        self.opened, self.began_at, self.epoch_start_time = [], 0.0, 0.0
        self.running = 0.0  # a running mean

    def on_train_batch_begin(self, batch, logs=None):
        if self.model.optimizer.iterations == 3:
            self._is_tracing = self._profiler_started = self.recording = True
            self.opened = [object()]
            self.began_at = self.epoch_start_time = 12345.5

    def on_train_batch_end(self, batch, logs=None):
        self.running = 0.9 * self.running + 1
        if self._is_tracing or self._profiler_started or self.recording:
            assert self.opened, "what is open in another process is closed here"


@pytest.mark.slow
def test_what_was_open_in_the_process_before_is_not_taken_for_open(attempts):
    before, after = Profiled(), Profiled()
    attempts.attempt(lambda: fit(more=[before]), "run", 5)
    assert before._is_tracing
    attempts.attempt(lambda: fit(more=[after]), "run")
    assert before.began_at > after.began_at == after.epoch_start_time == 0.0
    assert not after._is_tracing
    assert after.running > before.running > 3


@pytest.mark.slow
@pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorBoard's profiler is TensorFlow's")
def test_a_resume_between_the_first_and_the_last_profiled_batch_goes_on(attempts):
    pytest.importorskip("tensorboard", reason="needs TensorBoard: pip install tensorboard")

    def run():
        return fit(more=[keras.callbacks.TensorBoard("logs", profile_batch=(3, 12))])

    attempts.attempt(run, "run", 5)
    assert len(attempts.attempt(run, "run")[0]) == 3
    assert attempts.step("run") == 30
