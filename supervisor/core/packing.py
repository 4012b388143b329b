"""Whether to pack a file before it is sent: only where the upload is measured to be what saving waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

REMEMBERED = 3


@dataclass(frozen=True, slots=True)
class Policy:
    """When packing is worth it.

    ``bytes_min``: what is smaller measures nothing and saves nothing. ``upload_s_min``: below it nobody waits for the
    upload. ``gain``: the upload must get shorter by this many times what packing takes, because packing also takes a
    core from the training and the measures vary. ``ratio_min``: for less, a file that plain `safetensors` opens is worth
    more than its bytes.
    """

    bytes_min: int = 1_000_000
    upload_s_min: float = 5.0
    gain: float = 2.0
    ratio_min: float = 1.05


@dataclass(frozen=True, slots=True)
class Sent:
    """A publication that was proved: the bytes that went to the store, and how long that took without any packing."""

    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Sample:
    """A part of the very file in question, packed once to measure what it gives and takes."""

    bytes: int
    packed_bytes: int
    seconds: float


def upload_rate(sent: Sequence[Sent], policy: Policy) -> float | None:
    """Return bytes per second over the newest publications that sent enough to tell, or None while none did."""
    telling = [each for each in sent if each.bytes >= policy.bytes_min][-REMEMBERED:]
    seconds = sum(each.seconds for each in telling)
    return sum(each.bytes for each in telling) / seconds if seconds > 0 else None


def upload_limits(to_send_bytes: int, rate: float | None, policy: Policy) -> bool:
    """Say whether sending this much unpacked takes so long that saves wait for it. Unknown is no."""
    return rate is not None and to_send_bytes / rate >= policy.upload_s_min


def pays(sample: Sample, rate: float, policy: Policy) -> bool:
    """Say whether the upload gets shorter by clearly more than the packing takes."""
    if sample.bytes < policy.ratio_min * sample.packed_bytes:
        return False
    return (sample.bytes - sample.packed_bytes) / rate > policy.gain * sample.seconds
