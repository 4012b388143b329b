"""What a check of this machine found: one line, and what to do about it."""

from __future__ import annotations

from typing import Literal

from supervisor.core.values import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """``level`` "problem" means that no run can live here until something is done."""

    about: str
    level: Literal["ok", "warning", "problem"]
    words: str
    hint: str = ""
