"""Networks and optimizers in one tf.train.Checkpoint, and Keras models in loops of the script's own, go on or are refused early."""

import os

import numpy as np
import pytest

import supervisor
from supervisor.trainer.refused import RefusedError
from tests.frameworks.resuming import Attempts

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
keras = pytest.importorskip("keras", reason="needs Keras 3: pip install keras, and a backend")
tf = pytest.importorskip("tensorflow", reason="needs TensorFlow: pip install tensorflow")
pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="these models compute with TensorFlow"),
]
STEPS, STOP = 9, 4


@pytest.fixture
def attempts(tmp_path, monkeypatch):
    return Attempts(tmp_path, monkeypatch)


def begun():
    keras.utils.clear_session()
    keras.utils.set_random_seed(7)


def bits(*values):
    return [np.asarray(keras.ops.convert_to_numpy(each)).tobytes().hex() for each in values]


def network(*sizes, inputs=3):
    return keras.Sequential([keras.Input((inputs,)), *(keras.layers.Dense(size, "tanh") for size in sizes)])


def goes_on(attempts, run):
    whole = attempts.attempt(run, "whole")
    assert attempts.attempt(run, "stopped", STOP) is None
    assert attempts.attempt(run, "stopped") == whole
    assert attempts.differences("whole", "stopped") == []
    assert [words for words in attempts.said if "resumed after" not in words] == []


def trained(networks, optimizers, going):
    for index in going.steps(STEPS):
        x = tf.ones((2, 3)) * (1 + index)
        for model, optimizer in zip(networks, optimizers, strict=True):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((model(x) - 0.3) ** 2)
            optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)


@pytest.mark.parametrize(
    "names", [("a", "b", "oa", "ob"), ("z", "y", "b", "a")], ids=["models first", "optimizers first"]
)
@pytest.mark.parametrize("sizes", [((4, 1), (2, 2, 2)), ((4, 1), (4, 1))], ids=["unlike", "alike"])
def test_two_networks_with_an_optimizer_each_in_one_checkpoint_go_on(attempts, names, sizes):
    def run():
        begun()
        networks = [network(*each) for each in sizes]
        optimizers = [keras.optimizers.Adam(0.02), keras.optimizers.Adam(0.01)]
        held = dict(zip(names, [*networks, *optimizers], strict=True))
        trained(networks, optimizers, supervisor.attach(state=tf.train.Checkpoint(**held)))
        return bits(*[variable for each in (*networks, *optimizers) for variable in each.variables])

    goes_on(attempts, run)


def test_one_optimizer_for_two_networks_goes_on(attempts):
    def run():
        begun()
        networks, optimizer = [network(4, 1), network(2, 1)], keras.optimizers.Adam(0.02)
        going = supervisor.attach(state=tf.train.Checkpoint(nets=networks, optimizer=optimizer))
        for _ in going.steps(STEPS):
            with tf.GradientTape() as tape:
                loss = sum(tf.reduce_mean((each(tf.ones((2, 3))) - 0.3) ** 2) for each in networks)
            variables = [variable for each in networks for variable in each.trainable_variables]
            optimizer.apply(tape.gradient(loss, variables), variables)
        return bits(*[variable for each in (*networks, optimizer) for variable in each.variables])

    goes_on(attempts, run)


def test_what_a_resume_could_not_put_back_is_refused_when_it_is_attached(attempts):
    class Later(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    begun()
    empty = tf.train.Checkpoint(net=Later(), optimizer=keras.optimizers.Adam())
    with pytest.raises(RefusedError, match=r"net: Later has no variables yet") as refused:
        attempts.attempt(lambda: supervisor.attach(state=empty), "one")
    assert "before supervisor.attach()" in refused.value.hint
    alone = tf.train.Checkpoint(optimizer=keras.optimizers.Adam())
    with pytest.raises(
        RefusedError, match="optimizer: it has no slots yet, and what it trains is not in this checkpoint"
    ):
        attempts.attempt(lambda: supervisor.attach(state=alone), "two")


def test_an_optimizer_that_is_not_the_attached_one_any_more_is_said_once(attempts):
    def run():
        begun()
        model = network(4, 1)
        model.compile(keras.optimizers.SGD(0.05, momentum=0.9), "mse")
        for step in supervisor.attach(model=model, optimizer=model.optimizer).steps(STEPS):
            if step == 5:
                model.compile(keras.optimizers.Adam(0.01), "mse")
            model.train_on_batch(np.ones((2, 3), "float32"), np.ones((2, 1), "float32"))

    attempts.attempt(run, "run")
    words = "compile() gave the model another optimizer (Adam) after attach(): its state is not kept"
    assert [each.startswith(words) for each in attempts.said] == [True]


def test_variables_on_a_model_in_a_loop_of_its_own_come_back_too(attempts):
    class Queue(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense, self.queue = keras.layers.Dense(1), tf.Variable(tf.zeros(3), trainable=False)
            self.second = keras.optimizers.Adam(0.01)

        def call(self, x):
            self.queue.assign(0.9 * self.queue + x[0])
            return self.dense(x + self.queue)

    def run():
        begun()
        model = Queue()
        model(tf.zeros((2, 3)))
        going = supervisor.attach(model=model)
        trained([model], [model.second], going)
        return bits(*model.variables, model.queue, *model.second.variables)

    goes_on(attempts, run)
