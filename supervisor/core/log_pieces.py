"""What a manifest says of the pieces of the step log before it: which there are, and the digest that each has.

Retention removes manifests and never a piece, so each manifest carries the digests of the whole log up to it. In a manifest
that is one text for each session, ``<number>-<from>-<to>-<digest>`` for each of its pieces; a digest is cut to 64 bits behind
the first letter of its algorithm, because the enemy is damage, and there may be thousands of them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from supervisor.core.checkpoint import LOG_NAME
from supervisor.core.digest import SHA256, XXH3, algorithm_of
from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from supervisor.core.checkpoint import FileEntry, Manifest

NAME = LOG_NAME
HEX_DIGITS = 16
_TEXT = re.compile(r"([0-9]{1,9})-([0-9]{1,15})-([0-9]{1,15})-([sx][0-9a-f]{16})")
_ALGORITHMS = {"s": SHA256, "x": XXH3}


@dataclass(frozen=True, slots=True, order=True)
class Piece:
    """One piece of a session's log: its number, and the steps ``[from_step, to_step)`` whose rows it has."""

    number: int
    from_step: int
    to_step: int


Told = dict[str, dict[Piece, str]]  # by the session's folder: the short digest of each piece


def with_log(pieces: Mapping[str, str], log: FileEntry | None) -> Mapping[str, str]:
    """Return what a manifest says of the pieces when its own ``log`` comes to those before it."""
    found = None if log is None else NAME.fullmatch(log.name)
    if log is None or found is None:
        return pieces
    session = log.path.partition("/")[0]
    told = f"{int(found[1])}-{int(found[2])}-{int(found[3])}-{short(log.digest)}"
    before = [each for each in pieces.get(session, "").split() if not each.startswith(f"{int(found[1])}-")]
    return {**pieces, session: " ".join([*before, told])}


def complete(pieces: Mapping[str, str]) -> bool:
    """Say whether a manifest tells of all pieces of its sessions, from the first on."""
    return bool(pieces) and all(text.startswith("1-") for text in pieces.values())


def told_by(manifests: Iterable[Manifest]) -> Told:
    """Return the pieces that these manifests name, the newest of them first."""
    told: Told = {}
    for manifest in manifests:
        for session, text in with_log(manifest.pieces, manifest.log).items():
            known = told.setdefault(session, {})
            for found in map(_TEXT.fullmatch, text.split()):
                if found is not None:
                    known.setdefault(Piece(int(found[1]), int(found[2]), int(found[3])), found[4])
    return told


def short(digest: str) -> str:
    """Return a digest as it is told here."""
    return f"{algorithm_of(digest)[:1]}{digest.partition(':')[2][:HEX_DIGITS]}"


def algorithm(told: str) -> str:
    """Return the algorithm of a digest that is told here."""
    return _ALGORITHMS[told[:1]]
