"""What a Keras network says about pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from keras import ops

from hyperlpr_example.reading import BATCH

if TYPE_CHECKING:
    import keras

    from hyperlpr_example.plates import Pictures
    from hyperlpr_example.reading import BestClasses


def reader_of(network: keras.Model) -> BestClasses:
    """The network as it is whenever it is asked."""

    def best_classes(pictures: Pictures) -> list[list[int]]:
        filled = np.zeros((BATCH, *pictures.shape[1:]), np.float32)  # one size, because a network is compiled for each
        filled[: len(pictures)] = pictures
        scores = network.predict_on_batch(filled.transpose(0, 3, 2, 1) / np.float32(255))
        best: list[list[int]] = ops.convert_to_numpy(scores).argmax(2)[: len(pictures)].tolist()
        return best

    return best_classes
