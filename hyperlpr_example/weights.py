"""Networks ready to read plates: from a checkpoint of a run of either trainer, or with the published weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hyperlpr_example.checkpoints import PUBLISHED, is_keras, newest_in
from hyperlpr_example.in_keras.backend import choose_backend
from hyperlpr_example.published import DROP_FIRST
from supervisor.core.errors import UserError

if TYPE_CHECKING:
    from hyperlpr_example.reading import BestClasses


class Reader(NamedTuple):
    """What a network reads, and how many of its first output steps are to be dropped."""

    best_classes: BestClasses
    drop_first: int
    described: str


def load_reader(checkpoint: str, *, device: str = "cpu", threads: int = 1) -> Reader:
    """The network of a checkpoint folder, of the newest one in a folder of them, or the published one by that word.

    It is in the framework that made the checkpoint. UserError says when there is no such checkpoint, when it is damaged, or
    not one of this network.
    """
    if checkpoint == PUBLISHED:
        from hyperlpr_example.in_torch import weights as in_torch

        return Reader(in_torch.published(device, threads), DROP_FIRST, "HyperLPR's published weights")
    path = newest_in(Path(checkpoint))
    if is_keras(path):
        choose_backend()
        from hyperlpr_example.in_keras.weights import reader_from
    else:
        from hyperlpr_example.in_torch.weights import reader_from
    try:
        return Reader(reader_from(path, device, threads), 0, str(path))
    except (KeyError, AttributeError, RuntimeError, ValueError) as error:
        raise UserError(
            f"{path} is not a checkpoint of the plate recogniser: {str(error).splitlines()[0]}",
            hint="name a checkpoint that trainers/hyperlpr.py or trainers/hyperlpr_keras.py made",
        ) from error
