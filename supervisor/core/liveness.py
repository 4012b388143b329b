"""Is the trainer well: time-outs per section, learned from the run (the longest stay seen, times five)."""

from __future__ import annotations

import dataclasses
from dataclasses import field
from typing import TYPE_CHECKING

from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

FACTOR = 5.0
LEARNED_FLOOR_S = 60.0
UNKNOWN_S = {"start": 1800.0, "restore": 1800.0, "step": 1800.0, "save": 1800.0, "eval": 3600.0}
LEARNED_STEPS = 10
AFTER = "after"  # what the script does when its loop is over: nothing it did before says how long that takes


@dataclass(frozen=True, slots=True)
class Policy:
    """``floor_s`` bounds learned time-outs from below; ``fixed_s`` replaces them all; ``enabled`` False never judges."""

    floor_s: float = LEARNED_FLOOR_S
    fixed_s: float | None = None
    enabled: bool = True


@dataclasses.dataclass(frozen=True, slots=True)  # made all the time, so its own methods pay
class Vitals:
    """What the last beats said: steps done, the section, since when nothing moved, the longest stay in each section."""

    section: str = "start"
    moved_at_s: float = 0.0
    steps_seen: int = 0
    longest_s: Mapping[str, float] = field(default_factory=dict)


def judge(vitals: Vitals, policy: Policy, now_s: float) -> bool:
    """Return True when the trainer hangs."""
    return policy.enabled and now_s >= hangs_at(vitals, policy)


def hangs_at(vitals: Vitals, policy: Policy) -> float:
    """Return the time (monotonic seconds) from which, without a sign of life, the trainer is taken to hang."""
    return vitals.moved_at_s + time_out(vitals, policy)


def shortest(policy: Policy) -> float:
    """Return the shortest time-out, in seconds, that any section may have."""
    return min(policy.floor_s, UNKNOWN_S["step"]) if policy.fixed_s is None else policy.fixed_s


def time_out(vitals: Vitals, policy: Policy) -> float:
    """Return how long the current section may last, in seconds.

    The first steps of an attempt compile and warm up, so that a learned value counts only after ten steps.
    """
    if policy.fixed_s is not None:
        return policy.fixed_s
    unknown_s = UNKNOWN_S.get(vitals.section, UNKNOWN_S["eval"])
    longest_s = vitals.longest_s.get(vitals.section)
    if longest_s is None or vitals.steps_seen < LEARNED_STEPS:
        return unknown_s
    return max(unknown_s if vitals.section == AFTER else policy.floor_s, FACTOR * longest_s)
