"""The job's environment over machines: the record of the last session goes in, ours and its wheels go out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from supervisor.core.digest import SHA256
from supervisor.core.ports import Missing, Store, Taken
from supervisor.core.values import dataclass
from supervisor.engine.claims import ranks
from supervisor.engine.job import Prepared

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from supervisor.core.claim import Rank
    from supervisor.engine.place import RunPlace

RECORD = "environment.txt"


class Made(Protocol):
    """What an installer made (``supervisor.environments.prepare.Prepared``)."""

    @property
    def python(self) -> str: ...
    @property
    def env(self) -> dict[str, str]: ...
    @property
    def record(self) -> bytes: ...
    @property
    def installed(self) -> tuple[str, ...]: ...
    @property
    def drift(self) -> tuple[str, ...]: ...
    @property
    def seconds(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Installer:
    """``make(record of the last machine, folder with its wheels)``, and ``gather(made, into)`` of files worth keeping."""

    make: Callable[[bytes | None, Path | None], Made]
    gather: Callable[[Made, Path], list[Path]]


class Packages:
    """Implements ``job.Environments`` over a store."""

    def __init__(self, store: Store, run: RunPlace, installer: Installer, local: Path) -> None:
        self._store, self._run, self._installer, self._local = store, run, installer, local
        self._made: Made | None = None

    def prepare(self) -> Prepared:
        """Put back what the last session recorded, or make what the script asks for. Raises UserError, StoreError."""
        recorded = self._recorded()
        wheels = self._wheels() if recorded is not None else None
        made = self._made = self._installer.make(recorded, wheels)
        return Prepared(made.python, made.env, made.installed, made.drift, made.seconds)

    def record(self, rank: Rank) -> None:
        """Leave our record for the next machine."""
        if self._made is not None:
            try:
                self._store.create(f"{self._run.session(rank)}/{RECORD}", self._made.record)
            except Taken:
                return  # this session recorded it already, before an earlier attempt

    def keep(self) -> None:
        """Put files of the environment into the store, for machines that would take longer to fetch them anew."""
        if self._made is None or not self._made.installed:
            return
        folder = self._local / "wheels"
        there = {entry.name for entry in self._store.list(self._run.environments)}
        for file in self._installer.gather(self._made, folder):
            if file.name not in there:
                self._store.push(str(file), f"{self._run.environments}/{file.name}", SHA256)

    def _recorded(self) -> bytes | None:
        for rank in reversed(ranks(self._store, self._run)):
            try:
                return self._store.read(f"{self._run.session(rank)}/{RECORD}")
            except Missing:
                continue
        return None

    def _wheels(self) -> Path | None:
        entries = [entry for entry in self._store.list(self._run.environments) if not entry.folder]
        if not entries:
            return None
        folder = self._local / "wheels"
        folder.mkdir(parents=True, exist_ok=True)
        for entry in entries:
            target = folder / entry.name
            if not target.is_file() or target.stat().st_size != entry.bytes:
                partly = target.with_name(f".{entry.name}.part")
                self._store.pull(f"{self._run.environments}/{entry.name}", str(partly), SHA256)
                partly.replace(target)
        return folder
