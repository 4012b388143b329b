"""What a script hangs on its model, loss, optimizers and callbacks comes back with it; what cannot is named."""

import os
import random
from collections import Counter, defaultdict, deque

import numpy as np
import pytest

from supervisor.trainer.refused import RefusedError
from tests.frameworks.resuming import Attempts

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
keras = pytest.importorskip("keras", reason="needs Keras 3: pip install keras, and a backend")
callback = pytest.importorskip("supervisor.trainer.callbacks.keras", reason="needs Keras 3: pip install keras")
keras_arrays = pytest.importorskip("supervisor.trainer.callbacks.keras_arrays", reason="needs Keras 3")
array_data_adapter = pytest.importorskip("keras.src.trainers.data_adapters.array_data_adapter", reason="needs Keras 3")
keras_after = pytest.importorskip("supervisor.trainer.callbacks.keras_after", reason="needs Keras 3: pip install keras")
tf = pytest.importorskip("tensorflow", reason="needs TensorFlow: pip install tensorflow")

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="these models compute with TensorFlow"),
]
BATCHES, BATCH = 6, 2
CHANCE = np.random.default_rng(5)
X = CHANCE.normal(size=(BATCH * BATCHES, 4)).astype("float32")
Y = np.sin(X.sum(axis=1, keepdims=True))
IN_AN_EPOCH, AT_ITS_END = 9, 6


@pytest.fixture
def attempts(tmp_path, monkeypatch):
    return Attempts(tmp_path, monkeypatch)


def begun(seed=7):
    callback._used.clear()
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)


def bits(*values):
    """Return all that is in variables, arrays and tensors, as something to compare."""
    return [np.asarray(keras.ops.convert_to_numpy(each)).tobytes().hex() for each in values]


def fitted(model, callbacks=(), x=X, y=Y, epochs=3, **options):
    options.setdefault("batch_size", BATCH)
    model.fit(x, y, epochs=epochs, verbose=0, callbacks=[callback.KerasCallback(), *callbacks], **options)


def goes_on(attempts, run, stops=(IN_AN_EPOCH, AT_ITS_END)):
    """Hold an interrupted run against one that nothing happened to, by what it returns and by its last checkpoint."""
    whole = attempts.attempt(run, "whole")
    for stop_at in stops:
        assert attempts.attempt(run, f"stopped-{stop_at}", stop_at) is None
        assert attempts.attempt(run, f"stopped-{stop_at}") == whole
        assert attempts.differences("whole", f"stopped-{stop_at}") == []
    return whole


def warned(attempts):
    return [words for words in attempts.said if "resumed after" not in words]


# --- optimizers, variables and generators of a model ------------------------------------------------------------------


class Gan(keras.Model):
    """As Keras's own guide writes it: two networks, two optimizers, and no call()."""

    def __init__(self):
        super().__init__()
        self.critic = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "tanh"), keras.layers.Dense(1)])
        self.maker = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, "tanh"), keras.layers.Dense(4)])
        self.seeds = keras.random.SeedGenerator(3)
        self.d_loss, self.g_loss = keras.metrics.Mean(name="d"), keras.metrics.Mean(name="g")

    def compile(self, d_optimizer, g_optimizer):
        super().compile()
        self.d_optimizer, self.g_optimizer = d_optimizer, g_optimizer

    @property
    def metrics(self):
        return [self.d_loss, self.g_loss]

    def train_step(self, data):
        real = data[0] if isinstance(data, tuple) else data
        with tf.GradientTape() as tape:
            made = self.maker(keras.random.normal((BATCH, 2), seed=self.seeds))
            d_loss = tf.reduce_mean(self.critic(made)) - tf.reduce_mean(self.critic(real)) + 0.1
        self.d_optimizer.apply(tape.gradient(d_loss, self.critic.trainable_weights), self.critic.trainable_weights)
        with tf.GradientTape() as tape:
            g_loss = -tf.reduce_mean(self.critic(self.maker(keras.random.normal((BATCH, 2), seed=self.seeds))))
        self.g_optimizer.apply(tape.gradient(g_loss, self.maker.trainable_weights), self.maker.trainable_weights)
        self.d_loss.update_state(d_loss)
        self.g_loss.update_state(g_loss)
        return {"d": self.d_loss.result(), "g": self.g_loss.result()}


