"""The known word that is nearest to one that is not known."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

NEAR = 0.7  # of difflib: "strat" is 0.8 of "start", "exprt" 0.91 of "export"
NEAR_OPTION = 0.75  # without the dashes: "sotre" is 0.8 of "store", "steps" 0.6 of it, "batch" 0.73 of "attach"


def nearest_option(wrong: str, options: Iterable[str]) -> tuple[str, float]:
    """Return the nearest of some options, and how near it is; ("", 0) where none is near.

    Dashes count for nothing. The first letter is the same: ``--batch`` is another word than ``--watch``.
    """
    from difflib import SequenceMatcher

    def bare(option: str) -> str:
        return option.lower().lstrip("-").replace("_", "-")

    known = [
        (SequenceMatcher(None, bare(wrong), bare(option)).ratio(), option)
        for option in options
        if bare(option)[:1] == bare(wrong)[:1]
    ]
    ratio, found = max(known, default=(0.0, ""), key=lambda each: each[0])
    return (found, ratio) if ratio >= NEAR_OPTION else ("", 0.0)


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the nearest known word, "" where none is near."""
    from difflib import get_close_matches

    found = get_close_matches(word.lower(), list(known), 1, NEAR)
    return found[0] if found else ""


def meant(word: str, known: Iterable[str]) -> str:
    """Return "did you mean X? " for the nearest known word, "" where none is near."""
    near = nearest(word, known)
    return f"did you mean {near}? " if near else ""
