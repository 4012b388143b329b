"""Our row against the limits and the best peer of the same run, and whether each is as good as it must be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Found = Mapping[str, Any]

OURS = "supervisor"
OVERLAPPED = "supervisor.overlapped"
EXTRA_BYTES_MAX = 64 * 1024 * 1024
STALL_SMALL_S = 0.0015


class Ratio(NamedTuple):
    """``value`` must be at most ``limit`` (below it where ``strict``); a value of None means there is nothing to compare with."""

    what: str
    value: float | None
    limit: float
    against: str
    strict: bool = False

    @property
    def verdict(self) -> str:
        """Say in a word how it went."""
        if self.value is None:
            return "nothing to compare with"
        met = self.value < self.limit if self.strict else self.value <= self.limit
        return "met" if met else "MISSED"


def ratios(size: str, limits: Found, rows: Iterable[Found]) -> list[Ratio]:
    """Return what must be shown for a size; empty when our own row could not be measured."""
    measured = {row["engine"]: row for row in rows if "error" not in row}
    ours = measured.get(OURS)
    if ours is None or not limits:
        return []
    if size == "small":
        return _small(ours, limits)
    overlapped = measured.get(OVERLAPPED, {})
    beside = Ratio("stall beside forward and backward / memcpy", None, 1.0, "limit", strict=True)
    if overlapped:
        beside = beside._replace(value=overlapped["stall_s"] / limits["memcpy_s"])
    peers = [row for name, row in measured.items() if not name.startswith((OURS, "limit."))]
    return [*_to_limits(ours, limits), beside, *_to_peers(ours, peers, limits)]


def _small(ours: Found, limits: Found) -> list[Ratio]:
    return [
        Ratio("stall, s", ours["stall_s"], STALL_SMALL_S, "1.5 ms", strict=True),
        Ratio("durable / raw write + fsync", ours["durable_s"] / limits["raw_write_fsync_s"], 1.5, "limit"),
    ]


def _to_limits(ours: Found, limits: Found) -> list[Ratio]:
    more_bytes = ours["extra_bytes"] - ours["state_bytes"]
    return [
        Ratio("stall / memcpy", ours["stall_s"] / limits["memcpy_s"], 1.2, "limit"),
        Ratio("lost (dispatch) / memcpy", ours["lost_dispatch_s"] / limits["memcpy_s"], 2.0, "limit"),
        Ratio("lost (matmul) / memcpy", ours["lost_matmul_s"] / limits["memcpy_s"], 2.0, "limit"),
        Ratio("durable / raw write + fsync", ours["durable_s"] / limits["raw_write_fsync_s"], 1.1, "limit"),
        Ratio("cold restore / raw cold read", ours["restore_cold_s"] / limits["raw_read_s"], 1.15, "limit"),
        Ratio("warm restore / memcpy", ours["restore_warm_s"] / limits["memcpy_s"], 1.3, "limit"),
        Ratio("extra memory less one state / 64 MB", more_bytes / EXTRA_BYTES_MAX, 1.0, "limit"),
    ]


def _to_peers(ours: Found, peers: list[Found], limits: Found) -> list[Ratio]:
    whole = [row for row in peers if copies_whole(row, limits)]
    flushed = [row for row in whole if row.get("fsyncs")]
    return [
        _to_best("lost / best peer's, full and flushed", "lost_s", ours, flushed, 0.6),
        _to_best("lost / best peer's, full copy, flushed or not", "lost_s", ours, whole, 1.0),
        _to_best("durable / best peer's", "durable_s", ours, peers, 1.0),
        _to_best("cold restore / best peer's", "restore_cold_s", ours, peers, 1.0),
        _to_best("warm restore / best peer's", "restore_warm_s", ours, peers, 1.0),
    ]


def copies_whole(row: Found, limits: Found) -> bool:
    """Say whether the state is copied during the stall, and not page by page when the next update changes it."""
    return bool(row["put_off_s"] <= row["stall_s"] + limits["memcpy_s"])


def _to_best(what: str, key: str, ours: Found, peers: list[Found], limit: float) -> Ratio:
    strict = limit == 1.0
    if not peers:
        return Ratio(what, None, limit, "no peer", strict=strict)
    best = min(peers, key=lambda row: row[key])
    return Ratio(what, ours[key] / best[key] if best[key] > 0 else None, limit, best["engine"], strict=strict)
