"""The 83 characters of HyperLPR's plates in the published order, the blank after them, and reading the network's output."""

from __future__ import annotations

from itertools import pairwise

PROVINCES = "京沪津渝冀晋蒙辽吉黑苏浙皖闽赣鲁豫鄂湘粤桂琼川贵云藏陕甘青宁新"
DIGITS = "0123456789"
LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"  # no I and no O: a plate never carries them
SPECIALS = "港学使警澳挂军北南广沈兰成济海民航空"
CHARACTERS = PROVINCES + DIGITS + LETTERS + SPECIALS
BLANK = len(CHARACTERS)
CLASSES = BLANK + 1

_INDEX = {character: index for index, character in enumerate(CHARACTERS)}


def encode(text: str) -> list[int]:
    """The classes of a plate text; ValueError names the first character that no plate class has."""
    unknown = next((character for character in text if character not in _INDEX), None)
    if unknown is not None:
        raise ValueError(f"{unknown!r} is not among the {BLANK} plate characters")
    return [_INDEX[character] for character in text]


def decode(classes: list[int]) -> str:
    """The text of classes without blanks, the opposite of :func:`encode`."""
    return "".join(CHARACTERS[index] for index in classes)


def read_greedily(best: list[int], *, drop_first: int = 0) -> str:
    """The plate text of the best class of each output step: repeats merged, blanks removed (greedy CTC decoding).

    The published weights answer with noise in their first two steps: they need ``drop_first=2``.
    """
    steps = best[drop_first:]
    kept = [after for before, after in pairwise([BLANK, *steps]) if after not in (before, BLANK)]
    return decode(kept)
