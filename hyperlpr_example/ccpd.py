"""CCPD's file names: the plate's box and text are written in the name of the photograph."""

from __future__ import annotations

import re

_PROVINCES = "皖沪津渝冀晋蒙辽吉黑苏浙京闽赣鲁豫鄂湘粤桂琼川贵云藏陕甘青宁新警学O"
_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZO"
_CHARACTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ0123456789O"
# area - tilt - box - four corners - indexes of the characters - brightness - blurriness
_NAME = re.compile(r"\d+(?:-\d+_\d+)-(\d+)&(\d+)_(\d+)&(\d+)-(?:\d+&\d+_?){4}-(\d+(?:_\d+){6,7})-\d+-\d+")

Box = tuple[int, int, int, int]


def read_name(stem: str) -> tuple[str, Box] | None:
    """The plate text and its box (left, top, right, bottom) in the photograph; None when the name is not CCPD's.

    ValueError when it looks like CCPD's but an index is outside its table.
    """
    found = _NAME.fullmatch(stem)
    if found is None:
        return None
    left, top, right, bottom = (int(number) for number in found.groups()[:4])
    first, second, *rest = (int(number) for number in found[5].split("_"))
    try:
        text = _PROVINCES[first] + _LETTERS[second] + "".join(_CHARACTERS[index] for index in rest)
    except IndexError:
        raise ValueError(f"the character numbers {found[5]} are not all in CCPD's table") from None
    return text, (left, top, right, bottom)
