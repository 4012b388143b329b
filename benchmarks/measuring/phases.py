"""What one engine is put through, phase by phase, in a process of its own: prints nothing, appends JSON lines to a file.

python -m benchmarks.measuring.phases ORDER      ORDER is a JSON object: see ``Order``
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import statistics
import sys
from pathlib import Path
from time import perf_counter, thread_time
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.measuring import disk, lost, syscalls
from benchmarks.measuring.processes import Sampler, cpu_s, use_cores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.engines.engine import Engine
    from benchmarks.measuring.state import State

WARM_UP = 2
FORWARD_BYTES_A_SECOND = 5e9  # forward and backward read weights and moments no faster than this on one core
COLD = 0.01  # share of the pages that may stay in the page cache of a checkpoint that is called cold


class Order(NamedTuple):
    """``out`` is the file for the lines, ``folder`` an empty one for checkpoints; ``only`` is "", "times" or "syscalls"."""

    made_by: str
    state: str
    size: str
    folder: str
    out: str
    repeat: int
    threads: int = 1
    cores: int = 0
    only: str = ""


class Phases:
    """Each phase returns what it found; later phases use what earlier ones left."""

    def __init__(self, order: Order, engine: Engine, state: State) -> None:
        self.order, self.engine, self.state = order, engine, state
        self.background_s = 0.0
        self._previous: Path | None = None

    def memory(self, sampler: Sampler, bare_bytes: int) -> dict[str, Any]:
        """Save for the first times: buffers are made, pages touched, processes started."""
        sampler.peak_bytes()
        for _ in range(WARM_UP):
            self.state.touch()
            self._save()
            self._retire(self.engine.commit())
        peak_bytes = sampler.peak_bytes()
        gc.collect()
        sampler.peak_bytes()
        kept_bytes = sampler.peak_bytes()
        return {"extra_bytes": max(0, peak_bytes - bare_bytes), "kept_bytes": max(0, kept_bytes - bare_bytes)}

    def times(self) -> dict[str, Any]:
        """Save again and again, every time after all tensors changed."""
        stalls, commits, durables, cpus = [], [], [], []
        found: dict[str, Any] = {}
        for _ in range(self.order.repeat):
            self.state.touch()
            cpu_before = cpu_s()
            began = perf_counter()
            self.engine.save()
            stall_s = perf_counter() - began
            worked_s = self._forward() if self.engine.overlaps else 0.0
            stall_s += _seconds(self.engine.before_update)
            stalls.append(stall_s)
            place = self.engine.commit()
            commits.append(perf_counter() - began)
            cpus.append(cpu_s() - cpu_before - worked_s)
            flushed = perf_counter()
            disk.flush(place)
            durables.append(commits[-1] + perf_counter() - flushed)
            found["bytes"], found["files"] = disk.size(place)
            self._retire(place)
        self.background_s = max(commits) - min(stalls)
        return found | {
            "stall_s": statistics.median(stalls),
            "stall_best_s": min(stalls),
            "commit_s": statistics.median(commits),
            "durable_s": statistics.median(durables),
            "durable_best_s": min(durables),
            "cpu_s": statistics.mean(cpus),
        }

    def restores(self) -> dict[str, Any]:
        """Change all tensors the moment the save returns, then put the checkpoint back and look which state it holds."""
        self.state.touch()
        wanted = self.state.fingerprint()
        self._save()
        self.state.touch()
        place = self.engine.commit()
        disk.flush(place)
        colds, warms, stayed, exact = [], [], [], []
        for _ in range(self.order.repeat):
            stayed.append(disk.drop(place))
            colds.append(self._restored(place))
            exact.append(self.state.fingerprint() == wanted)
            disk.warm(place)
            warms.append(self._restored(place))
            exact.append(self.state.fingerprint() == wanted)
        self._retire(place)
        found = {
            "restore_cold_s": statistics.median(colds),
            "restore_cold_best_s": min(colds),
            "restore_warm_s": statistics.median(warms),
            "safe": all(exact),
        }
        return found | ({"note": "some pages stayed in the cache: no cold restore"} if max(stayed) > COLD else {})

    def put_off(self) -> dict[str, Any]:
        """Time one in-place update of all tensors alone and right after a save: what a save without a copy costs later."""
        alone, after = [], []
        for _ in range(max(3, self.order.repeat // 2)):
            self.state.touch()
            alone.append(_seconds(self.state.touch))
            self.engine.save()
            after.append(_seconds(self.engine.before_update) + _seconds(self.state.touch))
            self._retire(self.engine.commit())
        return {"put_off_s": statistics.median(after) - statistics.median(alone)}

    def losses(self) -> dict[str, Any]:
        """Run both loops beside the saves; the state does not change while they run."""
        found: dict[str, Any] = {}
        for name, loop in (("dispatch", lost.dispatch_loop), ("matmul", lost.matmul_loop)):
            self.state.touch()
            engine = lost.Saved(self.engine.save, self.engine.before_update, self._tidied)
            seen = lost.lost_per_save(loop(), engine, self.background_s, self.order.repeat)
            found[f"lost_{name}_s"] = seen.median_s
            found[f"lost_{name}_samples_s"] = [round(sample, 6) for sample in seen.samples_s]
            found[f"window_{name}_s"] = seen.window_s
            found[f"tail_{name}_s"] = seen.tail_s
        return found | {"lost_s": max(found["lost_dispatch_s"], found["lost_matmul_s"])}

    def _save(self) -> None:
        self.engine.save()
        self.engine.before_update()

    def _retire(self, place: Path) -> None:
        """Keep this checkpoint until the next is done, as a run does: an engine may share files between the two."""
        if self._previous is not None:
            disk.remove(self._previous)
        self._previous = place

    def _forward(self) -> float:
        """Compute for as long as a forward and a backward pass might take; return the processor time that took."""
        step, began, cpu_began = lost.matmul_loop(), perf_counter(), thread_time()
        while perf_counter() - began < self.state.bytes / FORWARD_BYTES_A_SECOND:
            step()
        return thread_time() - cpu_began

    def _restored(self, place: Path) -> float:
        self.state.zero()
        return _seconds(lambda: self.engine.restore(place))

    def _tidied(self) -> float:
        began = perf_counter()
        place = self.engine.commit()
        waited_s = perf_counter() - began
        disk.flush(place)
        self._retire(place)
        self.state.touch()
        return waited_s


def main(text: str) -> None:
    """Measure, and leave without the engines' own farewells, which may wait for what no one needs any more."""
    order = Order(**json.loads(text))
    if order.cores:
        use_cores(order.cores)
    _one_thread(order.threads)
    with Path(order.out).open("a", encoding="utf-8") as out:
        for found in _lines(order):
            print(json.dumps(found), file=out, flush=True)
    sys.stdout.flush()
    os._exit(0)


def _lines(order: Order) -> Iterator[dict[str, Any]]:
    state = _named(order.state)(order.size)
    made_by = _named(f"engines.{order.made_by}")
    folder = Path(order.folder)
    if order.only == "syscalls":
        engine = made_by(state, folder)
        syscalls.between_marks(engine, state)
        return
    with Sampler() as sampler:
        sampler.peak_bytes()
        bare_bytes = sampler.peak_bytes()
        engine = made_by(state, folder)
        phases = Phases(order, engine, state)
        yield {"version": engine.version, "state_bytes": state.bytes}
        yield phases.memory(sampler, bare_bytes)
    yield phases.times()
    yield phases.restores()
    if order.only != "times":
        yield phases.put_off()
        yield phases.losses()
    engine.close()


def _named(name: str) -> Any:
    module, _, what = name.partition(":")
    return getattr(importlib.import_module(f"benchmarks.{module}"), what)


def _one_thread(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def _seconds(act: Callable[[], object]) -> float:
    began = perf_counter()
    act()
    return perf_counter() - began


if __name__ == "__main__":
    main(sys.argv[1])
