"""The job's environment over machines: the record of the last session goes in, ours and its wheels go out."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Protocol

from supervisor.core.digest import SHA256
from supervisor.core.environment import is_whole
from supervisor.core.ports import Missing, Store, Taken
from supervisor.core.values import dataclass
from supervisor.engine.claims import newest_first, ranks
from supervisor.engine.job import Prepared
from supervisor.engine.publication import create_once

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
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
    """``make(record of the last machine, what fetches its wheels)``, and ``gather(made, into, kept)``.

    The second returns files worth keeping beside those in the store, whose names and lengths are ``kept``.
    """

    make: Callable[[bytes | None, Callable[[], Path | None]], Made]
    gather: Callable[[Made, Path, Mapping[str, int | None]], list[Path]]


class Packages:
    """Implements ``job.Environments`` over a store."""

    def __init__(self, store: Store, run: RunPlace, installer: Installer, local: Path) -> None:
        self._store, self._run, self._installer, self._local = store, run, installer, local
        self._made: Made | None = None
        self._torn: set[str] = set()

    def prepare(self) -> Prepared:
        """Put back what the last session recorded, or make what the script asks for. Raises UserError, StoreError."""
        recorded = self._recorded()
        fetch = self._wheels if recorded is not None else lambda: None
        try:
            made = self._made = self._installer.make(recorded, fetch)
        finally:
            self._forget_wheels()
        return Prepared(made.python, made.env, made.installed, made.drift, made.seconds)

    def record(self, rank: Rank) -> None:
        """Leave our record for the next machine."""
        if self._made is not None:
            path = f"{self._run.session(rank)}/{RECORD}"
            try:
                self._store.create(path, self._made.record)
            except Taken:  # this session recorded it already, before an earlier attempt
                if not is_whole(self._store.read(path)):
                    create_once(self._store, path, self._made.record)

    def keep(self) -> None:
        """Put files of the environment into the store, for machines that would take longer to fetch them anew."""
        if self._made is None or not self._made.installed:
            return
        folder = self._local / "wheels"
        there = {entry.name: entry.bytes for entry in self._store.list(self._run.environments)}
        kept = {name: length for name, length in there.items() if name not in self._torn}
        for file in self._installer.gather(self._made, folder, kept):
            path = f"{self._run.environments}/{file.name}"
            if there.get(file.name) not in {None, file.stat().st_size}:
                self._store.delete(path)  # a part, left by a machine that died in it
                del there[file.name]
            if file.name not in there:
                self._store.push(str(file), path, SHA256)
        self._forget_wheels()

    def _forget_wheels(self) -> None:
        """Remove what was fetched or gathered here: it is installed, or in the store, and needed no second time."""
        shutil.rmtree(self._local / "wheels", ignore_errors=True)

    def _recorded(self) -> bytes | None:
        """Return the newest record that is whole; one that its writer died in would put back a part of the packages."""
        torn = None
        for rank in newest_first(ranks(self._store, self._run)):
            try:
                body = self._store.read(f"{self._run.session(rank)}/{RECORD}")
            except Missing:
                continue
            if is_whole(body):
                return body
            torn = torn or body
        return torn

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
                if self._store.traits.evidence != "fsync" and _is_torn(partly, target.suffix):
                    self._torn.add(entry.name)
                    partly.unlink()  # a machine died while it put it in: no installer could use it
                    continue
                partly.replace(target)
        return folder


def _is_torn(file: Path, suffix: str) -> bool:
    from zipfile import is_zipfile  # imported only where there are wheels from a drive

    return suffix == ".whl" and not is_zipfile(file)
