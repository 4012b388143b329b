"""How long it takes to find where a run resumes among many checkpoints, and to join a long step log.

python benchmarks/listing.py [CHECKPOINTS]
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from supervisor.core import checkpoint as cp
from supervisor.core.claim import Rank
from supervisor.engine import checkpoints, steplog
from supervisor.engine.place import RunPlace
from supervisor.stores.folder import FolderStore

RUN = RunPlace("plates")
FILES = ("state-00000.safetensors", "state.json", "rng.json", "log.jsonl", "checkpoint.json")
SESSIONS = 10
STEPS_PER_CHECKPOINT = 100
REPEATS = 5


def main() -> int:
    """Build a run in a temporary folder, look at it some times, print the best."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder), number)
        store = FolderStore(folder)
        found_s = min(_seconds(lambda: len(checkpoints.find(store, RUN)), number) for _ in range(REPEATS))
        rows = number * STEPS_PER_CHECKPOINT
        joined_s = min(_seconds(lambda: sum(1 for _ in steplog.joined(store, RUN)), rows) for _ in range(REPEATS))
    print(f"find {number:,} checkpoints of {SESSIONS} sessions: {found_s * 1000:.0f} ms")
    print(f"join {rows:,} rows of {number:,} pieces: {joined_s * 1000:.0f} ms, {joined_s / rows * 1e6:.1f} us a row")
    return 0


def build(root: Path, number: int) -> None:
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


def _seconds(act: object, expected: int) -> float:
    began = perf_counter()
    counted = act() if callable(act) else None
    ended = perf_counter()
    if counted != expected:
        raise SystemExit(f"found {counted} of {expected}")
    return ended - began


if __name__ == "__main__":
    sys.exit(main())
