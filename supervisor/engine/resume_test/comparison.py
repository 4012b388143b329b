"""Comparison of two runs of the same script: the final state bit for bit, and the log of all steps."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.core import shell_commands
from supervisor.core.checkpoint.checkpoint_json import STATE_FILE
from supervisor.core.checkpoint.file_manifest import FILES_FILE
from supervisor.core.checkpoint.file_manifest import parse as parse_files
from supervisor.core.checkpoint.manifest import Validity
from supervisor.core.errors import FAILED, UserError
from supervisor.core.frozen import dataclass
from supervisor.core.session import events as ev
from supervisor.core.unmodified.file_patterns import is_stream
from supervisor.core.wire import messages
from supervisor.engine import journal
from supervisor.engine.paths import RunPaths
from supervisor.engine.resume import fetch as checkpoint_fetch
from supervisor.engine.run_catalog import checkpoint_admin
from supervisor.engine.run_catalog.claims import local_folder, ranks, read_claim
from supervisor.engine.trainer_process.launcher import PACKAGES, own_packages
from supervisor.engine.upload import step_log as step_log_store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from supervisor.core.checkpoint.session_id import SessionId
    from supervisor.core.ports import Store

RUN = RunPaths("rehearsal")
FILES = "files"  # stands for the attached objects if an unmodified script has none
CHECKOUT = Path(__file__).resolve().parents[3]
# Columns with measured times or speeds: they differ between any two runs and do not belong to the state.
_MEASURED = re.compile(r"(^|_)(s|ms|us|time|seconds|secs|elapsed|speed|throughput|fps|per_s|per_sec|per_second)$")


@dataclass(frozen=True, slots=True)
class Comparison:
    """Result of a comparison.

    - ``attached``: names of objects; ``generators``: of random generators
    - ``differ``: paths in the final state that differ
    - ``row``: the first step with different logged values, in ``columns``
    - ``measured``: columns, and logs among files, that differ as times do
    - ``ahead``: paths left out because they hold data that was read ahead
    - ``resumed``: the steps from which the second run resumed
    - ``anew``: those of them where the script read none of its files, or repeated all steps
    - ``rows``: steps with logged values
    - ``files``: number of compared files
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
        """True if the two are equal bit for bit, and the second really resumed."""
        return self.steps[0] == self.steps[1] and not self.differ and self.row is None and not self.anew

    @property
    def empty(self) -> bool:
        """True if there was nothing to compare."""
        carries = FILES in self.attached
        return not self.rows and not (self.files if carries else self.attached)


def compare(one: Store, other: Store, into: Path) -> Comparison:
    """Compare the newest checkpoints and the step logs of the run in two stores. ``into``: space on the local disk."""
    folders = [_final(store, into / f"final-{number}") for number, store in enumerate((one, other))]
    found = _compared(folders)
    logs = [{row["step"]: row for row in step_log_store.joined(each, RUN)} for each in (one, other)]
    row, columns, measured = first_row(*logs)
    resumed, anew = _resumed(other)
    unattached = not all((folder / STATE_FILE).is_file() for folder in folders)
    if unattached and resumed and not anew and (done := _steps_done(one)) and _steps_done(other) >= done:
        anew = resumed[-1:]  # it repeated all of its steps, whatever it read
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
    """Compare the attached state, the script's files, or both, as the two checkpoints hold them."""
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
    # a process of its own, because only the script's side may read a checkpoint's content
    variables = environ({PACKAGES: own_packages()})
    result = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise UserError(f"the two checkpoints cannot be compared: {result.stderr.strip()}", "report this", FAILED)
    return dict(json.loads(result.stdout))


def _files_compared(one: Path, other: Path) -> dict[str, Any]:
    """Compare the files of an unmodified script byte by byte."""
    left, right = (parse_files((folder / FILES_FILE).read_bytes()) for folder in (one, other))
    ours, theirs = (
        {entry.path: entry.piece.digest if entry.piece else entry.target for entry in each.entries}
        for each in (left, right)
    )
    paths = [path for path in sorted({*ours, *theirs}) if ours.get(path) != theirs.get(path)]
    return {
        "step": (left.step, left.step),  # with files only, it is an increasing label, not a count
        "attached": [FILES],
        "generators": [],
        "differ": [f"{FILES}.{path}" for path in paths if not is_stream(path)],
        "measured": [path for path in paths if is_stream(path)],
        "files": len([path for path in {*ours, *theirs} if not is_stream(path)]),
    }


def first_row(
    one: Mapping[int, Mapping[str, Any]], other: Mapping[int, Mapping[str, Any]]
) -> tuple[int | None, tuple[str, ...], tuple[str, ...]]:
    """Return the first step with different rows, its columns, and the columns that differ as times do."""
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
    """Return the variables for a child of a resume test: ours, without those of an outer supervisor."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("SUPERVISOR_RUN_")}
    path = os.pathsep.join(filter(None, [str(CHECKOUT), kept.get("PYTHONPATH", "")]))
    return {**kept, "PYTHONPATH": path, **shell_commands.environment(), **more}


def _final(store: Store, to: Path) -> Path:
    newest = max(checkpoint_fetch.find(store, RUN), key=lambda each: each.id)
    found = checkpoint_admin.export(store, RUN, newest, to)
    if found.verdict is not Validity.WHOLE:
        raise UserError(f"{newest.id} is not whole: {found.why}", "see whether the disk is full or failing", FAILED)
    return to


def _resumed(store: Store) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the steps from which trainers resumed, and those at which the script read no file before its first step."""
    resumed: list[int] = []
    anew: list[int] = []
    for value in _values(store):
        if isinstance(value, ev.CheckpointReady) and value.id is not None:
            resumed.append(value.id.step)
        elif _file_read(value) == "" and resumed:
            anew.append(resumed[-1])
    return tuple(resumed), tuple(anew)


def _file_read(value: Any) -> str | None:
    """Return the file that a script read before its first step, "" for none; None for other records."""
    message = value.message if isinstance(value, ev.TrainerMessage) else None
    return message.path if isinstance(message, messages.ReadBack) and not message.late else None


def _steps_done(store: Store) -> int:
    """Return the number of steps of the last trainer, as counted by its hooks; 0 if they are not counted."""
    base = reached = 0
    for value in _values(store):
        if isinstance(value, ev.CheckpointReady):
            base, reached = value.id.step if value.id else 0, 0
        elif isinstance(value, ev.TrainerStarted):
            reached = 0
        elif isinstance(value, ev.TrainerMessage) and isinstance(value.message, messages.Heartbeat):
            reached = max(reached, value.message.step)
    return max(0, reached - base)


def saved_outside(store: Store, folder: Path) -> tuple[str, ...]:
    """Return the files that the script was seen to save outside of a folder."""
    message = (value.message for value in _values(store) if isinstance(value, ev.TrainerMessage))
    paths = dict.fromkeys(each.path for each in message if isinstance(each, messages.ScriptSavedFile))
    return tuple(path for path in paths if not Path(path).is_relative_to(folder))


def _values(store: Store) -> Iterator[Any]:
    return (record.value for rank in ranks(store, RUN) for record in _records(store, rank))


def _records(store: Store, rank: SessionId) -> list[journal.JournalRecord]:
    """Return a session's journal; after a kill its end is only on the local disk."""
    folder = local_folder(read_claim(store, RUN, rank))
    try:
        if folder is not None:
            return journal.parse_piece((folder / "journal.jsonl").read_bytes())[1]
    except FileNotFoundError:
        pass  # it ended in order and removed its folder
    return list(journal.records(store, RUN, rank))
