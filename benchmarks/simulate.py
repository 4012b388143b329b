"""The supervisor in virtual time: twelve-hour sessions timed, and hostile hours lived through; prints JSON.

python -m benchmarks.simulate [--hours 10000] [--seed 1] [--store folder|drive|both]      0 when no invariant was broken
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from supervisor.bootstrap import private_folder
from supervisor.trainer.own_packages import make_xxhash_importable
from tests.simulation.hostile import Report, live_through
from tests.simulation.twelve_hours import Day

if TYPE_CHECKING:
    from collections.abc import Callable

DAYS: dict[str, Callable[[], Day]] = {
    "hard deadline": lambda: Day(hard=True),
    "soft deadline": lambda: Day(hard=False),
    "taken over after 10 h": lambda: Day(hard=True, taken_over_at_s=36000.0),
}
STORES = {"folder": False, "drive": True, "both": None}
REPEATS = 9


def main() -> int:
    """Time the long sessions, then live through hostile hours; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=10000.0, help="hostile hours to live through (default 10000)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the first history (default 1)")
    parser.add_argument(
        "--store", choices=list(STORES), default="both", help="in a folder, on a drive, or half of each"
    )
    options = parser.parse_args()
    make_xxhash_importable(str(private_folder() or ""))
    print(json.dumps({"twelve_hours": {name: _timed(day) for name, day in DAYS.items()}}), flush=True)
    began = time.perf_counter()
    report = Report()
    try:
        for report in live_through(options.hours, options.seed, drive=STORES[options.store]):
            if sys.stderr.isatty():
                print(f"\r{report.hours:.0f} of {options.hours:.0f} hours", end="", file=sys.stderr, flush=True)
    except AssertionError as violation:
        print(json.dumps({"hostile_hours": round(report.hours), "violations": 1, "first": str(violation)}))
        return 1
    seconds = time.perf_counter() - began
    print(json.dumps({"hostile_hours": _counted(report, seconds)}))
    return 0


def _timed(day: Callable[[], Day]) -> dict[str, Any]:
    """Return the processor time of the fastest of some repeats: what else the machine does only ever adds."""
    seconds, lived = min((_live(day) for _ in range(REPEATS)), key=lambda timed: timed[0])
    return {
        "cpu_ms": round(1000 * seconds, 1),
        "events": lived.events,
        "saves": lived.saves,
        "end": lived.session.phase,
    }


def _live(day: Callable[[], Day]) -> tuple[float, Day]:
    began = time.process_time()
    lived = day().live()
    return time.process_time() - began, lived


def _counted(report: Report, seconds: float) -> dict[str, Any]:
    return {
        "hours": round(report.hours),
        "violations": 0,
        "hours_per_s": round(report.hours / seconds, 1),
        "machines": report.machines,
        "sessions": report.sessions,
        "runs_finished": report.finished,
        "events": dict(sorted(report.counts.items())),
    }


if __name__ == "__main__":
    sys.exit(main())
