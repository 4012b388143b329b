"""The job's environment over machines: the record of the last session goes in, ours and its wheels go out."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Protocol

from supervisor.core import signing
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
WHEEL = ".whl"  # no other file of the store is ever installed


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
class Recorded:
    """The environment that the last machine recorded. ``signed``: the user's key says that one of their machines wrote it."""

    record: bytes
    signed: bool


@dataclass(frozen=True, slots=True)
class Installer:
    """``make(what the last machine recorded, what fetches its wheels)``, and ``gather(made, into, kept)``.

    What fetches is given a test for names, and returns the folder of the wheels that pass it, None where there are none.
    The second returns files worth keeping beside those in the store, whose names and lengths are ``kept``.
    """

    make: Callable[[Recorded | None, Callable[[Callable[[str], bool]], Path | None]], Made]
    gather: Callable[[Made, Path, Mapping[str, int | None]], list[Path]]


class Packages:
    """Implements ``job.Environments`` over a store. ``key``: the user's, "" where this machine has none."""

    def __init__(self, store: Store, run: RunPlace, installer: Installer, local: Path, key: str = "") -> None:
        self._store, self._run, self._installer, self._local = store, run, installer, local
        self._key = signing.key_of_run(key, run.name) if key else ""
        self._made: Made | None = None
        self._torn: set[str] = set()

    def prepare(self) -> Prepared:
        """Put back what the last session recorded, or make what the script asks for. Raises UserError, StoreError."""
        recorded = self._recorded()
        fetch = self._wheels if recorded is not None else lambda _: None
        try:
            made = self._made = self._installer.make(recorded, fetch)
        finally:
            self._forget_wheels()
        return Prepared(made.python, made.env, made.installed, made.drift, made.seconds)

    def record(self, rank: Rank) -> None:
        """Leave our record for the next machine."""
        if self._made is not None:
            path = f"{self._run.session(rank)}/{RECORD}"
            body = signing.signed(self._made.record, self._key) if self._key else self._made.record
            try:
                self._store.create(path, body)
            except Taken:  # this session recorded it already, before an earlier attempt
                if not is_whole(self._store.read(path)):
                    create_once(self._store, path, body)

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

    def _recorded(self) -> Recorded | None:
        """Return the newest record that is whole; one that its writer died in would put back a part of the packages."""
        torn = None
        for rank in newest_first(ranks(self._store, self._run)):
            try:
                body = self._store.read(f"{self._run.session(rank)}/{RECORD}")
            except Missing:
                continue
            if is_whole(body):
                return self._judged(body)
            torn = torn or body
        return None if torn is None else self._judged(torn)

    def _judged(self, body: bytes) -> Recorded:
        return Recorded(signing.without_signature(body), bool(self._key) and signing.is_signed(body, self._key))

    def _wheels(self, wanted: Callable[[str], bool]) -> Path | None:
        """Fetch the wheels whose names are ``wanted``; none where they would take more than half of the free disk."""
        listed = [entry for entry in self._store.list(self._run.environments) if not entry.folder]
        entries = [entry for entry in listed if entry.name.endswith(WHEEL) and wanted(entry.name)]
        folder = self._local / "wheels"
        folder.mkdir(parents=True, exist_ok=True)
        for file in folder.iterdir():  # of an earlier start that was cut short: others than these may lie there
            if file.name not in {entry.name for entry in entries}:
                file.unlink()
        if not entries or sum(entry.bytes or 0 for entry in entries) > shutil.disk_usage(folder).free // 2:
            return None
        for entry in entries:
            target = folder / entry.name
            if not target.is_file() or target.stat().st_size != entry.bytes:
                partly = target.with_name(f".{entry.name}.part")
                self._store.pull(f"{self._run.environments}/{entry.name}", str(partly), SHA256)
                if self._store.traits.evidence != "fsync" and _is_torn(partly):
                    self._torn.add(entry.name)
                    partly.unlink()  # a machine died while it put it in: no installer could use it
                    continue
                partly.replace(target)
        return folder


def _is_torn(file: Path) -> bool:
    from zipfile import is_zipfile  # imported only where there are wheels from a drive

    return not is_zipfile(file)
