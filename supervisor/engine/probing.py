"""Measures a store the way a run uses it: how long a file takes until it is written, and until it is proved safe."""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

from supervisor.core.ports import StoreError, Unconfirmed
from supervisor.core.values import dataclass
from supervisor.engine.proof import TIMES_LATER, times_needed

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.core.ports import Clock, Store

SMALL_BYTES, LARGE_BYTES = 64_000, 8_000_000
LOOK_EVERY_S = 0.25
SHORTEST_S = 0.001


@dataclass(frozen=True, slots=True)
class Probe:
    """One file's way: ``safe_s`` from the first byte to the evidence, None if none came; ``why`` not."""

    bytes: int
    write_s: float
    safe_s: float | None = None
    evidence: str = ""
    why: str = ""
    possible: bool = True


@dataclass(frozen=True, slots=True)
class Measurement:
    """A small file and a large one; the large one is not written where the small one was never proved."""

    small: Probe
    large: Probe | None = None
    asked_every_s: float = 0.0

    def upload_s(self, count: float) -> float | None:
        """Return how long a checkpoint of so many bytes takes until it is safe; None if nobody knows.

        Its files and then its manifest: what any file takes, what its bytes add, and twice the asking that a run does.
        """
        if self.large is None or self.small.safe_s is None or self.large.safe_s is None:
            return None
        more_s = max(self.large.safe_s - self.small.safe_s, self.large.write_s, SHORTEST_S)
        bytes_s = count * more_s / (self.large.bytes - self.small.bytes)
        return bytes_s + 2 * (self.small.safe_s + TIMES_LATER * self.asked_every_s)


def measure(store: Store, clock: Clock, pause: Callable[[float], object], patience_s: float) -> Measurement:
    """Write, read back, prove and remove two files; what they left is removed. Raises StoreError.

    ``patience_s``: how long the evidence is waited for, for both together. It is asked for more often than in a run, because
    here its time is what matters.
    """
    folder = f"doctor-{secrets.token_hex(4)}"
    until_s = clock.now().mono_s + patience_s
    made: list[str] = []

    def probe(length: int) -> Probe:
        path = f"{folder}/probe-{length}"
        made.append(path)
        return _probe(store, path, length, Waiting(clock, pause, until_s))

    try:
        small = probe(SMALL_BYTES)
        large = probe(LARGE_BYTES) if small.safe_s is not None else None
        return Measurement(small, large, store.traits.confirm_every_s)
    except StoreError as error:
        if error.kind in {"gone", "hung"}:
            made.clear()  # each further call would wait as long again, for nothing
        raise
    finally:
        with suppress(StoreError):
            for path in [*made, folder] if made else ():
                store.delete(path)


@dataclass(frozen=True, slots=True)
class Waiting:
    """The clock, how to wait, and until when."""

    clock: Clock
    pause: Callable[[float], object]
    until_s: float


def _probe(store: Store, path: str, length: int, waiting: Waiting) -> Probe:
    body = secrets.token_bytes(length)
    began = waiting.clock.now()
    store.create(path, body)
    write_s = waiting.clock.now().since(began)
    if store.read(path) != body:
        raise StoreError("a file reads back differently from what was written", "lied")
    times, given = times_needed(store), 0
    while True:
        try:
            evidence = store.evidence(path)
            given += 1
            if given == times:
                return Probe(length, write_s, waiting.clock.now().since(began), evidence)
        except Unconfirmed as error:
            if not error.possible or waiting.clock.now().mono_s >= waiting.until_s:
                return Probe(length, write_s, why=str(error), possible=error.possible)
            given = 0
        waiting.pause(LOOK_EVERY_S)
