"""HyperLPR's SegmenationFree-Inception recogniser in Keras: plate pictures in, CTC class scores out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
from keras import layers

from hyperlpr_example.alphabet import CLASSES
from hyperlpr_example.plates import PLATE_HEIGHT, PLATE_WIDTH

if TYPE_CHECKING:
    from hyperlpr_example.caffemodel import Floats

_EPSILON = 0.001  # of the published batch normalisations
_NORMALISATION = ".normalised"
# The distribution that torch's convolutions begin with: uniform within 1/sqrt(inputs).
_START = {"class_name": "VarianceScaling", "config": {"scale": 1 / 3, "mode": "fan_in", "distribution": "uniform"}}


def segmentation_free(width: float = 1.0) -> keras.Model:
    """Input (N, 160, 40, 3): BGR in 0..1, the plate's length first. Output (N, 20, 84): class scores of each step, blank last.

    ``width`` scales all channels; 1.0 is the published network of 2,447,700 weights that are trained. Scores are float32
    whatever the policy, because the loss needs that.
    """
    c32, c64, c128, c256, c1024 = (max(1, round(channels * width)) for channels in (32, 64, 128, 256, 1024))
    plates = keras.Input((PLATE_WIDTH, PLATE_HEIGHT, 3))
    seen = plates
    for place, channels in enumerate((c32, c64, c128)):
        # Published as normalise, ReLU, pool; ReLU after the pool gives the same numbers at a quarter of its cost.
        seen = layers.MaxPooling2D(2)(_normalised(seen, f"stem.{place}", channels, (3, 3)))
        seen = layers.ReLU()(seen)
    columns = layers.ReLU()(_normalised(seen, "height", c256, (1, 5), padding="valid"))
    branches = [
        layers.ReLU()(_normalised(columns, f"branches.{place}", c256, (along, 1)))
        for place, along in enumerate((7, 5, 3, 1))
    ]
    mixed = layers.ReLU()(_normalised(layers.Concatenate()(branches), "mix", c1024, (1, 1)))
    scores = layers.Conv2D(CLASSES, 1, kernel_initializer=_START, name="classes")(mixed)
    scores = layers.Reshape((20, CLASSES))(scores)
    return keras.Model(plates, layers.Activation("linear", dtype="float32")(scores), name="segmentation_free")


def load_layers(network: keras.Model, published: dict[str, list[Floats]]) -> None:
    """Put layers as ``published_layers`` gives them into the network of width 1.0."""
    for name, (weights, bias, *normalisation) in published.items():
        network.get_layer(name).set_weights([weights.transpose(2, 3, 1, 0), bias])
        if normalisation:
            network.get_layer(name + _NORMALISATION).set_weights(normalisation)


def _normalised(seen: Any, name: str, channels: int, kernel: tuple[int, int], padding: str = "same") -> Any:
    convolved = layers.Conv2D(channels, kernel, padding=padding, kernel_initializer=_START, name=name)(seen)
    return layers.BatchNormalization(epsilon=_EPSILON, momentum=0.9, name=name + _NORMALISATION)(convolved)
