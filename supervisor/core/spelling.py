"""The known word that is nearest to one that is not known."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

NEAR = 0.7  # of difflib: "strat" is 0.8 of "start", "exprt" 0.91 of "export"


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the nearest known word, "" where none is near."""
    from difflib import get_close_matches

    found = get_close_matches(word.lower(), list(known), 1, NEAR)
    return found[0] if found else ""


def meant(word: str, known: Iterable[str]) -> str:
    """Return "did you mean X? " for the nearest known word, "" where none is near."""
    near = nearest(word, known)
    return f"did you mean {near}? " if near else ""
