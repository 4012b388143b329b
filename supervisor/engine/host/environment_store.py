"""The job's environment across machines: the last session's record is read, ours and its wheels are written."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Protocol

from supervisor.core import signing
from supervisor.core.digest import SHA256
from supervisor.core.environment import is_whole
from supervisor.core.frozen import dataclass
from supervisor.core.ports import AlreadyExists, NotFound, Store
from supervisor.engine.context import PreparedEnvironment
from supervisor.engine.run_catalog.claims import newest_first, ranks
from supervisor.engine.upload.uploader import create_idempotent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from supervisor.core.checkpoint.session_id import SessionId
    from supervisor.engine.paths import RunPaths

RECORD = "environment.txt"
WHEEL = ".whl"  # no other file of the store is ever installed


class PreparedPackages(Protocol):
    """Result of an installer (``supervisor.environments.prepare.PreparedInterpreter``)."""

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
class Recorded:
    """The environment recorded by the last machine. ``signed``: the user's key confirms that their machine wrote it."""

    record: bytes
    signed: bool


@dataclass(frozen=True, slots=True)
class EnvironmentInstaller:
    """Functions of an installer: ``make(recorded, fetch)`` and ``gather(made, into, kept)``.

    ``fetch`` gets a test for names and returns the folder of the matching wheels, None if there are none. ``gather``
    returns files worth keeping besides those in the store, given as ``kept`` with names and lengths.
    """

    make: Callable[[Recorded | None, Callable[[Callable[[str], bool]], Path | None]], PreparedPackages]
    gather: Callable[[PreparedPackages, Path, Mapping[str, int | None]], list[Path]]


class EnvironmentStore:
    """Environment records of a store. ``key``: the user's key, "" if this machine has none."""

    def __init__(
        self, store: Store, run: RunPaths, installer: EnvironmentInstaller, local: Path, key: str = ""
    ) -> None:
        self._store, self._run, self._installer, self._local = store, run, installer, local
        self._key = signing.key_of_run(key, run.name) if key else ""
        self._prepared: PreparedPackages | None = None
        self._partial: set[str] = set()

    def prepare(self) -> PreparedEnvironment:
        """Restore the environment of the last session, or make the one that the script requires.

        Raises UserError, StoreError.
        """
        recorded = self._recorded()
        fetch = self._wheels if recorded is not None else lambda _: None
        try:
            made = self._prepared = self._installer.make(recorded, fetch)
        finally:
            self._forget_wheels()
        return PreparedEnvironment(made.python, made.env, made.installed, made.drift, made.seconds)

    def record(self, rank: SessionId) -> None:
        """Record our environment for the next machine."""
        if self._prepared is not None:
            path = f"{self._run.session(rank)}/{RECORD}"
            body = signing.signed(self._prepared.record, self._key) if self._key else self._prepared.record
            try:
                self._store.create(path, body)
            except AlreadyExists:  # this session recorded it already, before an earlier attempt
                if not is_whole(self._store.read(path)):
                    create_idempotent(self._store, path, body)

    def keep(self) -> None:
        """Put files of the environment into the store, for machines that would take longer to download them."""
        if self._prepared is None or not self._prepared.installed:
            return
        folder = self._local / "wheels"
        there = {entry.name: entry.bytes for entry in self._store.list(self._run.environments)}
        complete = {name: length for name, length in there.items() if name not in self._partial}
        for file in self._installer.gather(self._prepared, folder, complete):
            path = f"{self._run.environments}/{file.name}"
            if there.get(file.name) not in {None, file.stat().st_size}:
                self._store.delete(path)  # a partial file of a machine that died while writing it
                del there[file.name]
            if file.name not in there:
                self._store.push(str(file), path, SHA256)
        self._forget_wheels()

    def _forget_wheels(self) -> None:
        """Remove the fetched and gathered files: they are installed or in the store, and not needed again."""
        shutil.rmtree(self._local / "wheels", ignore_errors=True)

    def _recorded(self) -> Recorded | None:
        """Return the newest complete record. A partial one would restore only a part of the packages."""
        torn = None
        for rank in newest_first(ranks(self._store, self._run)):
            try:
                body = self._store.read(f"{self._run.session(rank)}/{RECORD}")
            except NotFound:
                continue
            if is_whole(body):
                return self._verified(body)
            torn = torn or body
        return None if torn is None else self._verified(torn)

    def _verified(self, body: bytes) -> Recorded:
        return Recorded(signing.without_signature(body), bool(self._key) and signing.is_signed(body, self._key))

    def _wheels(self, wanted: Callable[[str], bool]) -> Path | None:
        """Fetch the ``wanted`` wheels; none if they would take more than half of the free disk."""
        listed = [entry for entry in self._store.list(self._run.environments) if not entry.folder]
        entries = [entry for entry in listed if entry.name.endswith(WHEEL) and wanted(entry.name)]
        folder = self._local / "wheels"
        folder.mkdir(parents=True, exist_ok=True)
        for file in folder.iterdir():  # leftovers of an interrupted start: other files may lie there
            if file.name not in {entry.name for entry in entries}:
                file.unlink()
        if not entries or sum(entry.bytes or 0 for entry in entries) > shutil.disk_usage(folder).free // 2:
            return None
        for entry in entries:
            target = folder / entry.name
            if not target.is_file() or target.stat().st_size != entry.bytes:
                partly = target.with_name(f".{entry.name}.part")
                self._store.pull(f"{self._run.environments}/{entry.name}", str(partly), SHA256)
                if self._store.traits.evidence != "fsync" and _is_partial(partly):
                    self._partial.add(entry.name)
                    partly.unlink()  # a machine died while storing it: no installer could use it
                    continue
                partly.replace(target)
        return folder


def _is_partial(file: Path) -> bool:
    from zipfile import is_zipfile  # imported only if there are wheels from a drive

    return not is_zipfile(file)
