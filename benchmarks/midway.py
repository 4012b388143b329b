"""What a resume in the middle of an epoch costs: the same at its begin and near its end, because nothing is read again.

python -m benchmarks.midway --script trainers/toy.py --epoch-steps 1000 [--tries 3] [-- ARGUMENTS OF THE SCRIPT]

The run is stopped at 1 % and at 99 % of its first epoch. From each it is resumed on a blank machine for one step, and
what is timed is the life of that trainer: imports, the data, the restore, the way to the position, one step, one save.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.machines import ROOT, Machine
from supervisor.core import events as ev
from supervisor.engine import journal
from supervisor.engine.claims import ranks
from supervisor.engine.place import RunPlace
from supervisor.stores.folder import FolderStore

if TYPE_CHECKING:
    from collections.abc import Sequence

SHARES = (0.01, 0.99)


def stopped_at(folder: Path, step: int, options: argparse.Namespace, arguments: Sequence[str]) -> Path:
    """Run to ``step`` and no further; return the store."""
    machine = Machine(folder / "machine", folder / "store", python=options.python)
    _until(machine, step, options, arguments)
    for end in machine.store.glob("*/*/end-*.json"):
        end.unlink()  # as if the machine had been lost then: a run that says it is finished is not resumed
    return machine.store


def resumed_s(store: Path, folder: Path, step: int, options: argparse.Namespace, arguments: Sequence[str]) -> float:
    """Resume a copy of the run on a blank machine for one step; return how long its trainer lived, in seconds."""
    machine = Machine(folder / "machine", folder / "store", python=options.python)
    shutil.copytree(store, machine.store)
    _until(machine, step + 1, options, arguments)
    run, found = RunPlace(options.script.stem), FolderStore(str(machine.store))
    last = max(ranks(found, run))
    at = {type(record.value): record.at for record in journal.records(found, run, last)}
    return at[ev.TrainerExited].since(at[ev.Launched])


def _until(machine: Machine, step: int, options: argparse.Namespace, arguments: Sequence[str]) -> None:
    turn = machine.start(
        options.script, "--save-every", "1h", "--no-install", arguments=arguments,
        environ={"SUPERVISOR_RUN_STOP_AT": str(step)},
    )  # fmt: skip
    if turn.wait(1200) != 0:
        raise SystemExit(f"it ended with {turn.process.returncode}:\n{turn.text}")


def main() -> None:
    """Print a table, then the same as JSON."""
    own, arguments = _split(sys.argv[1:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--script", type=Path, default=ROOT / "trainers" / "toy.py")
    parser.add_argument("--epoch-steps", type=int, default=1000, help="steps in an epoch of the script")
    parser.add_argument("--tries", type=int, default=3)
    parser.add_argument("--python", default=sys.executable)
    options = parser.parse_args(own)
    options.script = options.script.resolve()
    with tempfile.TemporaryDirectory() as name:
        folder, found = Path(name), {}
        steps = {share: max(1, round(share * options.epoch_steps)) for share in SHARES}
        stores = {share: stopped_at(folder / f"{share}", step, options, arguments) for share, step in steps.items()}
        for attempt in range(options.tries):  # in turns, so that a busy moment of the machine meets both
            for share, step in steps.items():
                taken_s = resumed_s(stores[share], folder / f"{share}-{attempt}", step, options, arguments)
                found[share] = min(found.get(share, taken_s), taken_s)
    first, last = (found[share] for share in SHARES)
    for share in SHARES:
        print(f"resumed at {share:4.0%} of an epoch of {options.epoch_steps:,} steps: {found[share]:6.2f} s")
    print(f"ratio: {last / first:.2f}")
    print(json.dumps({"script": options.script.name, "at_1_percent_s": first, "at_99_percent_s": last}))


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    at = words.index("--") if "--" in words else len(words)
    return words[:at], words[at + 1 :]


if __name__ == "__main__":
    main()
