"""Measures a store as a run uses it: the time until a file is written, and until it is confirmed."""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

from supervisor.core.frozen import dataclass
from supervisor.core.ports import NotConfirmed, StoreError
from supervisor.engine.upload.durability import CONFIRMATIONS_ON_A_DRIVE, confirmations_needed

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.core.ports import Clock, Store

SMALL_BYTES, LARGE_BYTES = 64_000, 8_000_000
POLL_EVERY_S = 0.25
SHORTEST_S = 0.001


@dataclass(frozen=True, slots=True)
class Probe:
    """Measurement of one file.

    ``safe_s``: from the first byte to the evidence, None if none came; ``why`` gives the reason.
    """

    bytes: int
    write_s: float
    safe_s: float | None = None
    evidence: str = ""
    why: str = ""
    possible: bool = True


@dataclass(frozen=True, slots=True)
class Measurement:
    """A small file and a large one. The large one is not written if the small one was never confirmed."""

    small: Probe
    large: Probe | None = None
    asked_every_s: float = 0.0

    def upload_s(self, count: float) -> float | None:
        """Return the time until a checkpoint of ``count`` bytes is safe; None if unknown.

        It counts files and manifest: the cost of any file, the cost of its bytes, and twice the check interval of a
        run.
        """
        if self.large is None or self.small.safe_s is None or self.large.safe_s is None:
            return None
        more_s = max(self.large.safe_s - self.small.safe_s, self.large.write_s, SHORTEST_S)
        bytes_s = count * more_s / (self.large.bytes - self.small.bytes)
        return bytes_s + 2 * (self.small.safe_s + CONFIRMATIONS_ON_A_DRIVE * self.asked_every_s)


def measure(store: Store, clock: Clock, pause: Callable[[float], object], timeout_s: float) -> Measurement:
    """Write, read back, confirm and remove two files. Raises StoreError.

    Evidence is checked more often than in a run, because its time is the result.

    Args:
        store: the store.
        clock: measures the time.
        pause: waits for seconds.
        timeout_s: longest wait for the evidence of both files together.
    """
    folder = f"doctor-{secrets.token_hex(4)}"
    until_s = clock.now().mono_s + timeout_s
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
    """The clock, the pause, and the deadline."""

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
    times, given = confirmations_needed(store), 0
    while True:
        try:
            evidence = store.evidence(path)
            given += 1
            if given == times:
                return Probe(length, write_s, waiting.clock.now().since(began), evidence)
        except NotConfirmed as error:
            if not error.possible or waiting.clock.now().mono_s >= waiting.until_s:
                return Probe(length, write_s, why=str(error), possible=error.possible)
            given = 0
        waiting.pause(POLL_EVERY_S)
