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

from supervisor.core.errors import UserError
from supervisor.core.frozen import dataclass
from supervisor.core.wire import fields

if TYPE_CHECKING:
    from collections.abc import Iterable

FOLDER_CHARACTERS_MAX = 100  # of a session's name, and of what a drive adds to it
JUMP_MAX = 1_000_000  # more than any run has sessions
SESSION = f"e({fields.EPOCH})-({fields.WRITER})"
SESSION_FOLDER = re.compile(f"{SESSION}{fields.TWIN}")
_order = attrgetter(
    "generation", "writer"
)  # the order of SessionId, compared in C: a run may have many thousand sessions


@dataclass(frozen=True, slots=True, order=True)
class SessionId:
    """A session's place among all of the run; the highest may write."""

    generation: int
    writer: str

    def __str__(self) -> str:
        return f"e{self.generation:08d}-{self.writer}"


@dataclass(frozen=True, slots=True)
class SessionObservation:
    """What one listing shows of a session: how many names its folder has, its end if any, and whether it lives.

    ``alive`` is True or False where this machine can tell for certain (same boot, same process table), else None.
    ``asked``: how many asked it for a sign of life. ``answered``: how many of them its newest answer says it has seen.
    """

    session_id: SessionId
    file_count: int = 0
    end: str = ""
    alive: bool | None = None
    asked: int = 0
    answered: int = 0


def parse_session_id(folder: str) -> SessionId | None:
    """Return the rank that a session folder's name bears, or None for another name. Twins (``x (1)``) are accepted."""
    return _rank_of(folder) if len(folder) <= FOLDER_CHARACTERS_MAX else None  # a long name does not enter the cache


@lru_cache(maxsize=1 << 16)
def _rank_of(folder: str) -> SessionId | None:
    match = SESSION_FOLDER.fullmatch(folder)
    return SessionId(int(match[1]), match[2]) if match else None


def latest(names: Iterable[str]) -> SessionId | None:
    """Return the highest rank in a listing of the run's folder."""
    return max(plausible(names), key=_order, default=None)


def plausible(names: Iterable[str]) -> set[SessionId]:
    """Return the sessions in a listing of the run's folder, but for those that no session can have come to.

    Each session takes the number above the highest one, so that none is far above all others: such a folder, which anybody
    who may write into the store can make, would end every session from then on.
    """
    ranks = sorted(filter(None, map(parse_session_id, names)), key=_order)
    for before, rank in pairwise(ranks):
        if rank.generation - before.generation > JUMP_MAX:
            return {each for each in ranks if each.generation <= before.generation}
    return set(ranks)


def in_order(ranks: Iterable[SessionId]) -> list[SessionId]:
    """Return sessions, oldest first."""
    return sorted(ranks, key=_order)


def superseded_by(names: Iterable[str], mine: SessionId) -> SessionId | None:
    """Return who outranks ``mine`` in this listing, or None while nobody does."""
    top = latest(names)
    return top if top is not None and top > mine else None


def next_generation(names: Iterable[str]) -> int:
    """Return the epoch to claim: one above every epoch in any name seen, so that none is ever used again."""
    top = latest(names)
    if top is not None and top.generation >= fields.EPOCHS_MAX:
        raise UserError(
            f"the run has a session folder {top}, whose number is the last that there is: no session can have made it",
            "remove that folder from the store and start again; the sessions before it stay as they are",
        )
    return 1 if top is None else top.generation + 1


def may_take_over(sighting: SessionObservation | None, *, silent_s: float, silence_s: float) -> bool:
    """Say whether the run may be taken over without asking.

    It may when the last session ended, is known dead, or has shown no sign for ``silence_s`` as measured by our own
    clock. A session that is known to live but silent (a paused process) is silent all the same.
    """
    return sighting is None or bool(sighting.end) or sighting.alive is False or silent_s >= silence_s
