"""Data that stands in for what the public scripts would download: small, drawn from a seed, in the layouts that they read."""

from __future__ import annotations

import csv
import pickle
import shutil
import struct
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PLATES = Path(__file__).resolve().parents[3] / "shared" / "data" / "plates-dev"
TRAIN, TEST = 960, 240


def mnist(folder: Path) -> None:
    """Write MNIST's four idx files below ``folder``/MNIST/raw: a bright square, whose place tells the digit."""
    import numpy as np

    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    chance = np.random.default_rng(0)
    for prefix, count in (("train", TRAIN), ("t10k", TEST)):
        labels = chance.integers(0, 10, count, dtype=np.uint8)
        images = chance.integers(0, 60, (count, 28, 28), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            row, column = divmod(int(label), 4)
            image[2 + 8 * row : 10 + 8 * row, 2 + 6 * column : 8 + 6 * column] += 180
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 2051, count, 28, 28) + images.tobytes())
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, count) + labels.tobytes())


def image_folder(folder: Path) -> None:
    """Write two classes of noise pictures for training and validation, as ImageFolder reads them."""
    _pictures(folder, ("train/a", "train/b", "val/a", "val/b"), 24, (224, 224))


def unet(folder: Path) -> None:
    """Write pictures and masks of the same names."""
    import numpy as np
    from PIL import Image

    _pictures(folder, ("imgs",), 40, (32, 32))
    masks = folder / "masks"
    masks.mkdir(parents=True, exist_ok=True)
    for path in sorted((folder / "imgs").glob("*.png")):  # a checkout has a .keep there
        mask = (np.asarray(Image.open(path).convert("L")) > 128).astype(np.uint8)
        Image.fromarray(mask).save(masks / f"{path.stem}_mask.gif")


def characters(folder: Path) -> None:
    """Write nanoGPT's binary tokens and its alphabet."""
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    alphabet = sorted(set(_text()))
    number = {letter: index for index, letter in enumerate(alphabet)}
    tokens = np.array([number[letter] for letter in _text() * 40], dtype=np.uint16)
    tokens.tofile(folder / "train.bin")
    tokens[:4000].tofile(folder / "val.bin")
    meta = {"vocab_size": len(alphabet), "itos": dict(enumerate(alphabet)), "stoi": number}
    (folder / "meta.pkl").write_bytes(pickle.dumps(meta))


def input_text(folder: Path) -> None:
    """Write input.txt."""
    (folder / "input.txt").write_text(_text() * 40, encoding="utf-8")


def words(folder: Path) -> None:
    """Write train.txt, which a checkout lacks, and shorten the two texts that are there."""
    source = folder / "valid.txt"
    lines = source.read_text("utf-8").splitlines(keepends=True) if source.is_file() else [_text() + "\n"] * 40
    for name in ("train.txt", "valid.txt", "test.txt"):
        (folder / name).write_text("".join(lines[:120]), encoding="utf-8")


def sines(folder: Path) -> None:
    """Write the sine waves of time_sequence_prediction/generate_sine_wave.py as plain lists in a pickle that torch reads."""
    import numpy as np
    import torch

    places = np.array(range(200))[None, :] + np.arange(20)[:, None]
    torch.save(np.sin(places / 20.0).astype("float64"), folder / "traindata.pt")


def plates(folder: Path) -> None:
    """Copy real plate crops, named by their label as LPRNet reads them; skipped with a reason where they are not there."""
    with (PLATES / "labels.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[:400]
    for part, chosen in (("train", rows[:300]), ("test", rows[300:])):
        (folder / part).mkdir(parents=True, exist_ok=True)
        for row in chosen:
            name, label = row["file"], row["text"]
            source = PLATES / "images" / Path(name).name
            shutil.copy(source, folder / part / f"{label}{source.suffix}")


def _pictures(folder: Path, classes: tuple[str, ...], count: int, size: tuple[int, int]) -> None:
    import numpy as np
    from PIL import Image

    chance = np.random.default_rng(0)
    for each in classes:
        (folder / each).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = chance.integers(0, 255, (*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / each / f"{number:03d}.png")


def _text() -> str:
    return "the quick brown fox jumps over the lazy dog. pack my box with five dozen liquor jugs! " * 12


MAKERS: dict[str, Callable[[Path], None]] = {
    made.__name__: made for made in (mnist, image_folder, unet, characters, input_text, words, sines, plates)
}
