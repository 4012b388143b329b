"""How well plates are read: whole plates, characters, and everything but the province."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Shares in 0..1 over ``plates`` plates; all zero when there was none."""

    plates: int
    exact: float
    characters: float  # 1 - edit distance / length of the true texts, never below 0
    last_six: float  # everything after the province: six characters, seven on green plates

    def __str__(self) -> str:
        return (
            f"exact {self.exact:.1%}  characters {self.characters:.1%}  last six {self.last_six:.1%}"
            f"  ({self.plates} plates)"
        ).replace("%", " %")


def measure(read: Sequence[str], true: Sequence[str]) -> Accuracy:
    """Compare texts that were read with the true ones, in the same order."""
    pairs = list(zip(read, true, strict=True))
    if not pairs:
        return Accuracy(0, 0.0, 0.0, 0.0)
    wrong = sum(edit_distance(one, other) for one, other in pairs)
    length = sum(len(text) for text in true)
    return Accuracy(
        plates=len(pairs),
        exact=sum(one == other for one, other in pairs) / len(pairs),
        characters=max(0.0, 1.0 - wrong / length),
        last_six=sum(one[1:] == other[1:] for one, other in pairs) / len(pairs),
    )


def edit_distance(one: str, other: str) -> int:
    """Levenshtein distance: the fewest insertions, removals and replacements."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return row[-1]
