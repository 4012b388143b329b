"""How a duration and a place are said, everywhere the same."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Return a duration as people say it: "12 s", "4 min 10 s", "3 h 20 min", "2 d 4 h"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if minutes < 60:
        return f"{minutes} min" if minutes >= 10 or whole % 60 == 0 else f"{minutes} min {whole % 60} s"
    if hours < 48:
        return f"{hours} h {minutes % 60} min"
    return f"{days} d {hours % 24} h"


def at(place: str) -> str:
    """Return where something is: "in Drive", "on your computer"."""
    return f"{'on' if place.startswith('your ') else 'in'} {place}"
