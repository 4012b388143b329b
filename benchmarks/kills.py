"""Kill -9 at random times, resume on blank machines, and compare with the uninterrupted run: bit for bit, or not.

python -m benchmarks.kills [--runs 50] [--script trainers/toy.py] [--seed 1] [-- ARGUMENTS OF THE SCRIPT]
python -m benchmarks.kills --kills 10 …     run after run until there were so many kills, --runs runs at most
python -m benchmarks.kills --script train.py --final final.pt --resume-args "--resume {checkpoint}"     of a script's own files
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.machines import ROOT, Machine, final_state

VICTIMS = ("trainer", "supervisor", "both")
OPTIONS = ("--max-restarts", "1000")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run, and how: ``span_s`` is how long an uninterrupted run takes.

    ``final``: the file that a script leaves which saves by itself; "": what is compared is the last checkpoint and the log.
    """

    script: Path
    arguments: tuple[str, ...]
    save_every: str
    kills_max: int
    python: str
    span_s: float = 0.0
    options: tuple[str, ...] = ()
    final: str = ""


@dataclass(slots=True)
class Outcome:
    """One interrupted run: who was killed when, on how many machines, and in what it differs from the reference."""

    kills: list[tuple[str, float]] = field(default_factory=list)
    machines: int = 1
    differences: list[str] = field(default_factory=list)


def reference(plan: Plan, folder: Path) -> tuple[dict[str, Any], float]:
    """Run it without any interruption; return its final state and how many seconds it took."""
    began_s = time.perf_counter()
    machine = Machine(folder / "machine", folder / "store", python=plan.python)
    turn = _start(plan, machine)
    code = turn.wait(600)
    if code != 0:
        raise SystemExit(f"the uninterrupted run ended with {code}:\n{turn.text}")
    took_s = time.perf_counter() - began_s
    return (_own_file(plan, folder) if plan.final else final_state(machine.store, plan.script.stem)), took_s


def interrupted(plan: Plan, folder: Path, seed: int, wanted: dict[str, Any]) -> Outcome:
    """Run it with kills at times drawn from ``seed``, on fresh machines and on the same one, and compare its end."""
    chance = random.Random(seed)
    outcome = Outcome()
    store = folder / "store"
    machine = Machine(folder / "machine-1", store, python=plan.python)
    turn = _start(plan, machine)
    for _ in range(chance.randint(1, plan.kills_max)):
        victim, after_s = chance.choice(VICTIMS), chance.uniform(0.0, 0.95 * plan.span_s)
        if not _lives_for(turn, after_s):
            break
        turn.kill(victim)
        outcome.kills.append((victim, round(after_s, 3)))
        if victim == "trainer":
            continue
        if chance.random() < 0.6:
            outcome.machines += 1
            machine = Machine(folder / f"machine-{outcome.machines}", store, python=plan.python)
        else:
            machine = Machine(machine.folder, store, python=plan.python)  # same local disk: what is staged is adopted
            shutil.rmtree(machine.work)
            machine.work.mkdir()
        turn = _start(plan, machine)
    code = turn.wait(600)
    if code != 0:
        outcome.differences.append(f"ended with exit code {code}:\n{turn.text}")
    if plan.final:
        outcome.differences += [] if _own_file(plan, folder) == wanted else [f"{plan.final} differs"]
    else:
        outcome.differences += differences(final_state(store, plan.script.stem), wanted)
    return outcome


def _own_file(plan: Plan, folder: Path) -> dict[str, Any]:
    """Return the final file from the machine on which the script came to its end."""
    places = (each / "work" / plan.final for each in folder.iterdir())
    return {"file": next((path.read_bytes() for path in places if path.is_file()), None)}


def differences(got: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Say in words in what two final states differ; an empty list is what everybody hopes for."""
    found = [f"{key} differs" for key in ("step", "metrics") if got[key] != wanted[key]]
    ours, theirs = got["state"], wanted["state"]
    if paths := [path for path in {**ours, **theirs} if ours.get(path) != theirs.get(path)]:
        found.append(f"state differs at {', '.join(paths[:5])}")
    steps, expected = [row["step"] for row in got["log"]], [row["step"] for row in wanted["log"]]
    if steps != expected:
        missing = sorted(set(expected) - set(steps))[:5]
        twice = [step for step, times in Counter(steps).items() if times > 1][:5]
        found.append(f"the step log has other steps (missing {missing}, twice {twice})")
    elif got["log"] != wanted["log"]:
        first = next(one["step"] for one, other in zip(got["log"], wanted["log"], strict=True) if one != other)
        found.append(f"the step log differs from step {first}")
    return found


def main() -> int:
    """Print a line a run and a summary; 0 only if every run ended equal."""
    plan, options = _parsed()
    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    wanted, span_s = reference(plan, folder / "reference")
    plan = replace(plan, span_s=span_s)
    print(f"uninterrupted: {plan.final or str(wanted['step']) + ' steps'} in {span_s:.1f} s", flush=True)
    counts: Counter[str] = Counter()
    done = bad = 0
    for number in range(options.runs):
        place = folder / f"run-{number:03d}"
        outcome = interrupted(plan, place, options.seed + number, wanted)
        counts.update(victim for victim, _ in outcome.kills)
        kills = ", ".join(f"{victim} at {at:.1f} s" for victim, at in outcome.kills) or "ended before the first kill"
        verdict = "equal" if not outcome.differences else f"DIFFERS: {'; '.join(outcome.differences)} ({place})"
        print(f"run {number:3d}: {outcome.machines} machines; {kills}: {verdict}", flush=True)
        done, bad = done + 1, bad + bool(outcome.differences)
        if not outcome.differences:
            shutil.rmtree(place)
        if options.kills is not None and counts.total() >= options.kills:
            break
    if not bad:
        shutil.rmtree(folder)
    print(json.dumps({"script": plan.script.name, "runs": done, "equal": done - bad, "kills": counts}))
    return 1 if bad else 0


def _start(plan: Plan, machine: Machine) -> Any:
    options = ("--save-every", plan.save_every, *OPTIONS, *plan.options)
    return machine.start(plan.script, *options, arguments=plan.arguments)


def _lives_for(turn: Any, seconds: float) -> bool:
    end_s = time.perf_counter() + seconds
    while time.perf_counter() < end_s:
        if not turn.running:
            return False
        time.sleep(0.005)  # because the moment of the kill is what is drawn, in real time
    return bool(turn.running)


def _parsed() -> tuple[Plan, argparse.Namespace]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--script", type=Path, default=ROOT / "trainers" / "toy.py")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save-every", default="300ms")
    parser.add_argument("--kills", type=int, help="end when so many were killed in all")
    parser.add_argument("--kills-max", type=int, default=4, help="in one run")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--final", default="", help="of a script that saves by itself: the file that it leaves")
    parser.add_argument("--resume-args", default="")
    parser.add_argument("--watch", default="")
    parser.add_argument("arguments", nargs="*")
    options = parser.parse_args()
    arguments = tuple(options.arguments)
    if not arguments and options.script.name == "toy.py":
        arguments = ("--steps", "200", "--step-ms", "10")
    script = options.script.resolve()
    own = ("--resume-args", options.resume_args) if options.resume_args else ()
    own += ("--watch", options.watch) if options.watch else ()
    plan = Plan(
        script, arguments, options.save_every, options.kills_max, options.python, options=own, final=options.final
    )
    return plan, options


if __name__ == "__main__":
    raise SystemExit(main())
