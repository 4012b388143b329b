"""How far the Keras example is from the torch one, as JSON; Keras has one backend a process, so each is asked in its own."""

from __future__ import annotations

import json
import sys

from hyperlpr_example.in_keras.backend import choose_backend

choose_backend()

import keras  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

from hyperlpr_example.alphabet import BLANK  # noqa: E402
from hyperlpr_example.augment import drawn_looks  # noqa: E402
from hyperlpr_example.batches import Mixture  # noqa: E402
from hyperlpr_example.in_keras import batches as keras_batches  # noqa: E402
from hyperlpr_example.in_keras import ctc as keras_ctc  # noqa: E402
from hyperlpr_example.in_keras.network import load_layers, segmentation_free  # noqa: E402
from hyperlpr_example.in_torch import batches as torch_batches  # noqa: E402
from hyperlpr_example.in_torch import ctc as torch_ctc  # noqa: E402
from hyperlpr_example.in_torch.network import SegmentationFree, state_of  # noqa: E402
from hyperlpr_example.plates import LabelledPlates  # noqa: E402

PARTS = ("0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var")


def main(published: str, plates: str) -> None:
    """Print what differs by how much; with the published weights on real plates where these are given."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    found = {"parameters": sum(int(np.prod(each.shape)) for each in segmentation_free().trainable_variables)}
    pictures = np.random.default_rng(0).integers(0, 256, (8, 3, 40, 160), np.uint8)
    found |= logits(random_layers(), pictures)
    if published:
        from pathlib import Path

        from hyperlpr_example.published import published_layers
        from hyperlpr_example.real import read_folder

        found["published"] = logits(published_layers(), read_folder(Path(plates)).pictures[::20])
    found |= losses() | looks(pictures) | {"batches": batches(pictures)}
    print(json.dumps(found))


def random_layers():
    """Layers of width 1.0 in which nothing is 0 or 1, as a trained network's are."""
    state = SegmentationFree().state_dict()
    random = {name: (torch.rand(value.shape) - 0.5) / 5 for name, value in state.items() if value.ndim == 1}
    random |= {name: value.abs() + 1 for name, value in random.items() if name.endswith(("var", "1.weight"))}
    arrays = {name: value.numpy() for name, value in (state | random).items()}
    names = {name.rsplit(".", 2)[0] for name in arrays if name.endswith("running_mean")}
    layers = {name: [arrays[f"{name}.{part}"] for part in PARTS] for name in names}
    return layers | {"classes": [arrays["classes.weight"], arrays["classes.bias"]]}


def logits(layers, pictures):
    ours, theirs = segmentation_free(), SegmentationFree().eval()
    load_layers(ours, layers)
    theirs.load_state_dict(state_of(layers))
    plates = pictures.astype(np.float32) / 255
    with torch.inference_mode():
        expected = theirs(torch.from_numpy(plates).transpose(2, 3)).transpose(0, 1).numpy()
    got = np.asarray(ours.predict_on_batch(plates.transpose(0, 3, 2, 1)))
    return {
        "logits": float(abs(got - expected).max()),
        "same_best": float((got.argmax(2) == expected.argmax(2)).mean()),
    }


def losses():
    """Value and gradient of both losses against torch's; few classes, so that there are many repeats."""
    rng = np.random.default_rng(1)
    lengths = np.array([7, 8, 7, 1, 8, 2, 7])
    classes = rng.integers(0, 6, (7, 8))
    scores = 3 * rng.standard_normal((7, 20, 84)).astype(np.float32)
    theirs = torch.from_numpy(scores).double().requires_grad_()
    expected = torch_ctc.ctc_loss(theirs.transpose(0, 1), torch.from_numpy(classes), torch.from_numpy(lengths))
    expected.backward()
    ended = np.where(np.arange(8) < lengths[:, None], classes, BLANK).astype(np.int32)

    def exact(classes, scores):
        return keras_ctc.exact_ctc_loss(scores, classes, lengths.astype(np.int32)) / lengths.astype(np.float32)

    found = {}
    for name, loss in (("loss", keras_ctc.ctc_loss), ("exact_loss", exact)):
        value, gradient = value_and_gradient(lambda scores, loss=loss: keras.ops.mean(loss(ended, scores)), scores)
        found[name] = abs(value - expected.item()) / expected.item()
        found[f"{name}_gradient"] = float(abs(gradient - theirs.grad.numpy()).max())
    return found


def value_and_gradient(function, at):
    if keras.backend.backend() == "jax":
        import jax

        value, gradient = jax.value_and_grad(function)(at)
    else:
        import tensorflow as tf

        at = tf.constant(at)
        with tf.GradientTape() as tape:
            tape.watch(at)
            value = function(at)
        gradient = tape.gradient(value, at)
    return float(value), np.asarray(gradient)


def looks(pictures):
    """All but the noise, which is of another generator."""
    drawn = drawn_looks(len(pictures), np.random.default_rng(0))
    quiet = drawn._replace(noise=np.zeros_like(drawn.noise))
    theirs = torch_batches.augmented(torch.from_numpy(pictures), quiet).permute(0, 2, 3, 1).numpy()
    turned = keras.ops.convert_to_tensor(np.ascontiguousarray(pictures.transpose(0, 2, 3, 1)))
    ours = np.asarray(keras_batches.augmented(*keras_batches.arguments(turned, quiet)))
    noisy = np.asarray(keras_batches.augmented(*keras_batches.arguments(turned, drawn)))
    strength = (noisy - ours).std(axis=(1, 2, 3))
    return {"looks": float(abs(ours - theirs).max()), "noise": float(abs(strength / drawn.noise - 1).max())}


def batches(pictures):
    """A batch is the same whenever it is made, another in another step, and has the classes of its plates."""
    texts = [f"皖A{index:05d}" for index in range(len(pictures))]
    mixture = Mixture([(LabelledPlates(pictures, texts), 4)], seed=3)
    made = keras_batches.Batches(mixture)
    late, again, next_one = ([np.asarray(part) for part in made.batch(step)] for step in (17, 17, 18))
    same = all((one == other).all() for one, other in zip(late, again, strict=True))
    classes = (late[1][:, :7] == mixture.classes[mixture.drawn(17).chosen][:, :7]).all() and (
        late[1][:, 7] == BLANK
    ).all()
    return bool(same and classes and (late[0] != next_one[0]).any() and late[0].shape == (4, 160, 40, 3))


if __name__ == "__main__":
    main(*sys.argv[1:])