class CalledGan(Gan):
    def call(self, x):
        return self.critic(x)


@pytest.mark.parametrize("kind", [Gan, CalledGan])
def test_a_model_with_two_optimizers_and_a_step_of_its_own_goes_on_with_or_without_call(attempts, kind):
    def run():
        begun()
        model = kind()
        model.compile(keras.optimizers.Adam(0.02), keras.optimizers.RMSprop(0.01, momentum=0.9))
        fitted(model, y=None)
        return bits(*model.variables, *model.d_optimizer.variables, *model.g_optimizer.variables)

    goes_on(attempts, run)
    assert warned(attempts) == []


@pytest.mark.parametrize("samples", [12, 11, 2, 1])
def test_the_batches_have_the_shapes_that_they_have_without_us(samples):
    """TensorFlow optimizes a step by them: where the batch size is unknown, it may read a weight after its update."""
    adapter = array_data_adapter.ArrayDataAdapter(X[:samples], Y[:samples], batch_size=BATCH, shuffle=True)
    own = adapter.get_tf_dataset()
    for first in range(adapter._size + 1):
        ours = keras_arrays.dataset(adapter, keras_arrays.Order(adapter, 5, 0), first)
        assert ours.element_spec == own.element_spec
        assert len(list(ours)) == adapter._size - first


class Encoder(keras.Model):
    """A variational autoencoder's step; its layers are built when they are first called, in the first step."""

    def __init__(self):
        super().__init__()
        self.encode, self.decode = keras.layers.Dense(2), keras.layers.Dense(4)
        self.seeds = keras.random.SeedGenerator(3)

    def train_step(self, data):
        x = data[0] if isinstance(data, tuple) else data
        with tf.GradientTape() as tape:
            mean = self.encode(x)
            z = mean + keras.random.normal(tf.shape(mean), seed=self.seeds)
            loss = tf.reduce_mean((self.decode(z) - x) ** 2)
        self.optimizer.apply(tape.gradient(loss, self.trainable_weights), self.trainable_weights)
        return {"loss": loss}


def test_a_model_whose_layers_are_built_in_its_first_step_goes_on(attempts):
    def run():
        begun()
        model = Encoder()
        model.compile(keras.optimizers.Adam(0.02))
        fitted(model, y=None)
        return bits(*model.variables, *model.optimizer.variables)

    goes_on(attempts, run)
    assert warned(attempts) == []


def test_a_model_that_nobody_can_build_before_its_first_step_is_refused_before_it(attempts):
    class Eager(Encoder):
        steps = 0

        def train_step(self, data):
            x = data[0] if isinstance(data, tuple) else data
            Eager.steps += bool(x.numpy().sum())
            return super().train_step(data)

    def run():
        begun()
        model = Eager()
        model.compile(keras.optimizers.Adam(0.02), run_eagerly=True)
        fitted(model, y=None)

    with pytest.raises(RefusedError, match="the variables of Eager cannot be made before its first step"):
        attempts.attempt(run, "run")
    assert Eager.steps == 0


