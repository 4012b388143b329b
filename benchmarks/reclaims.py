"""Machines of namespaces with drives, on which anything dies at any time: no broken load, never back, bit-equal, causes right.

python -m benchmarks.reclaims [--events 300] [--seed 1] [--patient]      (root, rclone and /dev/fuse are needed)
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.kills import differences
from benchmarks.machines import Machine, final_state
from tests.machines.cloud import Cloud, Watched
from tests.machines.machine import HERE, NamespacedMachine, Sort, missing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.machines.machine import NamespacedTurn

SCRIPT = HERE / "hungry.py"
JOB = ("--steps", "1500", "--step-ms", "10", "--state-mb", "0.3")
OPTIONS = ("--takeover", "--settle", "500ms", "--no-install", "--max-restarts", "1000")
MEMORY_BYTES = 400_000_000
RATES = ("", "2M", "400k")
EVENTS = ("out of memory", "trainer", "supervisor", "both", "reclaim")
CAUSES = {"out of memory": "out of memory", "trainer": "killed by a signal"}
HERE_BEFORE, LOST_BEFORE = "the supervisor was killed or crashed", "was lost"
WAIT_S_MAX = 120.0
LOOK_EVERY_S = 0.02
BEGAN = re.compile(r"(?:going on from|beginning at) step ([\d,]+)")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run: an event comes within ``span_s`` of the one before; ``hasty`` is what machines are like (``Sort``)."""

    job: tuple[str, ...] = JOB
    span_s: float = 6.0
    hasty: bool = True


@dataclass(slots=True)
class Trial:
    """One run from its beginning to its end on as many machines as it took, and all that was wrong with it."""

    folder: Path
    chance: random.Random
    events: Sequence[str]
    plan: Plan
    machines: int = 0
    done: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def run(self, wanted: dict[str, Any]) -> Trial:
        """Let the events happen, let the run end, and compare."""
        cloud = Cloud(self.folder / "cloud", SCRIPT.stem)
        machine = self._fresh(cloud)
        try:
            with Watched(cloud) as watched:
                machine = self._live(cloud, machine)
            self.wrong += watched.wrong
        except AssertionError as error:
            self.wrong.append(str(error))
        finally:
            machine.end()
        if not self.wrong:  # else its end, if it came to one, would only hide why
            self.wrong += differences(final_state(cloud.runs, SCRIPT.stem), wanted)
        return self

    def _live(self, cloud: Cloud, machine: NamespacedMachine) -> NamespacedMachine:
        turn, before, known = self._start(machine), "", 0
        for event in self.events:
            if not self._lives_for(turn, self.chance.uniform(0.0, self.plan.span_s)):
                break
            self.done.append(event)
            if event in CAUSES:
                self._fail(machine, turn, event)
                continue
            self._judge(turn, before)
            machine = self._kill(cloud, machine, turn, event)
            sessions = list(machine.outside(machine.store / SCRIPT.stem).glob("e*-*"))
            before = event if len(sessions) > known else before  # what died before its claim left no word of itself
            known, choice = len(sessions), cloud.choice()
            turn = self._start(machine)
            self._see_where_it_began(turn, choice.step if choice else 0)
        code = turn.wait(WAIT_S_MAX)
        if code != 0:
            self.wrong.append(f"ended with exit code {code}:\n{turn.text}")
        self._judge(turn, before)
        machine.all_sent()
        return machine

    def _kill(
        self, cloud: Cloud, machine: NamespacedMachine, turn: NamespacedTurn, event: str
    ) -> NamespacedMachine:  # fmt: skip
        """Return the machine that the run goes on upon."""
        if event != "reclaim":
            turn.kill(event)
            return machine
        machine.reclaim()
        return self._fresh(cloud)

    def _fresh(self, cloud: Cloud) -> NamespacedMachine:
        self.machines += 1
        sort = Sort(
            stale=self.chance.choice(("0s", "2s")), bwlimit=self.chance.choice(RATES), memory_bytes=MEMORY_BYTES,
            hasty=self.plan.hasty,
        )  # fmt: skip
        return NamespacedMachine(self.folder / f"machine-{self.machines}", cloud.folder, sort)

    def _start(self, machine: NamespacedMachine) -> NamespacedTurn:
        save_every = self.chance.choice(("300ms", "1s", "auto"))
        return machine.start(SCRIPT, "--save-every", save_every, *OPTIONS, arguments=self.plan.job)

    def _lives_for(self, turn: NamespacedTurn, seconds: float) -> bool:
        end_s = time.perf_counter() + seconds
        while time.perf_counter() < end_s and turn.running:
            time.sleep(LOOK_EVERY_S)  # because the moment is what is drawn, in real time
        return turn.running

    def _fail(self, machine: NamespacedMachine, turn: NamespacedTurn, event: str) -> None:
        """Let the trainer die of ``event``; the status must say of what, once it is dead."""
        victim = self._until(turn, turn.trainer)
        if victim is None:
            return
        if event == "out of memory":
            (machine.work / "eat").touch()
        else:
            turn.kill("trainer")
        if not self._until(turn, lambda: turn.trainer() != victim):
            return
        self._until(turn, turn.trainer)
        told = machine.run("status", SCRIPT.stem, "--json")
        said = json.loads(told.stdout) if told.returncode == 0 else {}
        if turn.running and said.get("cause") != CAUSES[event]:
            self.wrong.append(f"after {event} the status says {said.get('cause')!r}: {told.stderr}")

    def _judge(self, turn: NamespacedTurn, before: str) -> None:
        """What a session says of the one before it must be what happened to that."""
        told = {"reclaim": LOST_BEFORE, "supervisor": HERE_BEFORE, "both": HERE_BEFORE}.get(before, "")
        if told not in turn.text and BEGAN.search(turn.text):
            self.wrong.append(f"after {before} it was not said that the last machine {told!r}:\n{turn.text}")
        if "passed over" in turn.text:
            self.wrong.append(f"something broken was there to load:\n{turn.text}")

    def _see_where_it_began(self, turn: NamespacedTurn, safe: int) -> None:
        """It goes on from what was whole in the cloud, or from later work that its own disk still held."""
        found = self._until(turn, lambda: BEGAN.search(turn.text))
        if found and int(found[1].replace(",", "")) < safe:
            self.wrong.append(f"went back behind step {safe}:\n{turn.text}")

    def _until(self, turn: NamespacedTurn, true: Any) -> Any:
        """Wait until something is so; None if the session ended before."""
        end_s = time.perf_counter() + WAIT_S_MAX
        while turn.running and time.perf_counter() < end_s:
            if found := true():
                return found
            time.sleep(LOOK_EVERY_S)  # because other processes do what is waited for
        return None


