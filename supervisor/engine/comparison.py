"""Two runs of the same script compared: the final state bit for bit, and the log of all steps."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.core import events as ev
from supervisor.core import messages, program
from supervisor.core.carried import FILES_FILE
from supervisor.core.carried import parse as parse_files
from supervisor.core.checkpoint import Verdict
from supervisor.core.content import STATE_FILE
from supervisor.core.errors import FAILED, UserError
from supervisor.core.naming import is_stream
from supervisor.core.values import dataclass
from supervisor.engine import catalogue, checkpoints, journal, steplog
from supervisor.engine.claims import local_folder, ranks, read_claim
from supervisor.engine.launcher import PACKAGES, own_packages
from supervisor.engine.place import RunPlace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from supervisor.core.claim import Rank
    from supervisor.core.ports import Store

RUN = RunPlace("rehearsal")
FILES = "files"  # stands for the attached objects where a script that nobody changed has none
CHECKOUT = Path(__file__).resolve().parents[2]
# Columns that hold measured times or speeds: they differ between any two runs and say nothing about the state.
_MEASURED = re.compile(r"(^|_)(s|ms|us|time|seconds|secs|elapsed|speed|throughput|fps|per_s|per_sec|per_second)$")


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was compared, and where it is not the same.

    ``attached``: names of objects, ``generators``: of random generators; ``differ``: paths in the final state; ``row``: the first step whose logged values differ, in ``columns``;
    ``measured``: columns, and logs among files, that differ as times do; ``ahead``: paths that were left out because they hold
    what was read ahead in the data; ``resumed``: the steps the second run went on from; ``anew``: those of them at which
    the script read nothing of its files, or did all of its steps again; ``rows``: steps with logged values; ``files``: how
    many files were compared.
    """

    steps: tuple[int, int]
    attached: tuple[str, ...]
    generators: tuple[str, ...]
    differ: tuple[str, ...]
    row: int | None
    columns: tuple[str, ...]
    measured: tuple[str, ...]
    ahead: tuple[str, ...]
    resumed: tuple[int, ...]
    anew: tuple[int, ...] = ()
    rows: int = 0
    files: int = 0

    @property
    def exact(self) -> bool:
        """The two are the same, bit for bit, and the second really went on."""
        return self.steps[0] == self.steps[1] and not self.differ and self.row is None and not self.anew

    @property
    def empty(self) -> bool:
        """Nothing was there to be compared."""
        carries = FILES in self.attached
        return not self.rows and not (self.files if carries else self.attached)


def compare(one: Store, other: Store, into: Path) -> Comparison:
    """Compare the newest checkpoints and the step logs of the run in two stores; ``into`` is room on the local disk."""
    folders = [_final(store, into / f"final-{number}") for number, store in enumerate((one, other))]
    found = _compared(folders)
    logs = [{row["step"]: row for row in steplog.joined(each, RUN)} for each in (one, other)]
    row, columns, measured = first_row(*logs)
    resumed, anew = _resumed(other)
    unattached = not all((folder / STATE_FILE).is_file() for folder in folders)
    if unattached and resumed and not anew and (done := _steps_done(one)) and _steps_done(other) >= done:
        anew = resumed[-1:]  # whatever it read, it did all of its steps again
    return Comparison(
        steps=(found["step"][0], found["step"][1]),
        attached=tuple(found["attached"]),
        generators=tuple(found["generators"]),
        differ=tuple(found["differ"]),
        row=row,
        columns=columns,
        measured=(*measured, *found.get("measured", ())),
        ahead=tuple(found.get("ahead", ())),
        resumed=resumed,
        anew=anew,
        rows=len([each for each in logs[0].values() if each.keys() - {"step"}]),
        files=found.get("files", 0),
    )


def _compared(folders: Sequence[Path]) -> dict[str, Any]:
    """Compare the attached state, the script's files, or both: whatever the two checkpoints hold."""
    attached, carried = (all((each / name).is_file() for each in folders) for name in (STATE_FILE, FILES_FILE))
    if not carried:
        return _states_compared(folders)
    files = _files_compared(*folders)
    if not attached:
        return files
    states = _states_compared(folders)
    return {**states, "measured": files["measured"], "differ": [*states["differ"], *files["differ"]]}


def _states_compared(folders: Sequence[Path]) -> dict[str, Any]:
    command = [sys.executable, "-m", "supervisor.trainer.compare", *map(str, folders)]
    # a process of its own, because reading what a checkpoint holds is the business of the script's side
    variables = environ({PACKAGES: own_packages()})
    told = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    if told.returncode != 0:
        raise UserError(f"the two checkpoints cannot be compared: {told.stderr.strip()}", "report this", FAILED)
    return dict(json.loads(told.stdout))


