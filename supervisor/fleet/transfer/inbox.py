"""Input of a machine: its job, its code, its secrets, and the parts in its inbox."""

from __future__ import annotations

import tarfile
from contextlib import suppress
from dataclasses import field
from typing import TYPE_CHECKING, Any

from supervisor.core.errors import FAILED_PRECHECKS, UserError
from supervisor.core.frozen import dataclass
from supervisor.core.project import Project, from_plain
from supervisor.core.wire import fields, shapes
from supervisor.fleet.transfer import part as transfer_part
from supervisor.fleet.transfer.reassembly import ChunkOutcome, Reassembly

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from supervisor.core.ports import Store
    from supervisor.fleet.transfer.outbox import Outbox

JOB, CODE, SECRETS, PROJECT = "job.json", "code.tar", "secrets.env", "project"  # in the machine's folder
KEY = "run.key"  # beside them: signs this run's records of packages, and no other run's
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class JobSpec:
    """The job: ``script`` under the project's folder, its ``arguments``, and ``options`` of `start` as typed.

    - ``seed``: sha256 of each part that must arrive first
    - ``release_at_s``: age of the machine at which it stops waiting
    - ``project``: identity of the project from the user's computer, because the machine has only a copy
    """

    name: str
    script: str
    arguments: Sequence[str] = ()
    options: Sequence[str] = ()
    seed: Sequence[str] = field(default=())
    release_at_s: float | None = None
    project: Project = Project()


@dataclass(frozen=True, slots=True)
class _Seed:
    sha256: shapes.Text


@dataclass(frozen=True, slots=True)
class _JobFile:
    """The job as it is written."""

    name: shapes.Name
    script: shapes.Text
    arguments: tuple[shapes.Text, ...] = ()
    options: tuple[shapes.Text, ...] = ()
    seed: tuple[_Seed, ...] = ()
    release_at_s: shapes.Finite | None = None
    project: Mapping[str, Any] | None = None


def job(folder: Path) -> JobSpec | None:
    """Return the job; None if it has not arrived. Raises UserError if it is damaged or from a newer version."""
    try:
        body = (folder / JOB).read_bytes()
    except FileNotFoundError:
        return None
    try:
        document = fields.document(body)
        if fields.whole(document.get("schema"), "schema") > SCHEMA:
            raise UserError(f"{JOB} is of a newer version of training-supervisor", "send this version's code with it")
        read = shapes.convert(_JobFile, document)
        return JobSpec(
            name=read.name,
            script=transfer_part.checked_path(read.script),
            arguments=read.arguments,
            options=read.options,
            seed=tuple(each.sha256 for each in read.seed),
            release_at_s=read.release_at_s,
            project=from_plain(read.project),
        )
    except ValueError as error:
        raise UserError(f"{JOB} is damaged: {error}", "launch again", FAILED_PRECHECKS) from error


def unpack(folder: Path) -> Path:
    """Unpack the user's project, once, and return its folder. Raises UserError."""
    project = folder / PROJECT
    if project.is_dir():
        return project
    beside = folder / f".new-{PROJECT}"
    with suppress(FileNotFoundError):
        _remove(beside)
    try:
        with tarfile.open(folder / CODE) as code:
            wanted = [each for each in code.getmembers() if each.isreg() and each.name.partition("/")[0] == PROJECT]
            safe_entries = [each for each in wanted if ".." not in each.name.split("/")]
            code.extractall(beside, safe_entries, **_checked())  # noqa: S202  only plain files whose names lead nowhere else
        (beside / PROJECT).rename(project)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UserError(f"{CODE} cannot be unpacked: {error}", "launch again", FAILED_PRECHECKS) from error
    _remove(beside)
    return project


def _checked() -> Any:
    """Return tarfile's own option against unsafe names; Python 3.11 has it from 3.11.4 on."""
    return {"filter": "data"} if hasattr(tarfile, "data_filter") else {}


class PartInbox:
    """Applies received parts in the order of names; an applied part is removed."""

    def __init__(self, folder: Path, store: Store, outbox: Outbox, notes: Path) -> None:
        self._folder, self._outbox = folder, outbox
        self._reassembly = Reassembly(store, notes / "gathering")
        self._list = notes / "applied"
        self.applied = set(self._list.read_text().split()) if self._list.exists() else set()
        self.error = ""
        folder.mkdir(parents=True, exist_ok=True)

    def apply(self) -> int:
        """Apply all received parts; return their number. Raises StoreError, OSError; call it again then."""
        arrived = sorted(self._folder.glob(f"*{transfer_part.SUFFIX}"))
        for file in arrived:
            try:
                opened = transfer_part.read(file)
            except transfer_part.TransferPartError as error:
                bad = self._folder / "bad"
                bad.mkdir(exist_ok=True)
                file.replace(bad / file.name)
                self.error = f"a part from your computer is incomplete: {error}"
                continue
            self._take(opened)
            with self._list.open("a", encoding="ascii") as applied:
                applied.write(f"{opened.sha256}\n")
            self.applied.add(opened.sha256)
            file.unlink(missing_ok=True)
        return len(arrived)

    def restore(self) -> bool:
        """Write the notes again from memory if they were removed; return True if they were."""
        gathering = self._list.parent / "gathering"
        if gathering.is_dir() and (self._list.exists() or not self.applied):
            return False
        for each in (gathering.parent, gathering):
            each.mkdir(exist_ok=True)
        self._list.write_text("".join(f"{sha256}\n" for sha256 in sorted(self.applied)), encoding="ascii")
        return True

    def missing_parts(self, seed: Collection[str]) -> int:
        """Return how many parts of the resume set have not been applied."""
        return len(set(seed) - self.applied)

    def _take(self, opened: transfer_part.OpenPart) -> None:
        held = []
        for piece, body in opened:
            outcome = self._reassembly.take(piece, body)
            if outcome in {ChunkOutcome.ADDED, ChunkOutcome.TWIN}:
                held.append(piece.path)
            elif outcome is not ChunkOutcome.INCOMPLETE:
                self.error = f"{piece.path} from home was {outcome.value}"
        self._outbox.mark_received(held)
        if opened.header.letter is not None:
            self._outbox.apply_ack(opened.header.letter)


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder)
