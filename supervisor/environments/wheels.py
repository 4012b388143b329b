"""Wheels kept in the run's store, so that the next machine needs no network. Collected while the trainer runs."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from supervisor.core.environment import EnvironmentRecord, write_locked
from supervisor.environments.installers.pip import Pip
from supervisor.environments.installers.port import InstallerFailed
from supervisor.environments.wheel_files import package_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from supervisor.core.environment import LockedPackage
    from supervisor.environments.prepare import PreparedInterpreter

# Default of --keep-packages: 3 s to read at a mounted Drive's 30 MB/s, and a small part of a Drive of 15 GB.
KEPT_BYTES_MAX = 100_000_000
# Installed size of a package as a multiple of its wheel (1.4 GB from 329 MB, 2.4 GB from 699 MB).
_INSTALLED_PER_WHEEL = 3


def wheels_to_keep(
    prepared: PreparedInterpreter,
    into: Path,
    kept: Mapping[str, int | None] = MappingProxyType({}),
    *,
    say: Callable[[str], None] = lambda _: None,
    kept_bytes_max: int = KEPT_BYTES_MAX,
    environ: Mapping[str, str] = os.environ,
) -> list[Path]:
    """Put the added packages' wheels that the store lacks into ``into``; return those worth keeping.

    The result is all or none: a part would need the index anyway. The call may take minutes, so it comes after the
    trainer's start. A failure is only reported, because a kept wheel only saves time.

    Args:
        prepared: the environment.
        into: folder for the files.
        kept: names and sizes of the wheels in the store.
        say: receives messages.
        kept_bytes_max: limit of all kept wheels.
        environ: the environment variables.
    """
    record = EnvironmentRecord.from_bytes(prepared.record)
    into.mkdir(parents=True, exist_ok=True)
    for partial in into.glob(".tmp-*"):
        shutil.rmtree(partial, ignore_errors=True)
    if not kept_bytes_max:
        return []
    if _installed_bytes(Path(prepared.python).parent.parent) > _INSTALLED_PER_WHEEL * kept_bytes_max:
        say(
            f"the next machine downloads the job's packages again: over {kept_bytes_max // 1_000_000} MB they are not "
            "copied into the store (--keep-packages)"
        )
        return []
    in_store = {package_of(name): length or 0 for name, length in kept.items()}
    have = {package_of(file.name) for file in into.glob("*.whl")} | in_store.keys()
    missing = [one for one in record.difference if (one.name, one.version) not in have]
    if missing:
        _download(missing, prepared, into, environ, say)
    named = {(one.name, one.version) for one in record.difference}
    wheels = {package_of(file.name): file for file in sorted(into.glob("*.whl")) if package_of(file.name) in named}
    total = sum(length for one, length in in_store.items() if one in named - wheels.keys())
    total += sum(file.stat().st_size for file in wheels.values())
    if not named <= wheels.keys() | in_store.keys() or total > kept_bytes_max:
        return []
    return list(wheels.values())


def _installed_bytes(overlay: Path) -> int:
    """Return the bytes of all added packages, from their file lists (RECORD)."""
    fields = [
        line.rpartition(",")[2]
        for listing in overlay.glob("lib/*/site-packages/*.dist-info/RECORD")
        for line in listing.read_text(encoding="utf-8").splitlines()
    ]
    return sum(int(size) for size in fields if size.isdigit())


def _download(
    missing: list[LockedPackage],
    prepared: PreparedInterpreter,
    into: Path,
    environ: Mapping[str, str],
    say: Callable[[str], None],
) -> None:
    pip = Pip.find(environ, sys.executable, prepared.home / "pip-cache")
    if pip is None:
        say("no wheels are kept for the next machine, because there is no pip here to fetch them with")
        return
    with tempfile.TemporaryDirectory(dir=into, prefix=".tmp-") as folder:
        pinned = Path(folder, "lock.txt")
        pinned.write_text(write_locked(missing), encoding="utf-8")
        try:
            pip.download(prepared.python, pinned, Path(folder))
        except InstallerFailed as failure:
            say(f"no wheels are kept for the next machine: {failure.reason}")
            return
        for wheel in Path(folder).glob("*.whl"):
            shutil.move(wheel, into / wheel.name)
