"""What home has sent to a machine: its job, its code, its secrets, and parcels in the inbox."""

from __future__ import annotations

import tarfile
from contextlib import suppress
from dataclasses import field
from typing import TYPE_CHECKING, Any

from supervisor.core import fields, shapes
from supervisor.core.errors import FAILED_PRECHECKS, UserError
from supervisor.core.project import Project, from_plain
from supervisor.core.values import dataclass
from supervisor.fleet import parcels
from supervisor.fleet.gathering import Fate, Gathering

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from supervisor.core.ports import Store
    from supervisor.fleet.outbox import Outbox

JOB, CODE, SECRETS, PROJECT = "job.json", "code.tar", "secrets.env", "project"  # in the machine's folder
KEY = "run.key"  # beside them: signs this run's records of packages, and no other run's
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Job:
    """What is to run: ``script`` under the project's folder, its ``arguments``, ``options`` of `start` as they are typed.

    ``seed``: the sha256 of each parcel that must have come before; ``release_at_s``: the age of the machine at which
    nothing is waited for any more. ``project``: what home knows of the project, since the machine has a copy only.
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
class _Told:
    """The job as it is written."""

    name: shapes.Name
    script: shapes.Text
    arguments: tuple[shapes.Text, ...] = ()
    options: tuple[shapes.Text, ...] = ()
    seed: tuple[_Seed, ...] = ()
    release_at_s: shapes.Finite | None = None
    project: Mapping[str, Any] | None = None


def job(folder: Path) -> Job | None:
    """Return the job, None while it has not come. Raises UserError where it is damaged or a newer version's."""
    try:
        body = (folder / JOB).read_bytes()
    except FileNotFoundError:
        return None
    try:
        told = fields.document(body)
        if fields.whole(told.get("schema"), "schema") > SCHEMA:
            raise UserError(f"{JOB} is of a newer version of training-supervisor", "send this version's code with it")
        read = shapes.of(_Told, told)
        return Job(
            name=read.name,
            script=parcels.checked_path(read.script),
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
            kept = [each for each in wanted if ".." not in each.name.split("/")]
            code.extractall(beside, kept, **_checked())  # noqa: S202  only plain files whose names lead nowhere else
        (beside / PROJECT).rename(project)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UserError(f"{CODE} cannot be unpacked: {error}", "launch again", FAILED_PRECHECKS) from error
    _remove(beside)
    return project


def _checked() -> Any:
    """Return the option by which tarfile itself refuses names that lead out; Python 3.11 has it from 3.11.4 on."""
    return {"filter": "data"} if hasattr(tarfile, "data_filter") else {}


class Inbox:
    """Applies what comes, in the order of names; each parcel goes when it was applied."""

    def __init__(self, folder: Path, store: Store, outbox: Outbox, notes: Path) -> None:
        self._folder, self._outbox = folder, outbox
        self._gathering = Gathering(store, notes / "gathering")
        self._list = notes / "applied"
        self.applied = set(self._list.read_text().split()) if self._list.exists() else set()
        self.trouble = ""
        folder.mkdir(parents=True, exist_ok=True)

    def apply(self) -> int:
        """Apply all that is there; return how many parcels that was. Raises StoreError, OSError, to be called again."""
        arrived = sorted(self._folder.glob(f"*{parcels.SUFFIX}"))
        for file in arrived:
            try:
                opened = parcels.read(file)
            except parcels.ParcelError as error:
                bad = self._folder / "bad"
                bad.mkdir(exist_ok=True)
                file.replace(bad / file.name)
                self.trouble = f"what home sent is not whole: {error}"
                continue
            self._take(opened)
            with self._list.open("a", encoding="ascii") as applied:
                applied.write(f"{opened.sha256}\n")
            self.applied.add(opened.sha256)
            file.unlink(missing_ok=True)
        return len(arrived)

    def mend(self) -> bool:
        """Make the notes again where they were removed: they are in the memory too. Say whether they were."""
        gathering = self._list.parent / "gathering"
        if gathering.is_dir() and (self._list.exists() or not self.applied):
            return False
        for each in (gathering.parent, gathering):
            each.mkdir(exist_ok=True)
        self._list.write_text("".join(f"{sha256}\n" for sha256 in sorted(self.applied)), encoding="ascii")
        return True

    def lacks(self, seed: Collection[str]) -> int:
        """Return how many parcels of the seed have not been applied."""
        return len(set(seed) - self.applied)

    def _take(self, opened: parcels.Opened) -> None:
        held = []
        for piece, body in opened:
            fate = self._gathering.take(piece, body)
            if fate in {Fate.ADDED, Fate.TWIN}:
                held.append(piece.path)
            elif fate is not Fate.INCOMPLETE:
                self.trouble = f"{piece.path} from home was {fate.value}"
        self._outbox.hold(held)
        if opened.header.letter is not None:
            self._outbox.hear(opened.header.letter)


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder)