class Remembering(keras.Model):
    """Everything that may hang on a model and is in no list of Keras's."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(3)
        self.out = keras.layers.Dense(1)
        self.queue = tf.Variable(tf.zeros((4,)), trainable=False)
        self.chance = tf.random.Generator.from_seed(5)
        self.counts = {"seen": [tf.Variable(0, dtype=tf.int64)]}
        self.scale = keras.Variable(1.0, trainable=False)

    def call(self, x, training=False):
        if training:
            self.queue.assign(0.9 * self.queue + tf.reduce_mean(x, axis=0))
            self.counts["seen"][0].assign_add(1)
            self.scale.assign(self.scale * 1.01)
            x = x + 0.1 * self.chance.normal(tf.shape(x)) + self.queue
        return self.out(self.dense(x)) * self.scale


def test_variables_and_generators_of_a_model_that_keras_does_not_list_come_back(attempts):
    def run():
        begun()
        model = Remembering()
        model.compile(keras.optimizers.SGD(0.005, momentum=0.5), "mse")
        fitted(model)
        return bits(*model.variables, model.queue, model.counts["seen"][0], model.chance.state, model.scale)

    goes_on(attempts, run)
    assert warned(attempts) == []


@pytest.mark.parametrize("layer", ["LSTM", "GRU"])
def test_the_states_of_stateful_recurrent_layers_come_back(attempts, layer):
    def run():
        begun()
        recurrent = getattr(keras.layers, layer)(3, stateful=True)
        model = keras.Sequential([keras.Input((5, 2), batch_size=2), recurrent, keras.layers.Dense(1)])
        model.compile(keras.optimizers.Adam(0.02), "mse")
        fitted(model, x=CHANCE_X, y=Y, shuffle=False)
        return bits(*model.variables, *recurrent.states)

    goes_on(attempts, run)
    assert warned(attempts) == []


CHANCE_X = CHANCE.normal(size=(BATCH * BATCHES, 5, 2)).astype("float32")


# --- losses -----------------------------------------------------------------------------------------------------------


def small():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "tanh"), keras.layers.Dense(1)])


class Counting(keras.losses.Loss):
    """A loss with a memory: a variable of Keras and one of TensorFlow."""

    def __init__(self):
        super().__init__()
        self.seen, self.mean = keras.Variable(0.0, trainable=False), tf.Variable(0.0)

    def call(self, y, p):
        self.seen.assign(self.seen + 1)
        loss = keras.ops.mean((y - p) ** 2)
        self.mean.assign(0.9 * self.mean + 0.1 * loss)
        return loss * (1 + self.seen / 10) + self.mean * keras.ops.mean(p)


def test_the_memory_of_a_loss_comes_back(attempts):
    def run():
        begun()
        model, loss = small(), Counting()
        model.compile(keras.optimizers.SGD(0.02), loss)
        fitted(model)
        return bits(*model.variables, loss.seen, loss.mean)

    goes_on(attempts, run)
    assert warned(attempts) == []


@pytest.mark.parametrize("held", ["by a callback", "by the loss alone"])
def test_a_weight_of_the_loss_that_a_callback_raises_comes_back(attempts, held):
    class Raising(keras.callbacks.Callback):
        def __init__(self, weight):
            super().__init__()
            self.weight = weight

        def on_epoch_end(self, epoch, logs=None):
            self.weight.assign(self.weight + 0.5)

    def run():
        begun()
        weight = keras.Variable(0.0, trainable=False)
        model = small()
        model.compile(
            keras.optimizers.SGD(0.05), lambda y, p: keras.ops.mean((y - p) ** 2) + weight * keras.ops.mean(p)
        )
        raising = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: weight.assign(weight + 0.5))
        fitted(model, [Raising(weight) if held == "by a callback" else raising])
        return bits(*model.variables, weight)

    goes_on(attempts, run)
    assert warned(attempts) == []


# --- plain attributes that change -------------------------------------------------------------------------------------


class Changing(keras.callbacks.Callback):
    """Changes plain numbers of a layer and of the optimizer, and freezes one."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 0:
            self.model.layers[1].rate = 0.6
            self.model.optimizer.momentum = 0.5
            self.model.layers[0].trainable = False


@pytest.mark.parametrize("eager", [True, False], ids=["each step looks", "traced"])
def test_plain_numbers_of_layers_and_optimizers_that_a_callback_changes_come_back(attempts, eager):
    def run():
        begun()
        layers = [keras.layers.Dense(6, "tanh"), keras.layers.Dropout(0.2, seed=3), keras.layers.Dense(1)]
        model = keras.Sequential([keras.Input((4,)), *layers])
        model.compile(keras.optimizers.SGD(0.05, momentum=0.9), "mse", run_eagerly=eager)
        fitted(model, [Changing()])
        return [*bits(*model.variables), layers[1].rate, model.optimizer.momentum, layers[0].trainable]

    whole = goes_on(attempts, run)
    assert whole[-3:] == [0.6, 0.5, False]
    assert warned(attempts) == []


