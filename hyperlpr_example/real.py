"""Real plates from a folder: labels.csv, or plate texts in file names, or CCPD's names; split by plate text."""

from __future__ import annotations

import csv
import hashlib
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from hyperlpr_example import ccpd
from hyperlpr_example.alphabet import DIGITS, LETTERS, PROVINCES, SPECIALS, encode
from hyperlpr_example.plates import PLATE_HEIGHT, PLATE_WIDTH, LabelledPlates
from supervisor.core.errors import SetupError

HELD_OUT_SHARE = 0.2
_SPLIT_SEED = 20240607
_LENGTHS = (7, 8)
_PICTURES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
_PLATE_IN_NAME = re.compile(
    rf"[{PROVINCES}{SPECIALS}][{DIGITS}{LETTERS}航][{DIGITS}{LETTERS}]{{4,5}}[{DIGITS}{LETTERS}{SPECIALS}]"
)


@dataclass(frozen=True, slots=True)
class RealPlates(LabelledPlates):
    """Plates of a folder with their file names; ``bad`` names every file left out, and why."""

    files: list[str]
    bad: list[tuple[str, str]]

    def part(self, *, held_out: bool) -> RealPlates:
        """The plates to be judged by, or those to learn from, with no plate text in both; SetupError when there are none."""
        kept = [index for index, text in enumerate(self.texts) if is_held_out(text) == held_out]
        if not kept:
            purpose = "to be judged by" if held_out else "to learn from"
            raise SetupError(
                f"none of the {len(self.texts)} plates is left {purpose}: a fixed fifth of all plate texts is held out",
                hint="give more plates (20 or more), or judge all of them: --split all",
            )
        return RealPlates(
            self.pictures[kept], [self.texts[index] for index in kept], [self.files[index] for index in kept], self.bad
        )


def read_folder(folder: Path) -> RealPlates:
    """All plates of a folder in the order of its labels or names; SetupError when there is no readable plate."""
    pictures, texts, files, bad = [], [], [], []
    for name, text in _labelled(folder):
        try:
            label, box = (text, None) if text is not None else _text_in_name(Path(name).stem)
            _refuse_impossible(label)
            pictures.append(_picture(folder / name, box))
        except (OSError, ValueError) as error:
            bad.append((name, str(error) or type(error).__name__))
        else:
            texts.append(label)
            files.append(name)
    if not pictures:
        raise SetupError(
            f"no readable plate in {folder}" + (f" ({bad[0][0]}: {bad[0][1]})" if bad else ""),
            hint="give pictures with a labels.csv (file,text), or plate texts or CCPD names as file names",
        )
    return RealPlates(np.stack(pictures), texts, files, bad)


def is_held_out(text: str) -> bool:
    """Whether a plate text is kept for judging: a fixed fifth of all texts, whatever else the folder holds."""
    digest = hashlib.sha256(f"{_SPLIT_SEED}:{text}".encode()).digest()
    return int.from_bytes(digest[:8]) < HELD_OUT_SHARE * 2**64


def fitted(picture: Image.Image) -> npt.NDArray[np.uint8]:
    """A plate crop of any size as the network's (3, 40, 160) in BGR; not rectified, only stretched."""
    sized = picture.convert("RGB").resize((PLATE_WIDTH, PLATE_HEIGHT), Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(sized)[:, :, ::-1].transpose(2, 0, 1))


def _labelled(folder: Path) -> list[tuple[str, str | None]]:
    """File names relative to the folder, with the text where labels.csv gives one."""
    if not folder.is_dir():
        raise SetupError(f"there is no folder {folder}", hint="name a folder of plate pictures")
    labels = folder / "labels.csv"
    if not labels.is_file():
        found = (path for path in folder.rglob("*") if path.suffix.lower() in _PICTURES)
        return [(path.relative_to(folder).as_posix(), None) for path in sorted(found)]
    with labels.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    if rows and not {"file", "text"} <= rows[0].keys():
        raise SetupError(f"{labels} has no columns file,text", hint="its first line must be: file,text")
    return [(row["file"], unicodedata.normalize("NFC", (row["text"] or "").strip())) for row in rows]


def _text_in_name(stem: str) -> tuple[str, ccpd.Box | None]:
    stem = unicodedata.normalize("NFC", stem)
    named = ccpd.read_name(stem)
    if named is not None:
        return named
    found = _PLATE_IN_NAME.search(stem.replace("·", "").upper())
    if found is None:
        raise ValueError("no plate text in the file name")
    return found[0], None


def _refuse_impossible(text: str) -> None:
    encode(text)
    if len(text) not in _LENGTHS:
        raise ValueError(f"{text!r} has {len(text)} characters, a plate has 7, or 8 if green")


def _picture(path: Path, box: ccpd.Box | None) -> npt.NDArray[np.uint8]:
    with Image.open(path) as picture:
        whole = box is None or box[2] > picture.width or box[3] > picture.height
        return fitted(picture if whole or box is None else picture.crop(box))
