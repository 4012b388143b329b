"""Packing files on their way to the store, for one session: measures, asks ``core.packing``, packs into a local file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core import packing
from supervisor.core.digest import algorithm_of
from supervisor.core.sharing import SHARED_SUFFIX
from supervisor.core.values import dataclass
from supervisor.engine import container

if TYPE_CHECKING:
    from pathlib import Path

    from supervisor.core.ports import Clock, Measured

FOLDER = ".packing"
SAMPLE_BLOCKS = 8


@dataclass(frozen=True, slots=True)
class Packed:
    """A packed copy of a staged file: where it lies, and what was read and written for it."""

    file: Path
    original: Measured
    packed: Measured


def available() -> bool:
    """Say whether zstd's package is here. It is nobody's duty to have it: without it files are sent as they are."""
    try:
        import zstandard  # noqa: F401  # only asked for
    except ImportError:
        return False
    return True


class Packer:
    """What a session has measured of its uploads, and what follows from it. Used on one lane."""

    def __init__(self, clock: Clock, policy: packing.Policy) -> None:
        self._clock, self._policy = clock, policy
        self._sent: list[packing.Sent] = []
        self._rate: float | None = None
        self._took_s = 0.0

    def begin(self, to_send_bytes: int) -> None:
        """Begin a publication of so many bytes, unpacked: decide whether packing comes into question."""
        self._took_s = 0.0
        rate = packing.upload_rate(self._sent, self._policy)
        limits = packing.upload_limits(to_send_bytes, rate, self._policy)
        self._rate = rate if limits and available() else None

    def proved(self, sent_bytes: int, seconds: float) -> None:
        """Remember how long a publication took from its beginning to the evidence."""
        sent = packing.Sent(sent_bytes, max(0.0, seconds - self._took_s))
        self._sent = [*self._sent, sent][-packing.REMEMBERED :]

    def pack(self, source: Path, promised: tuple[int, str]) -> Packed | None:
        """Return a packed copy of a file if sending that instead pays; it is the caller's to remove."""
        if self._rate is None or not source.name.endswith(SHARED_SUFFIX) or promised[0] < self._policy.bytes_min:
            return None
        began = self._clock.now()
        file = source.parent / FOLDER / f"{source.name}{container.SUFFIX}"
        packed = None
        try:
            if packing.pays(self._sample(source), self._rate, self._policy):
                file.parent.mkdir(exist_ok=True)
                packed = Packed(file, *container.pack(source, file, algorithm_of(promised[1])))
        except OSError:
            packed = None  # no room for the copy: it is sent as it is, and what else is wrong is seen then
        self._took_s += self._clock.now().since(began)
        if packed is None or packed.original.bytes < self._policy.ratio_min * packed.packed.bytes:
            file.unlink(missing_ok=True)
            return None
        return packed

    def _sample(self, source: Path) -> packing.Sample:
        every = container.blocks(source)
        chosen = every[:: max(1, len(every) // SAMPLE_BLOCKS)]
        began = self._clock.now()
        length = container.packed_bytes(source, chosen)
        return packing.Sample(sum(each.length for each in chosen), length, self._clock.now().since(began))
