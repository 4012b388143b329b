"""The rows of the goodput benchmark: the same job under ours and under what others offer, over the same deaths of machines."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """``script`` lies in this folder; ``kept`` are the files on the drive, under its folder, that make a checkpoint of it.

    ``packages`` are installed on demand into a private environment called ``environment``; ``each`` is how many steps lie
    between saves: "epoch" as for everybody, or "own", the interval that our own formula picks for what was measured.
    """

    name: str
    script: str
    kept: str
    environment: str = ""
    packages: tuple[str, ...] = ()
    each: str = "epoch"
    reference: str = "torch"


LIGHTNING = ("lightning", ("lightning==2.6.6",))
TRANSFORMERS = ("transformers", ("transformers==5.23.0", "accelerate==1.15.0"))
TENSORFLOW = ("tensorflow", ("tensorflow-cpu==2.21.0", "keras==3.15.1"))
OURS = "supervisor"

TABLE = (
    Row(OURS, "train_supervised.py", "**/manifest-*.json", each="own"),
    Row("supervisor, each epoch", "train_supervised.py", "**/manifest-*.json"),
    Row("torch.save", "train_torch.py", "epoch-*.pt"),
    Row("Lightning ModelCheckpoint", "train_lightning.py", "*.ckpt", *LIGHTNING),
    Row("Keras BackupAndRestore", "train_keras.py", "latest.weights.h5", *TENSORFLOW, reference="keras"),
    Row("HF Trainer", "train_transformers.py", "checkpoint-*/trainer_state.json", *TRANSFORMERS),
)
