"""Columns of text, numbers to the right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.shown import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence


def rows(
    heads: Sequence[str], body: Iterable[Sequence[str]], paint: Mapping[int, Callable[[str], str]] | None = None
) -> list[str]:
    """Return the lines of a table. ``paint``: how the cells of a column, below its head, get their colours."""
    table = [tuple(map(shown, row)) for row in (heads, *body)]
    widths = [max(len(row[column]) for row in table) for column in range(len(heads))]
    right = [all(_is_number(row[column]) for row in table[1:]) for column in range(len(heads))]
    lines = [[_padded(*each) for each in zip(row, widths, right, strict=True)] for row in table]
    for column, painted in (paint or {}).items():
        for cells in lines[1:]:
            cells[column] = painted(cells[column])
    return ["  ".join(cells).rstrip() for cells in lines]


def _padded(text: str, width: int, right: bool) -> str:
    return text.rjust(width) if right else text.ljust(width)


def _is_number(text: str) -> bool:
    return not text or text[0].isdigit() or (text[0] == "-" and text[1:2].isdigit())