def _files_compared(one: Path, other: Path) -> dict[str, Any]:
    """Compare the files of a script that nobody changed by their bytes: what is in them is its own business."""
    left, right = (parse_files((folder / FILES_FILE).read_bytes()) for folder in (one, other))
    ours, theirs = (
        {entry.path: entry.piece.digest if entry.piece else entry.target for entry in each.entries}
        for each in (left, right)
    )
    paths = [path for path in sorted({*ours, *theirs}) if ours.get(path) != theirs.get(path)]
    return {
        "step": (left.step, left.step),  # of files alone it is a label that only grows, not a count
        "attached": [FILES],
        "generators": [],
        "differ": [f"{FILES}.{path}" for path in paths if not is_stream(path)],
        "measured": [path for path in paths if is_stream(path)],
        "files": len([path for path in {*ours, *theirs} if not is_stream(path)]),
    }


def first_row(
    one: Mapping[int, Mapping[str, Any]], other: Mapping[int, Mapping[str, Any]]
) -> tuple[int | None, tuple[str, ...], tuple[str, ...]]:
    """Return the first step whose rows differ, its columns, and the columns that differ as times do."""
    measured: dict[str, None] = {}
    for step in sorted(one.keys() | other.keys()):
        left, right = one.get(step, {}), other.get(step, {})
        names = [name for name in {**left, **right} if left.get(name) != right.get(name)]
        measured |= dict.fromkeys(name for name in names if _MEASURED.search(name))
        real = tuple(name for name in names if not _MEASURED.search(name))
        if real:
            return step, real, tuple(measured)
    return None, (), tuple(measured)


def environ(more: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a child of a rehearsal: ours, without what an outer supervisor may have left in them."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("SUPERVISOR_RUN_")}
    path = os.pathsep.join(filter(None, [str(CHECKOUT), kept.get("PYTHONPATH", "")]))
    return {**kept, "PYTHONPATH": path, **program.environment(), **more}


def _final(store: Store, to: Path) -> Path:
    newest = max(checkpoints.find(store, RUN), key=lambda each: each.id)
    found = catalogue.export(store, RUN, newest, to)
    if found.verdict is not Verdict.WHOLE:
        raise UserError(f"{newest.id} is not whole: {found.why}", "see whether the disk is full or failing", FAILED)
    return to


def _resumed(store: Store) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the steps from which trainers went on, in order, and those of which the script read nothing before its first."""
    resumed: list[int] = []
    anew: list[int] = []
    for value in _values(store):
        if isinstance(value, ev.CheckpointReady) and value.id is not None:
            resumed.append(value.id.step)
        elif _reads(value) == "" and resumed:
            anew.append(resumed[-1])
    return tuple(resumed), tuple(anew)


def _reads(value: Any) -> str | None:
    """Return the file that a script is told to have read before its first step, "" for none; None for other records."""
    said = value.message if isinstance(value, ev.TrainerSaid) else None
    return said.path if isinstance(said, messages.ReadBack) and not said.late else None


def _steps_done(store: Store) -> int:
    """Return how many steps the last trainer has done by itself, as its hooks counted; 0 where nobody counts."""
    base = reached = 0
    for value in _values(store):
        if isinstance(value, ev.CheckpointReady):
            base, reached = value.id.step if value.id else 0, 0
        elif isinstance(value, ev.Launched):
            reached = 0
        elif isinstance(value, ev.TrainerSaid) and isinstance(value.message, messages.Beat):
            reached = max(reached, value.message.step)
    return max(0, reached - base)


def saved_outside(store: Store, folder: Path) -> tuple[str, ...]:
    """Return what the script was seen to save outside of a folder."""
    said = (value.message for value in _values(store) if isinstance(value, ev.TrainerSaid))
    paths = dict.fromkeys(each.path for each in said if isinstance(each, messages.Saved))
    return tuple(path for path in paths if not Path(path).is_relative_to(folder))


def _values(store: Store) -> Iterator[Any]:
    return (record.value for rank in ranks(store, RUN) for record in _records(store, rank))


def _records(store: Store, rank: Rank) -> list[journal.Record]:
    """Return a session's journal, from its own disk if it was killed before it could put the end into the store."""
    folder = local_folder(read_claim(store, RUN, rank))
    try:
        if folder is not None:
            return journal.parse_piece((folder / "journal.jsonl").read_bytes())[1]
    except FileNotFoundError:
        pass  # it ended in order and took its folder with it
    return list(journal.records(store, RUN, rank))
