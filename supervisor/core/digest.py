"""Digests of files. A digest names its algorithm, ``xxh3-128:<hex>`` or ``sha256:<hex>``, so that each is checked as it was made.

The enemy is damage, not a forger: 128 bits miss a damage once in 3e38. XXH3 runs at the speed of memory, which is what lets a
restore verify every byte for nothing (``python -m benchmarks.digests``); sha256, in the standard library, where xxhash is absent.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Protocol

from supervisor.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

    Bytes = bytes | bytearray | memoryview

XXH3 = "xxh3-128"
SHA256 = "sha256"
KNOWN = frozenset({XXH3, SHA256})


class _Hasher(Protocol):
    def update(self, chunk: Bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


class Digest:
    """Takes bytes in any slices; ``str()`` is the digest so far. UserError if the algorithm cannot be had here."""

    def __init__(self, algorithm: str) -> None:
        self._algorithm = algorithm
        self._hasher = _hasher(algorithm)
        self.update = self._hasher.update

    def __str__(self) -> str:
        return f"{self._algorithm}:{self._hasher.hexdigest()}"


def preferred() -> str:
    """Return the algorithm for new digests: the fast one where its package is there."""
    try:
        import xxhash  # noqa: F401  # only asked for
    except ImportError:
        return SHA256
    return XXH3


def algorithm_of(digest: str) -> str:
    """Return the algorithm that a digest names."""
    return digest.partition(":")[0]


def not_known(digests: Iterable[str]) -> str:
    """Return the first algorithm that these digests name and this version does not know; "" if it knows all of them.

    A text that names none is no digest at all, which is left to the comparison to find.
    """
    named = (algorithm_of(each) for each in digests if ":" in each)
    return next((each for each in named if each not in KNOWN), "")


def digest_of(chunks: Iterable[Bytes], algorithm: str) -> str:
    """Return the digest of all chunks one after the other."""
    digest = Digest(algorithm)
    for chunk in chunks:
        digest.update(chunk)
    return str(digest)


def _hasher(algorithm: str) -> _Hasher:
    if algorithm == SHA256:
        return hashlib.sha256()
    if algorithm == XXH3:
        try:
            import xxhash
        except ImportError as error:
            raise UserError(
                f"the checkpoint's digests are {XXH3}: {error}", "pip install xxhash, and try again"
            ) from error
        return xxhash.xxh3_128()
    raise UserError(
        f"the checkpoint's digests are {algorithm!r}, which this version does not know", "update training-supervisor"
    )
