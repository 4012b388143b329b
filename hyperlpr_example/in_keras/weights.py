"""Keras networks ready to read plates."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from keras import ops

from hyperlpr_example.in_keras import devices
from hyperlpr_example.in_keras.network import segmentation_free
from hyperlpr_example.in_keras.reading import reader_of
from supervisor.trainer import folder

if TYPE_CHECKING:
    from pathlib import Path

    from hyperlpr_example.reading import BestClasses


def reader_from(checkpoint: Path, device: str, threads: int) -> BestClasses:
    """What the network of a checkpoint reads; KeyError or ValueError if it holds another."""
    devices.prepare(argparse.Namespace(device=device, threads=threads, seed=0))
    weights = folder.read(checkpoint)["model"]
    network = segmentation_free(weights["stem.0/bias"].shape[0] / 32)
    for variable in network.variables:
        variable.assign(ops.convert_to_numpy(weights[variable.path]))
    return reader_of(network)
