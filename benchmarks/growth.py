# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "torch>=2.4,<=2.13.0",
#   "numpy>=1.26",
#   "safetensors>=0.4",
# ]
# ///
"""How our engine's costs grow: with the bytes of the state, with the number of its tensors, with the checkpoints that are kept.

python -m benchmarks.growth [--only bytes|tensors|kept] [--json FILE] [--markdown]

Sizes that this machine's memory or disk cannot hold are left out and named. Exit code 1: something grows worse than linearly.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.engines import TABLE, Row
from benchmarks.measuring import machine
from benchmarks.measuring.ratios import OURS
from benchmarks.measuring.running import ROOT, Setting, row_measured
from benchmarks.measuring.table import ms, table
from supervisor.core import checkpoint as cp
from supervisor.core import retention
from supervisor.core.claim import Rank
from supervisor.engine import checkpoints, steplog
from supervisor.engine.place import RunPlace
from supervisor.stores.folder import FolderStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SIZES = (6e6, 60e6, 307e6, 1e9, 2.4e9, 5e9, 10e9)
TENSORS_PER_SIZE = 150
COUNTS = (10, 100, 1_000, 10_000)
COUNTED_BYTES = 300e6
KEPT = (1, 10, 100, 1_000)
COSTS = {"stall_s": "stall", "durable_s": "durable", "restore_cold_s": "cold restore", "restore_warm_s": "warm restore"}
LISTED = {"find_s": "find where to go on", "plan_s": "plan what may go", "join_s": "join the step log"}
UNITS = {"bytes": ("MB", "ms per GB"), "tensors": ("tensors", "µs per tensor"), "kept": ("kept", "µs per checkpoint")}
COPIES = 2.3  # the state, the kept copy, and some room
LINEAR = 1.2  # power of growth that still counts as linear: caches make the smallest sizes cheaper than their bytes
ITEM_BYTES = 4
ROW_S_MAX = 1500.0
FIND_S_MAX = 0.1
RUN = RunPlace("plates")
FILES = ("state-00000.safetensors", "state.json", "rng.json", "log.jsonl", "checkpoint.json")
SESSIONS = 10
STEPS_PER_CHECKPOINT = 100
LOOKS = 9


def main(words: list[str] | None = None) -> int:
    """Measure what was asked for, print its tables, write the file."""
    options = _parsed(words)
    options.folder.mkdir(parents=True, exist_ok=True)
    tables: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory(prefix="growth-", dir=options.folder) as place:
        for name, rows in (("bytes", by_bytes), ("tensors", by_tensors), ("kept", by_kept)):
            if name in options.only:
                tables[name] = rows(Path(place), options)
                print("\n".join(_shown(name, tables[name], options)), end="\n\n", flush=True)
    powers = {f"{name}: {cost}": power for name, rows in tables.items() for cost, power in _powers(name, rows).items()}
    worse = sorted(name for name, power in powers.items() if power > LINEAR)
    if "kept" in tables:
        last = tables["kept"][-1]
        verdict = "met" if last["find_s"] < FIND_S_MAX else "MISSED"
        print(f"finding {last['kept']:,} checkpoints: {ms(last['find_s'])} ms, below {ms(FIND_S_MAX)}: {verdict}")
    print(f"grows worse than linearly: {', '.join(worse)}" if worse else "nothing grows worse than linearly")
    if options.json is not None:
        result = {"machine": machine.facts(options.folder), "load": machine.load(), "tables": tables, "powers": powers}
        options.json.write_text(json.dumps(result | {"worse_than_linear": worse}, indent=1) + "\n", encoding="utf-8")
    return int(bool(worse))


def by_bytes(place: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Save and restore larger and larger states of as many tensors."""
    return [_measured(int(size), TENSORS_PER_SIZE, place, options) for size in SIZES if size <= options.largest]


