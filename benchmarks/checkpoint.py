# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "torch>=2.4,<=2.13.0",
#   "numpy>=1.26",
#   "safetensors>=0.4",
# ]
# ///
"""Our checkpoint engine, its peers and the machine's own limits, measured in one run.

python -m benchmarks.checkpoint --size small|medium|large --peers none|fast|all [--json FILE] [--markdown]

Wants an otherwise idle machine. Each engine runs in a process of its own on its own folder; a peer's packages are installed
on demand into a private environment that sees this interpreter's torch. Exit code 1: our own engine could not be measured.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.engines import Row, rows
from benchmarks.measuring import machine
from benchmarks.measuring.ratios import OURS, ratios
from benchmarks.measuring.running import ROOT, Setting, limits_measured, row_measured
from benchmarks.measuring.table import report

if TYPE_CHECKING:
    from collections.abc import Iterator

REPEAT = {"small": 9, "medium": 5, "large": 3}
ROW_S_MAX = {"small": 300.0, "medium": 600.0, "large": 1500.0}


def main(words: list[str] | None = None) -> int:
    """Measure, print, write the file."""
    options = _parsed(words)
    options.folder.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="checkpoint-", dir=options.folder) as place:
        for result in runs(options, Path(place)):
            if options.json is not None:  # after every row, so that a run that is cut short leaves what it has
                options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(report(result, padded=not options.markdown))
    return int(any(row["engine"] == OURS and "error" in row for row in result["rows"]))


def runs(options: argparse.Namespace, place: Path) -> Iterator[dict[str, Any]]:
    """Yield the whole run as JSON values after every row; the limits are measured again and again near our own."""
    setting = Setting(options.size, place, options.repeat, options.threads, options.cores, ROW_S_MAX[options.size])
    load_before = machine.load()
    found: list[dict[str, Any]] = []
    samples: dict[str, list[float]] = {}
    for row in _chosen(options):
        print(f"{row.name} …", file=sys.stderr, flush=True)
        found.append(row_measured(row, setting))
        state_bytes = found[-1].get("state_bytes")
        if state_bytes and (row.group in {"ours", "limit"} or not samples):
            for name, values in limits_measured(state_bytes, setting).items():
                samples.setdefault(name, []).extend(values)
        limits = {name: statistics.median(values) for name, values in samples.items()}
        shown = ratios(options.size, limits, found)
        yield {
            "size": options.size,
            "state_bytes": next((each["state_bytes"] for each in found if "state_bytes" in each), 0),
            "machine": machine.facts(place),
            "arguments": {
                key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()
            },
            "load_before": load_before,
            "load_after": machine.load(),
            "limits": limits,
            "limits_best": {name: min(values) for name, values in samples.items()},
            "fsyncs_counted_by": "strace on one save" if shutil.which("strace") else None,
            "rows": found,
            "ratios": [ratio._asdict() | {"verdict": ratio.verdict} for ratio in shown],
        }


def _chosen(options: argparse.Namespace) -> list[Row]:
    if not options.only:
        return rows(options.peers)
    chosen = [row for row in rows("all") if any(word in row.name for word in options.only)]
    if not chosen:
        raise SystemExit(f"--only: no row has {' or '.join(options.only)} in its name")
    return chosen


def _parsed(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(REPEAT), default="medium")
    parser.add_argument("--peers", choices=["none", "fast", "all"], default="fast")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="rows whose name has one of these words")
    parser.add_argument("--json", type=Path, help="write everything that was measured there")
    parser.add_argument("--markdown", action="store_true", help="print tables ready to paste")
    parser.add_argument("--repeat", type=int, help="measurements a row (default: 9 small, 5 medium, 3 large)")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads (default 1)")
    parser.add_argument("--cores", type=int, default=0, help="cores that all may use (default: all)")
    parser.add_argument(
        "--folder", type=Path, default=ROOT / ".supervisor" / "benchmark", help="on the disk to measure"
    )
    options = parser.parse_args(words)
    options.repeat = options.repeat or REPEAT[options.size]
    return options


if __name__ == "__main__":
    raise SystemExit(main())
