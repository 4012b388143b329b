# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "torch>=2.4,<=2.13.0",
#   "numpy>=1.26",
#   "safetensors>=0.4",
# ]
# ///
"""How much of the machines' time a run keeps when machines die as they do on Colab: ours and what others offer, on one trace.

python -m benchmarks.goodput [--only WORDS] [--deaths N] [--seed S] [--scale SECONDS] [--json FILE] [--markdown]

Root, rclone and FUSE are needed: each row has an rclone drive of its own with an upload limit, and each machine is a set of
namespaces that is ended whole. Each row gets the same lives and the same command on every machine. A peer's packages are
installed on demand into a private environment (TensorFlow takes 1.5 GB, once). Exit code 1: ours could not be measured or
resumed wrongly.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.lives import OURS, TABLE, Row, trace
from benchmarks.lives.drive import ROOT, CannotMountError, Limits, check
from benchmarks.measuring import machine
from benchmarks.measuring.environments import CannotInstallError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.lives.serving import Served, Trace

STEP_S = 0.04
HOUR_S = 8.0
EPOCH_H = 0.2
DEATHS = 4
SEED = 1


def main(words: list[str] | None = None) -> int:
    """Measure, print, write the file."""
    options = _parsed(words)
    # Set before the job is imported, here and in the rows' scripts: an epoch is always as long in the trace.
    os.environ["LIVES_EPOCH_STEPS"] = str(max(round(EPOCH_H * options.scale / STEP_S), 1))
    from benchmarks.lives.report import report

    try:
        check()
    except CannotMountError as error:
        print(f"goodput cannot be measured here: {error}", file=sys.stderr)
        return 3
    options.folder.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix="goodput-", dir=options.folder))
    try:
        result = measured(options, place)
    finally:
        if not options.keep:
            shutil.rmtree(place)
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(report(result, padded=not options.markdown))
    return int(any(row["row"] == OURS and ("error" in row or row["wrong"]) for row in result["rows"]))


def measured(options: argparse.Namespace, place: Path) -> dict[str, Any]:
    """Return the whole run as JSON values."""
    from benchmarks.lives import job
    from benchmarks.lives.results import compared, row_result
    from benchmarks.lives.serving import Trace

    told = Trace(trace.lives_h(options.deaths, options.seed), options.scale, STEP_S, Limits(), place)
    load_before = machine.load()
    with ThreadPoolExecutor(options.together) as pool:
        served = list(pool.map(lambda row: (row, _served(row, told)), _chosen(options.only)))
    print("the runs that nothing interrupts …", file=sys.stderr, flush=True)
    truths = _truths(served, place)
    rows = [
        {"row": row.name, "error": found} if isinstance(found, str)
        else row_result(row, found, truths[row.reference], told)
        for row, found in served
    ]  # fmt: skip
    return {
        "lives_h": told.lives_h, "hour_s": told.hour_s, "step_s": told.step_s, "together": options.together, "seed": options.seed,
        "epoch_steps": job.EPOCH_STEPS, "state_bytes": job.STATE_BYTES, "upload_mb_s": told.limits.upload_mb_s,
        "machine": machine.facts(place), "load_before": load_before, "load_after": machine.load(),
        "rows": compared(rows),
    }  # fmt: skip


def _served(row: Row, told: Trace) -> Served | str:
    from benchmarks.lives.serving import serve

    try:
        return serve(row, told)
    except (CannotInstallError, CannotMountError) as error:
        return str(error)


def _truths(served: Sequence[tuple[Row, Served | str]], place: Path) -> dict[str, dict[int, str]]:
    """Return for each kind of reference the losses of as many steps as any row of it has reached."""
    from benchmarks.lives.serving import reference

    reached: dict[str, tuple[Row, int]] = {}
    for row, found in served:
        if not isinstance(found, str):
            most = max((life.lines[-1].step for life in found.lives if life.lines), default=0)
            if most >= reached.get(row.reference, (row, -1))[1]:
                reached[row.reference] = row, most
    return {kind: reference(row, most + 1, place) for kind, (row, most) in reached.items()}


def _chosen(words: Sequence[str]) -> list[Row]:
    chosen = [row for row in TABLE if not words or any(word.lower() in row.name.lower() for word in words)]
    if not chosen:
        raise SystemExit(f"--only: no row has {' or '.join(words)} in its name")
    return chosen


def _parsed(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="rows whose name has one of these words")
    parser.add_argument(
        "--deaths", type=int, default=DEATHS, help="machines that die (default 4: 7 minutes for all rows)"
    )
    parser.add_argument("--seed", type=int, default=SEED, help="of the lives")
    parser.add_argument(
        "--scale", type=float, default=HOUR_S, help="seconds that an hour of the trace takes (default 5)"
    )
    parser.add_argument("--together", type=int, default=3, help="rows that run at the same time (default 3)")
    parser.add_argument("--json", type=Path, help="write everything that was measured there")
    parser.add_argument("--markdown", action="store_true", help="print tables ready to paste")
    parser.add_argument("--keep", action="store_true", help="keep drives, ledgers and what the scripts said")
    parser.add_argument("--folder", type=Path, default=ROOT / ".supervisor" / "benchmark", help="on a local disk")
    return parser.parse_args(words)


if __name__ == "__main__":
    raise SystemExit(main())
