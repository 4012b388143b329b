"""Times the commands on a run of very many sessions: ``python -m benchmarks.sessions --sessions 20000``.

Each session's folder is empty, as a hostile store has them, or holds what a session leaves (``--whole``).
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "trainers" / "toy.py"
RUN = "toy"
FIRST_STEPS, MORE_STEPS = 100, 110
COMMANDS = (("list",), ("status", RUN), ("checkpoints", RUN))


def supervisor(*words: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run a command of the supervisor with a home of its own."""
    return subprocess.run(
        [sys.executable, "-m", "supervisor", *words],
        cwd=ROOT,
        env={**os.environ, "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")},
        text=True,
        capture_output=True,
        check=False,
    )


def make_store(folder: Path, sessions: int, *, whole: bool) -> Path:
    """Make a store with one run: a first session that trained, and so many sessions after it that saved nothing."""
    store = folder / "store"
    done = supervisor(*start(store, FIRST_STEPS), home=folder)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    first = next((store / RUN).glob("e00000001-*"))
    (first / "end-succeeded.json").unlink()
    left = [path for path in first.iterdir() if whole and path.is_file() and not path.name.startswith("log-")]
    for number in range(2, sessions + 1):
        session = store / RUN / f"e{number:08d}-{number:08x}"
        session.mkdir()
        for path in left:
            os.link(path, session / path.name)
    (session / "end-failed.json").write_text("{}")  # else a start waits for a sign of life of it
    return store


def start(store: Path, steps: int) -> tuple[str, ...]:
    """Return the words of a start that makes so many steps."""
    return "start", str(SCRIPT), "--store", str(store), "--save-every", "50steps", "--", "--steps", str(steps)


def processor_s() -> float:
    """Return how long this process's ended children have used a processor: on a machine with other load the wall tells little."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    """Print a line for each command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=20_000)
    parser.add_argument("--whole", action="store_true", help="each session has its claim, journal and environment")
    parser.add_argument("--only", action="append", help="time this command alone")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sessions-", ignore_cleanup_errors=True) as made:
        folder = Path(made)
        base = start(folder / "one", FIRST_STEPS)
        began_s, before_s = time.perf_counter(), processor_s()
        supervisor(*base, home=folder / "home")
        took_s, used_s = time.perf_counter() - began_s, processor_s() - before_s
        print(f"{'start, empty store':24} {took_s:6.2f} s, {used_s:5.2f} s of processor", flush=True)
        shutil.rmtree(folder / "one")
        store = make_store(folder, options.sessions, whole=options.whole)
        for words in (*((*each, "--store", str(store)) for each in COMMANDS), start(store, MORE_STEPS)):
            if options.only and words[0] not in options.only:
                continue
            began_s, before_s = time.perf_counter(), processor_s()
            done = supervisor(*words, home=folder)
            took_s, used_s = time.perf_counter() - began_s, processor_s() - before_s
            print(
                f"{words[0]:24} {took_s:6.2f} s, {used_s:5.2f} s of processor, exit code {done.returncode}", flush=True
            )
            if done.returncode:
                print(done.stderr[-800:])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
