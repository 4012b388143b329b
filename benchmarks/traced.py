"""The shipped command line under strace: killed at its n-th call of each kind, or that call fails; then resumed, and compared.

python -m benchmarks.traced [--points 12] [--seed 1] [--drive]

Each thread of each process counts its own calls, so a point may hit the supervisor, the trainer or the process that does the
drive's I/O. With --drive the store is a real rclone mount (root, rclone and /dev/fuse are needed).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.kills import OPTIONS, Plan, differences, reference
from benchmarks.machines import TOY, Machine, final_state
from supervisor.stores.mounts import is_mount_point

if TYPE_CHECKING:
    from collections.abc import Iterator

CALLS = (
    "write",
    "fsync",
    "close",
    "openat",
    "mkdir,mkdirat",
    "unlink,unlinkat",
    "link,linkat",
    "rename,renameat",
    "read",
)
HARMS = ("signal=KILL", "error=ENOSPC", "error=EIO", "error=ENOTCONN")
WHEN_MAX = {"write": 60, "close": 400, "openat": 300, "read": 400, "fsync": 30}
MOUNT_S_MAX = 15.0


class TracedMachine(Machine):
    """A machine whose supervisor, and all that it starts, runs under strace with one ``inject``."""

    inject = ""

    def command(self, *words: str) -> list[str]:
        """Return the command line, traced."""
        calls = self.inject.split(":", 1)[0]
        strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}", "-e", f"inject={self.inject}"]
        return [*strace, *super().command(*words)]


def main() -> int:
    """Print a line a point and a summary; 0 only if every run ended equal and no point ended without a name."""
    options = _parsed()
    if shutil.which("strace") is None:
        raise SystemExit("strace is not installed")
    chance, counts, bad = random.Random(options.seed), Counter[str](), 0
    folder = Path(tempfile.mkdtemp(prefix="traced-"))
    plan = Plan(TOY, ("--steps", "60", "--step-ms", "10"), "200ms", 1, sys.executable)
    wanted, _ = reference(plan, folder / "reference")
    for number in range(options.points):
        place = folder / f"point-{number:03d}"
        place.mkdir()
        inject = _drawn(chance)
        with _mounted(place) if options.drive else contextlib.nullcontext(place / "store") as store:
            ended, found = _harmed(plan, place, store, inject, options.drive)
            if not found:
                found = differences(final_state(store, plan.script.stem), wanted)
        counts[ended] += 1
        verdict = "equal" if not found else f"DIFFERS: {'; '.join(found)} ({place})"
        print(f"{inject}: {ended}; then {verdict}", flush=True)
        bad += bool(found)
        if not found:
            shutil.rmtree(place)
    if not bad:
        shutil.rmtree(folder)
    print(json.dumps({"points": options.points, "equal": options.points - bad, "drive": options.drive, "ends": counts}))
    return 1 if bad else 0


def _harmed(plan: Plan, place: Path, store: Path, inject: str, drive: bool) -> tuple[str, list[str]]:
    """Run it once with the harm, then on a fresh machine without; return how the first ended and what was wrong."""
    arguments = ["--save-every", plan.save_every, *OPTIONS, *(("--settle", "1s") if drive else ())]
    machine = TracedMachine(place / "machine", store)
    machine.inject = inject
    turn = machine.start(plan.script, *arguments, arguments=plan.arguments)
    code = turn.wait(240)
    found = []
    if "Traceback" in turn.text:
        found.append(f"a traceback:\n{turn.text}")
    after = Machine(place / "fresh", store).start(plan.script, *arguments, "--takeover", arguments=plan.arguments)
    if (last := after.wait(240)) != 0:
        found.append(f"the next machine ended with {last}:\n{after.text}")
    return ("killed" if code == -9 else f"exit code {code}"), found


def _drawn(chance: random.Random) -> str:
    calls, harm = chance.choice(CALLS), chance.choice(HARMS)
    when = chance.randint(1, WHEN_MAX.get(calls, 12))
    return f"{calls}:{harm}:when={when}{'' if harm.startswith('signal') or chance.random() < 0.5 else '+7'}"


@contextlib.contextmanager
def _mounted(place: Path) -> Iterator[Path]:
    """Mount a drive for as long as it takes; what is then compared was read through it."""
    mount, cloud = place / "mount", place / "cloud"
    for each in (mount, cloud):
        each.mkdir()
    command = [
        "rclone", "mount", str(cloud), str(mount), "--config", "/dev/null", "--cache-dir", str(place / "cache"),
        "--vfs-cache-mode", "writes", "--vfs-write-back", "200ms", "--dir-cache-time", "1s",
    ]  # fmt: skip
    rclone = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        end_s = time.perf_counter() + MOUNT_S_MAX
        while not is_mount_point(str(mount)):
            if rclone.poll() is not None or time.perf_counter() > end_s:
                raise SystemExit("rclone did not mount")
            time.sleep(0.05)  # because rclone says nothing when it is ready
        yield mount / "store"
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=False)
        rclone.kill()
        rclone.wait()


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--points", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--drive", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
