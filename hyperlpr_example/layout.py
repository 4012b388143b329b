"""What a plate says and where its characters stand: texts of every kind, cells by the standard GA 36 in millimetres."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hyperlpr_example.alphabet import DIGITS, LETTERS, PROVINCES

if TYPE_CHECKING:
    import numpy as np

HEIGHT_MM = 140
CELL_HEIGHT_MM = 90
_CELL_MM, _GAP_MM, _DOT_GAP_MM = 45, 12, 34
_GREEN_CELL_MM, _GREEN_GAP_MM, _GREEN_DOT_GAP_MM = 43, 9, 49
DOT_MM = 10
KINDS = {"blue": 0.5, "green": 0.2, "yellow": 0.15, "white": 0.08, "black": 0.07}  # and their shares
_ENDINGS = {"yellow": "学挂", "white": "警", "black": "港澳"}
_UNUSUAL: dict[str, tuple[str, ...]] = {"white": (*"军北南广沈兰成济海空", "民航"), "black": ("使",)}


@dataclass(frozen=True, slots=True)
class Layout:
    """Cells as (left, width) in mm, in the order of the text; the dot's centre, None where the plate has none."""

    width_mm: int
    cells: tuple[tuple[float, float], ...]
    dot_mm: float | None


def layout_of(text: str) -> Layout:
    """Where the 7 or 8 (green) characters of a plate stand; margins are equal on both sides."""
    green = len(text) == 8
    first = _CELL_MM
    rest, gap = (_GREEN_CELL_MM, _GREEN_GAP_MM) if green else (_CELL_MM, _GAP_MM)
    wide = _GREEN_DOT_GAP_MM if green else _DOT_GAP_MM
    width = 480 if green else 440
    used = first + gap + rest + wide + (len(text) - 2) * rest + (len(text) - 3) * gap
    left = (width - used) / 2
    cells = [(left, float(first)), (left + first + gap, float(rest))]
    start = left + first + gap + rest + wide
    cells += [(start + index * (rest + gap), float(rest)) for index in range(len(text) - 2)]
    return Layout(width, tuple(cells), None if green else start - wide / 2)


def draw_text(rng: np.random.Generator) -> tuple[str, str]:
    """A plate's kind (a key of ``KINDS``) and its text; all provinces are equally likely."""
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    head = _any(rng, PROVINCES) + _any(rng, LETTERS)
    if kind == "green":
        return kind, _green(head, rng)
    chance = rng.random()
    if kind == "blue" or chance < 0.4:
        return kind, head + _serial(rng, 5)
    if chance < 0.7 and kind in _UNUSUAL:
        return kind, _unusual(kind, rng)
    return kind, head + _serial(rng, 4) + _any(rng, _ENDINGS[kind])


def _unusual(kind: str, rng: np.random.Generator) -> str:
    """Plates without a province: the army's and civil aviation's (white), embassies' (black)."""
    start = _UNUSUAL[kind][int(rng.integers(len(_UNUSUAL[kind])))]
    if len(start) == 1 and kind == "white":
        return start + _any(rng, LETTERS) + _serial(rng, 5)
    return start + _some(rng, DIGITS, 7 - len(start))


def _green(head: str, rng: np.random.Generator) -> str:
    """Small electric cars carry D or F first, large ones last."""
    mark = _any(rng, "DF" if rng.random() < 0.8 else "ABCEGHJK")
    if rng.random() < 0.8:
        return head + mark + _serial(rng, 1) + _some(rng, DIGITS, 4)
    return head + _some(rng, DIGITS, 5) + mark


def _serial(rng: np.random.Generator, length: int) -> str:
    """Digits with up to two letters anywhere."""
    characters = list(_some(rng, DIGITS, length))
    for place in rng.permutation(length)[: int(rng.integers(0, 3))]:
        characters[place] = _any(rng, LETTERS)
    return "".join(characters)


def _some(rng: np.random.Generator, characters: str, length: int) -> str:
    return "".join(_any(rng, characters) for _ in range(length))


def _any(rng: np.random.Generator, characters: str) -> str:
    return characters[int(rng.integers(len(characters)))]
