"""TensorFlow without Keras: what attach() takes, what it refuses in words, and what it says of chance that nobody can read."""

import contextlib
import os

import pytest

from supervisor.trainer.folder import open_folder, read
from supervisor.trainer.refused import RefusedError
from supervisor.trainer.state import State

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
pytestmark = [
    pytest.mark.slow,  # importing TensorFlow takes seconds
    pytest.mark.filterwarnings("ignore"),  # TensorFlow's own
]
tf = pytest.importorskip("tensorflow", reason="needs TensorFlow: pip install tensorflow")


with contextlib.suppress(RuntimeError):  # it runs already, with the devices of another test
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )


class Net(tf.Module):
    def __init__(self, width=4):
        super().__init__()
        self.width, self.weights = width, None

    def __call__(self, x):
        if self.weights is None:
            self.weights = tf.Variable(tf.ones((x.shape[-1], self.width)))
        return x @ self.weights


def restored(path, **attached):
    return State(attached).restore(open_folder(path))


def test_a_checkpoint_is_kept_by_the_paths_of_its_graph(stage):
    net = Net()
    net(tf.ones((1, 2)))
    checkpoint = tf.train.Checkpoint(net=net, steps=tf.Variable(7))
    path = stage(checkpoint=checkpoint)
    found = read(path)["checkpoint"]
    assert {"net/weights", "steps"} <= found.keys()
    assert found["steps"].numpy() == 7
    assert found["net/weights"].shape == (2, 4)


def test_variables_that_are_not_there_yet_are_named(stage):
    net = Net()
    net(tf.ones((1, 2)))
    path = stage(net=net)
    with pytest.raises(RefusedError, match=r"net: .* holds weights, which this object has not \(yet\): create all"):
        restored(path, net=Net())
    wider = Net(9)
    wider(tf.ones((1, 2)))
    with pytest.raises(RefusedError, match=r"weights is float32\[2, 4\] in it and float32\[2, 9\] here"):
        restored(path, net=wider)


def test_the_save_counter_of_a_checkpoint_that_also_saves_itself_comes_back(stage, tmp_path):
    checkpoint = tf.train.Checkpoint(steps=tf.Variable(7))
    checkpoint.save(str(tmp_path / "own"))
    path = stage(checkpoint=checkpoint)
    fresh = tf.train.Checkpoint(steps=tf.Variable(0))
    assert restored(path, checkpoint=fresh) == []
    assert (fresh.save_counter.numpy(), fresh.steps.numpy()) == (1, 7)


def test_an_iterator_goes_on_behind_its_last_batch_whatever_it_shuffled(stage):
    def batches():
        return iter(tf.data.Dataset.range(100).shuffle(30, seed=2).map(lambda each: each + 1).batch(7).prefetch(2))

    data = batches()
    for _ in range(5):
        next(data)
    path = stage(data=data)
    wanted = [batch.numpy().tolist() for batch in data]
    fresh = batches()
    assert restored(path, data=fresh) == []
    assert [batch.numpy().tolist() for batch in fresh] == wanted


def test_a_dataset_has_no_position_but_its_iterator_has(stage):
    with pytest.raises(RefusedError, match="has no position") as refused:
        State({"data": tf.data.Dataset.range(3)})
    assert "data=iter(dataset)" in refused.value.hint


def test_a_pipeline_with_python_in_it_is_refused_with_what_to_do(stage):
    spec = tf.TensorSpec((), tf.int32)
    data = iter(tf.data.Dataset.from_generator(lambda: iter(range(9)), output_signature=spec))
    next(data)
    with pytest.raises(RefusedError, match="cannot tell its position") as refused:
        stage(data=data)
    assert "from_generator" in refused.value.hint


def test_draws_inside_a_traced_function_are_said_not_to_come_back(stage):
    @tf.function
    def noisy_step():
        return tf.random.normal((2,))

    @tf.function
    def exact_step(generator):
        return generator.normal((2,)) + tf.random.stateless_normal((2,), [1, 2])

    tf.random.set_seed(5)
    generator = tf.random.Generator.from_seed(1)
    exact_step(generator)
    path = stage(generator=generator)
    state = State({"generator": generator})
    state.restore(open_folder(path))
    assert state.put_back_rng() == []
    noisy_step()
    path = stage(name="step-000000006-1", generator=generator)
    state.restore(open_folder(path))
    (words,) = state.put_back_rng()
    assert "inside noisy_step count their draws" in words
    assert "tf.random.Generator" in words


def test_a_variable_on_several_devices_is_kept_and_assigned_on_all(stage):
    if len(tf.config.list_logical_devices("CPU")) < 2:
        pytest.skip("TensorFlow was started with one device")
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        module = tf.Module()
        module.weights = tf.Variable(tf.range(4.0))
    path = stage(module=module)
    module.weights.assign(tf.zeros(4))
    assert restored(path, module=module) == []
    assert [each.numpy().tolist() for each in strategy.experimental_local_results(module.weights)] == [[0, 1, 2, 3]] * 2