# --- the memory of callbacks ------------------------------------------------------------------------------------------


class Average(keras.callbacks.Callback):
    """Weight averages in lists of variables, made when training begins or at the first step."""

    def __init__(self, made):
        super().__init__()
        self.made, self.average, self.steps = made, None, None

    def on_train_begin(self, logs=None):
        if self.made == "when training begins":
            self._make()

    def on_train_batch_end(self, batch, logs=None):
        if self.average is None:
            self._make()
        self.steps.assign_add(1)
        for mean, weight in zip(self.average, self.model.trainable_variables, strict=True):
            mean.assign(0.9 * mean + 0.1 * weight)

    def _make(self):
        self.average = [tf.Variable(each) for each in self.model.trainable_variables]
        self.steps = tf.Variable(0)


@pytest.mark.parametrize("made", ["when training begins", "at the first step"])
def test_averages_in_lists_of_variables_come_back_whenever_they_are_made(attempts, made):
    def run():
        begun()
        model, average = small(), Average(made)
        model.compile(keras.optimizers.SGD(0.05), "mse")
        fitted(model, [average])
        return [*bits(*average.average), int(average.steps)]

    assert goes_on(attempts, run)[-1] == 18
    assert warned(attempts) == []


class Drawing(keras.callbacks.Callback):
    """Generators, metrics, tensors, a teacher network and an optimizer of its own."""

    def __init__(self):
        super().__init__()
        self.chances = [np.random.default_rng(1), np.random.RandomState(2), random.Random(3)]
        self.metric, self.tensor = keras.metrics.Mean(), tf.zeros(2)
        self.teacher = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        self.optimizer = keras.optimizers.Adam(0.1)
        self.seeds = keras.random.SeedGenerator(4)

    def on_train_batch_end(self, batch, logs=None):
        numpy, legacy, plain = self.chances
        drawn = numpy.normal() + legacy.normal() + plain.random() + keras.random.normal((), seed=self.seeds)
        self.metric.update_state(drawn)
        self.tensor = 0.5 * self.tensor + drawn
        self.optimizer.apply([tf.ones_like(each) for each in self.teacher.weights], self.teacher.weights)

    def seen(self):
        held = [self.metric.result(), self.tensor, *self.teacher.variables, *self.optimizer.variables]
        return [*bits(*held), self.chances[0].random(), self.chances[1].rand(), self.chances[2].random()]


def test_generators_metrics_tensors_and_networks_of_a_callback_come_back(attempts):
    def run():
        begun()
        model, drawing = small(), Drawing()
        model.compile(keras.optimizers.SGD(0.05), "mse")
        fitted(model, [drawing])
        return drawing.seen()

    goes_on(attempts, run)
    assert warned(attempts) == []


class Thing:
    """Of the script's own: how it could be kept, nobody knows."""

    def __init__(self):
        self.steps = 0


