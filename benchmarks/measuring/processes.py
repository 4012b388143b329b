"""The processes of one engine: their memory, sampled by a process of its own, their processor time, and their cores.

python benchmarks/measuring/processes.py PID      prints the peak of the tree in bytes for each line on standard input
"""

from __future__ import annotations

import os
import resource
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

SAMPLE_EVERY_S = 0.005


class Sampler:
    """Watches the proportional share of memory (PSS) of this process and its children; the page cache does not count."""

    def __enter__(self) -> Self:
        command = [sys.executable, "-I", "-S", __file__, str(os.getpid())]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.peak_bytes()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def peak_bytes(self) -> int:
        """Return the peak since this was last asked, of whole samples only."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())


def cpu_s() -> float:
    """Return the processor time so far of this process, of its ended children and of its living ones."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    alive = sum(_ticks(process) for process in _tree(os.getpid())[1:]) / os.sysconf("SC_CLK_TCK")
    return time.process_time() + ended.ru_utime + ended.ru_stime + alive


def use_cores(number: int) -> None:
    """Keep this process and those it starts on so many of the cores it may use."""
    allowed = sorted(os.sched_getaffinity(0))
    if number > len(allowed):
        raise SystemExit(f"--cores {number}: only {len(allowed)} may be used here")
    os.sched_setaffinity(0, allowed[:number])


def _tree(root: int, without: int = 0) -> list[int]:
    found = [root]
    for process in found:
        for task in Path(f"/proc/{process}/task").glob("*/children"):
            try:
                found += [child for child in map(int, task.read_text().split()) if child != without]
            except OSError:
                continue  # it ended just now
    return found


def _ticks(process: int) -> int:
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0  # it ended just now: its parent has its time
    return sum(map(int, fields[11:15]))


def _share_bytes(root: int) -> int:
    total = 0
    for process in _tree(root, without=os.getpid()):
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue  # it ended just now
        total += sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def _watch(root: int) -> None:
    os.sched_setaffinity(0, range(os.cpu_count() or 1))  # so that watching costs the watched as little as may be
    peak = 0
    while True:
        peak = max(peak, _share_bytes(root))
        ready, _, _ = select.select([sys.stdin], [], [], SAMPLE_EVERY_S)
        if ready:
            if not sys.stdin.readline():
                return
            print(max(peak, _share_bytes(root)), flush=True)
            peak = 0


if __name__ == "__main__":
    _watch(int(sys.argv[1]))