def reference(folder: Path, job: Sequence[str] = JOB) -> dict[str, Any]:
    """Run the job without any interruption, on a plain folder; return its final state."""
    machine = Machine(folder / "machine", folder / "runs")
    done = machine.run("start", str(SCRIPT), "--no-install", "--", *job[:3], "0", *job[4:])
    if done.returncode != 0:
        raise SystemExit(f"the uninterrupted run ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return final_state(machine.store, SCRIPT.stem)


def main() -> int:
    """Print a line a run and a summary; 0 only if nothing was wrong."""
    options = _parsed()
    if why := missing():
        raise SystemExit(why)
    folder = Path(tempfile.mkdtemp(prefix="reclaims-"))
    wanted = reference(folder / "reference")
    plan, counts = Plan(hasty=not options.patient), Counter[str]()
    bad = number = machines = 0
    while counts.total() < options.events:
        chance = random.Random(options.seed * 1_000_003 + number)
        left = options.events - counts.total()
        events = [chance.choice(EVENTS) for _ in range(min(left, chance.randint(3, 9)))]
        trial = Trial(folder / f"run-{number:03d}", chance, events, plan).run(wanted)
        counts.update(trial.done)
        machines += trial.machines
        bad += bool(trial.wrong)
        verdict = f"WRONG: {'; '.join(trial.wrong)} ({trial.folder})" if trial.wrong else "equal, never back"
        print(f"run {number:3d}: {trial.machines} machines; {', '.join(trial.done)}: {verdict}", flush=True)
        if not trial.wrong:
            shutil.rmtree(trial.folder)
        number += 1
    if not bad:
        shutil.rmtree(folder)
    print(json.dumps({"runs": number, "wrong": bad, "machines": machines, "events": dict(counts)}))
    return 1 if bad else 0


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--events", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--patient", action="store_true", help="wait as long for a drive as the product does for people"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