class Collecting(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seen, self.counts, self.lists = set(), Counter(), defaultdict(lambda: deque(maxlen=2))
        self.last = deque(maxlen=3)
        self.number, self.thing = 0, Thing()

    def on_train_batch_end(self, batch, logs=None):
        self.number += 1
        self.thing.steps += 1
        self.seen.add(self.number % 7)
        self.counts[batch] += 1
        self.lists[batch].append(self.number)
        self.last.append(self.number)


CONTAINERS = {"seen": set, "counts": Counter, "lists": defaultdict, "last": deque}


def test_containers_of_a_callback_come_back_with_their_kind_and_what_cannot_is_named_once(attempts):
    def run():
        begun()
        model, collecting = small(), Collecting()
        model.compile(keras.optimizers.SGD(0.05), "mse")
        fitted(model, [collecting])
        collecting.lists["a new one"].append(1)
        return {name: getattr(collecting, name) for name in (*CONTAINERS, "number")}

    whole = goes_on(attempts, run, stops=(IN_AN_EPOCH,))
    assert {name: type(whole[name]) for name in CONTAINERS} == CONTAINERS
    assert whole["last"].maxlen == 3
    assert whole["number"] == 18
    words = "Collecting.thing, a Thing, changes and is not kept: after a resume it begins again; give Collecting"
    assert [each.startswith(words) for each in warned(attempts)] == [True] * 3, "once in each of three processes"


# --- a model that is compiled again within fit ------------------------------------------------------------------------


class Unfreezing(keras.callbacks.Callback):
    """Fine-tuning as guides show it: from some epoch on everything is trained, by another optimizer."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            self.model.layers[0].trainable = True
            self.model.compile(keras.optimizers.Adam(0.01), "mse")
            self.model.make_train_function()


class Switching(keras.callbacks.Callback):
    """Another loss and other metrics from the end of an epoch on."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 0:
            self.model.compile(keras.optimizers.SGD(0.02, momentum=0.5), "mae", metrics=["mse"])
            self.model.make_train_function()


@pytest.mark.parametrize("change", [Unfreezing, Switching])
def test_a_model_that_is_compiled_again_within_fit_goes_on_as_it_was_compiled(attempts, change):
    def run():
        begun()
        model = small()
        model.layers[0].trainable = False
        model.compile(keras.optimizers.SGD(0.05, momentum=0.9), "mse")
        fitted(model, [change()])
        return [type(model.optimizer).__name__, *bits(*model.variables, *model.optimizer.variables)]

    goes_on(attempts, run, stops=(IN_AN_EPOCH, AT_ITS_END, 13))
    assert attempts.step("whole") == 18
    assert warned(attempts) == []


def test_a_model_compiled_again_with_what_stands_in_no_file_is_not_saved_in_that_form(attempts):
    class Odd(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                self.model.compile("sgd", lambda y, p: keras.ops.mean(abs(y - p)))
                self.model.make_train_function()

    def run():
        begun()
        model = small()
        model.compile("sgd", "mse")
        fitted(model, [Odd()])
        return bits(*model.variables)

    whole = attempts.attempt(run, "whole")
    attempts.attempt(run, "run", 6)
    attempts.attempt(run, "run", 13)
    assert attempts.step("run") == 6, "what cannot be put back is not called saved"
    assert attempts.attempt(run, "run") == whole


def test_a_fit_whose_data_run_out_says_that_it_ended_before_its_last_step(attempts):
    def run():
        begun()
        model = small()
        model.compile("sgd", "mse")
        rows = tf.data.Dataset.from_tensor_slices((X, Y)).batch(BATCH)
        fitted(model, x=rows, y=None, batch_size=None, steps_per_epoch=4)

    attempts.attempt(run, "run")
    assert any(
        words.startswith("fit() ended at step 10 of 12, and no callback stopped it") for words in warned(attempts)
    )


# --- what is said of other fits, and of numbers that are variables ----------------------------------------------------


def test_training_that_comes_after_the_fit_that_is_kept_is_said_once(attempts, monkeypatch):
    monkeypatch.setattr(keras_after, "_told", set())
    for owner, name in ((keras.callbacks.CallbackList, "on_train_begin"), (keras.Model, "train_on_batch")):
        monkeypatch.setattr(owner, name, getattr(owner, name))

    def run():
        begun()
        model = small()
        model.compile("sgd", "mse")
        fitted(model, epochs=1)
        for _ in range(2):
            model.fit(X, Y, verbose=0)
            model.evaluate(X, Y, verbose=0)
            model.train_on_batch(X, Y)

    attempts.attempt(run, "run")
    words = warned(attempts)
    assert [each.partition(" is not kept, because")[0] for each in words] == [
        "this fit()",
        "training by train_on_batch()",
    ]


def test_a_history_keeps_numbers_where_a_callback_logs_variables(attempts):
    class Logging(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["lr"] = self.model.optimizer.learning_rate
            self.model.optimizer.learning_rate = 0.1 / (epoch + 2)

    def run():
        begun()
        model = small()
        model.compile(keras.optimizers.SGD(0.1), "mse")
        fitted(model, [Logging()])
        return model.history.epoch, {
            name: [float(each) for each in held] for name, held in model.history.history.items()
        }

    epochs, history = goes_on(attempts, run)
    assert epochs == [0, 1, 2]
    assert {name: len(held) for name, held in history.items()} == {"loss": 3, "lr": 3}
    assert [words for words in warned(attempts) if "did not restore" in words] == []
    assert [words for words in warned(attempts) if words.startswith("lr is logged as a variable")]


# --- chance in the data -----------------------------------------------------------------------------------------------


class Watching(keras.Model):
    """Notes the first number of each batch that it is trained on."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)
        self.steps, self.seen = tf.Variable(0), tf.Variable(tf.zeros(3 * BATCHES))

    def call(self, x):
        return self.dense(x)

    def train_step(self, data):
        self.seen.scatter_nd_update([[self.steps]], [data[1][0, 0]])
        self.steps.assign_add(tf.cast(0 * data[1][0, 0] + 1, tf.int32))  # not where there is no batch any more
        return super().train_step(data)


def pipeline(kind):
    numbered = tf.data.Dataset.from_tensor_slices((X, np.arange(len(X), dtype="float32")[:, None]))
    if kind == "a generator":
        chance = tf.random.Generator.from_seed(3)
        return numbered.shuffle(9).map(lambda x, y: (x + chance.normal(tf.shape(x)), y)).batch(BATCH).prefetch(2)
    if kind == "a layer":
        noise = keras.layers.GaussianNoise(0.5, seed=3)
        return numbered.shuffle(9).batch(BATCH).map(lambda x, y: (noise(x, training=True), y))
    spec = (tf.TensorSpec((4,)), tf.TensorSpec((1,)))
    return tf.data.Dataset.from_generator(
        lambda: zip(X, np.arange(len(X))[:, None], strict=True), output_signature=spec
    ).batch(BATCH)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("a generator", "the order of the batches goes on exactly, and the augmentation is drawn anew"),
        ("a layer", "the order of the batches goes on exactly, and the augmentation is drawn anew"),
        ("Python functions", "it is read again up to there"),
    ],
)
def test_a_pipeline_with_chance_in_its_functions_keeps_the_order_of_its_batches(attempts, kind, words):
    def run():
        begun()
        model = Watching()
        model.compile("sgd", "mse")
        fitted(model, x=pipeline(kind), y=None, batch_size=None)
        return model.seen.numpy().tolist()

    whole = attempts.attempt(run, "whole")
    attempts.attempt(run, "stopped", IN_AN_EPOCH)
    assert attempts.attempt(run, "stopped") == whole
    assert all(words in said or "is read again up to its place" in said for said in warned(attempts))
    assert any(words in said for said in warned(attempts))


class Noisy(keras.utils.PyDataset):
    """Augments what it is asked for, by the generators of NumPy and Python that all share, or by one of its own."""

    def __init__(self, own, **options):
        super().__init__(**options)
        self.chance = np.random.default_rng(4) if own else None

    def __len__(self):
        return BATCHES

    def __getitem__(self, index):
        rows = slice(index * BATCH, (index + 1) * BATCH)
        if self.chance is not None:
            return X[rows] + self.chance.normal(size=(BATCH, 4)), Y[rows]
        noise = np.random.normal(size=(BATCH, 4)) + random.random()  # noqa: NPY002  # the one that all share
        return X[rows] + noise, Y[rows]


@pytest.mark.parametrize("own", [False, True], ids=["shared", "its own"])
def test_chance_that_a_data_set_draws_for_a_batch_follows_from_its_number(attempts, own):
    def run():
        begun()
        model = small()
        model.compile(keras.optimizers.SGD(0.01), "mse")
        fitted(model, x=Noisy(own), y=None, batch_size=None, shuffle=True)
        return bits(*model.variables)

    goes_on(attempts, run)
    assert warned(attempts) == []


def test_chance_that_several_threads_draw_at_once_is_said(attempts):
    def run():
        begun()
        model = small()
        model.compile("sgd", "mse")
        fitted(model, x=Noisy(own=False, workers=2), y=None, batch_size=None, epochs=1)

    attempts.attempt(run, "run")
    assert [each for each in warned(attempts) if each.startswith("Noisy.__getitem__() draws by chance in 2 threads")]
