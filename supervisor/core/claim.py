"""Who may write: sessions claim growing epochs, and everybody can tell from a listing who outranks whom.

Mutual exclusion is impossible on a store without working locks; harmlessness is not: nobody writes into another's
folder, the choice is the same for every reader of the same listing, and the loser stops at its next look.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise
from operator import attrgetter
from typing import TYPE_CHECKING

from supervisor.core import fields
from supervisor.core.errors import UserError
from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable

FOLDER_CHARACTERS_MAX = 100  # of a session's name, and of what a drive adds to it
JUMP_MAX = 1_000_000  # more than any run has sessions
SESSION = f"e({fields.EPOCH})-({fields.WRITER})"
SESSION_FOLDER = re.compile(f"{SESSION}{fields.TWIN}")
_order = attrgetter("epoch", "writer")  # the order of Rank, compared in C: a run may have many thousand sessions


@dataclass(frozen=True, slots=True, order=True)
class Rank:
    """A session's place among all of the run; the highest may write."""

    epoch: int
    writer: str

    def __str__(self) -> str:
        return f"e{self.epoch:08d}-{self.writer}"


@dataclass(frozen=True, slots=True)
class Sighting:
    """What one listing shows of a session: how many names its folder has, its end if any, and whether it lives.

    ``alive`` is True or False where this machine can tell for certain (same boot, same process table), else None.
    ``asked``: how many asked it for a sign of life. ``answered``: how many of them its newest answer says it has seen.
    """

    rank: Rank
    signs: int = 0
    end: str = ""
    alive: bool | None = None
    asked: int = 0
    answered: int = 0


def rank_of(folder: str) -> Rank | None:
    """Return the rank that a session folder's name bears, or None for another name. Twins (``x (1)``) are accepted."""
    return _rank_of(folder) if len(folder) <= FOLDER_CHARACTERS_MAX else None  # a long name does not enter the cache


@lru_cache(maxsize=1 << 16)
def _rank_of(folder: str) -> Rank | None:
    match = SESSION_FOLDER.fullmatch(folder)
    return Rank(int(match[1]), match[2]) if match else None


def highest(names: Iterable[str]) -> Rank | None:
    """Return the highest rank in a listing of the run's folder."""
    return max(believed(names), key=_order, default=None)


def believed(names: Iterable[str]) -> set[Rank]:
    """Return the sessions in a listing of the run's folder, but for those that no session can have come to.

    Each session takes the number above the highest one, so that none is far above all others: such a folder, which anybody
    who may write into the store can make, would end every session from then on.
    """
    ranks = sorted(filter(None, map(rank_of, names)), key=_order)
    for before, rank in pairwise(ranks):
        if rank.epoch - before.epoch > JUMP_MAX:
            return {each for each in ranks if each.epoch <= before.epoch}
    return set(ranks)


def in_order(ranks: Iterable[Rank]) -> list[Rank]:
    """Return sessions, oldest first."""
    return sorted(ranks, key=_order)


def judge(names: Iterable[str], mine: Rank) -> Rank | None:
    """Return who outranks ``mine`` in this listing, or None while nobody does."""
    top = highest(names)
    return top if top is not None and top > mine else None


def next_epoch(names: Iterable[str]) -> int:
    """Return the epoch to claim: one above every epoch in any name seen, so that none is ever used again."""
    top = highest(names)
    if top is not None and top.epoch >= fields.EPOCHS_MAX:
        raise UserError(
            f"the run has a session folder {top}, whose number is the last that there is: no session can have made it",
            "remove that folder from the store and start again; the sessions before it stay as they are",
        )
    return 1 if top is None else top.epoch + 1


def may_succeed(sighting: Sighting | None, *, silent_s: float, silence_s: float) -> bool:
    """Say whether the run may be taken over without asking.

    It may when the last session ended, is known dead, or has shown no sign for ``silence_s`` as measured by our own
    clock. A session that is known to live but silent (a paused process) is silent all the same.
    """
    return sighting is None or bool(sighting.end) or sighting.alive is False or silent_s >= silence_s