def by_tensors(place: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Save and restore as many bytes in more and more tensors."""
    return [_measured(int(COUNTED_BYTES), count, place, options) for count in COUNTS]


def by_kept(place: Path, _options: argparse.Namespace) -> list[dict[str, Any]]:
    """List a store with more and more checkpoints of a run, as its sessions leave them."""
    rows = []
    for number in KEPT:
        root = place / f"kept-{number}"
        _build(root, number)
        store = FolderStore(str(root))
        found = checkpoints.find(store, RUN)
        steps = _read_log(store)
        if (len(found), steps) != (number, number * STEPS_PER_CHECKPOINT):
            raise SystemExit(f"found {len(found)} of {number} checkpoints and {steps} steps")
        stored = [retention.Kept(each.id, durable=True) for each in found]
        rows.append(
            {
                "kept": number,
                "find_s": _best(partial(checkpoints.find, store, RUN)),
                "plan_s": _best(partial(retention.plan, stored, retention.Policy(newest=number))),
                "join_s": _best(partial(_read_log, store)),
            }
        )
    return rows


def _measured(size: int, tensors: int, place: Path, options: argparse.Namespace) -> dict[str, Any]:
    row = {"bytes": size, "tensors": tensors}
    memory, disk = machine.free_bytes(place)
    if COPIES * size > min(memory, disk):
        return row | {"left_out": f"needs {COPIES * size / 1e9:.0f} GB of memory and disk"}
    print(f"{size / 1e6:,.0f} MB in {tensors:,} tensors …", file=sys.stderr, flush=True)
    ours = next(each for each in TABLE if each.name == OURS)
    flat = Row(ours.name, ours.made_by, ours.group, state="measuring.state:FlatState")
    setting = Setting(f"{tensors}x{size // tensors // ITEM_BYTES}", place, options.repeat, 1, 0, ROW_S_MAX)
    found = row_measured(flat, setting, only="times")
    return row | ({"left_out": found["error"]} if "error" in found else {key: found[key] for key in (*COSTS, "safe")})


def _build(root: Path, number: int) -> None:
    """Write checkpoints as a run leaves them; their content does not matter to a listing."""
    for index in range(number):
        rank = Rank(1 + index * SESSIONS // number, "00c0ffee")
        step = (index + 1) * STEPS_PER_CHECKPOINT
        folder = root / RUN.step(rank, step)
        folder.mkdir(parents=True)
        for name in (*FILES, cp.manifest_name(1001 + index, b"")):
            (folder / name).write_bytes(b"x")
        rows = "".join(f'{{"step": {each}, "loss": 0.5}}\n' for each in range(step - STEPS_PER_CHECKPOINT, step))
        piece = steplog.piece_name(index + 1, step - STEPS_PER_CHECKPOINT, step)
        (root / RUN.session(rank) / piece).write_text(rows)
    os.sync()


def _read_log(store: FolderStore) -> int:
    return sum(1 for _ in steplog.joined(store, RUN))


def _best(act: Callable[[], object]) -> float:
    """Return the shortest of some looks: what else the machine does only ever adds."""
    took = []
    for _ in range(LOOKS):
        began = perf_counter()
        act()
        took.append(perf_counter() - began)
    return min(took)


def _powers(name: str, rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return with which power of the work each cost grows, the smallest left out: 1 is linear, 0 is constant."""
    larger = [row for row in rows if "left_out" not in row][1:]
    if len(larger) < 2:
        return {}
    costs = LISTED if name == "kept" else COSTS
    work = [math.log(row[name]) for row in larger]
    return {
        cost: round(statistics.linear_regression(work, [math.log(row[cost]) for row in larger]).slope, 2)
        for cost in costs
    }


def _shown(name: str, rows: list[dict[str, Any]], options: argparse.Namespace) -> Sequence[str]:
    costs = LISTED if name == "kept" else COSTS
    unit, each = UNITS[name]
    body = [
        [
            f"{row[name] / 1e6 if name == 'bytes' else row[name]:,.0f}",
            *(f"{ms(row[cost])} ({ms(row[cost] / row[name] * (1e9 if name == 'bytes' else 1e3))})" for cost in costs),
        ]
        for row in rows
        if "left_out" not in row
    ]
    powers = _powers(name, rows)
    if powers:
        body.append(["grows with the power", *(f"{powers[cost]:.2f}" for cost in costs)])
    left_out = [f"\n{row['bytes'] / 1e6:,.0f} MB left out: {row['left_out']}" for row in rows if "left_out" in row]
    words = f"Times in ms; in brackets {each}."
    return [words, "", *table([unit, *costs.values()], body, padded=not options.markdown), *left_out]


def _parsed(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tables = ["bytes", "tensors", "kept"]
    parser.add_argument("--only", nargs="+", choices=tables, default=tables, help="which tables (default: all)")
    parser.add_argument("--largest", type=float, default=max(SIZES), metavar="BYTES", help="leave larger states out")
    parser.add_argument("--repeat", type=int, default=3, help="measurements a row (default 3)")
    parser.add_argument("--json", type=Path, help="write everything that was measured there")
    parser.add_argument("--markdown", action="store_true", help="print tables ready to paste")
    parser.add_argument(
        "--folder", type=Path, default=ROOT / ".supervisor" / "benchmark", help="on the disk to measure"
    )
    return parser.parse_args(words)


if __name__ == "__main__":
    raise SystemExit(main())
