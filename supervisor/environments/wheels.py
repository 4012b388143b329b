"""Files to keep in the run's store, so that the next machine needs no network: gathered while the trainer runs."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from supervisor.core.environment import Record, write_locked
from supervisor.environments.files import package_of
from supervisor.environments.pip import Pip
from supervisor.environments.port import InstallerFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from supervisor.core.environment import Locked
    from supervisor.environments.prepare import Prepared

# The default of --keep-packages: at 30 MB/s of a mounted Drive 3 s to read, and little of a Drive of 15 GB.
KEPT_BYTES_MAX = 100_000_000
# An installed package takes about so many times its wheel (1.4 GB from 329 MB, 2.4 GB from 699 MB).
_INSTALLED_PER_WHEEL = 3


def wheels_to_keep(
    prepared: Prepared,
    into: Path,
    kept: Mapping[str, int | None] = MappingProxyType({}),
    *,
    say: Callable[[str], None] = lambda _: None,
    kept_bytes_max: int = KEPT_BYTES_MAX,
    environ: Mapping[str, str] = os.environ,
) -> list[Path]:
    """Put the files of the difference that are not ``kept`` in the store into `into`, and return those worth keeping.

    All or none: a part would need the index anyway. May take minutes, and is called when the trainer already runs.
    Failing is said and changes nothing, because a kept file only saves time.
    """
    record = Record.from_bytes(prepared.record)
    into.mkdir(parents=True, exist_ok=True)
    for half_done in into.glob(".tmp-*"):
        shutil.rmtree(half_done, ignore_errors=True)
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
    lacking = [one for one in record.difference if (one.name, one.version) not in have]
    if lacking:
        _download(lacking, prepared, into, environ, say)
    named = {(one.name, one.version) for one in record.difference}
    wheels = {package_of(file.name): file for file in sorted(into.glob("*.whl")) if package_of(file.name) in named}
    total = sum(length for one, length in in_store.items() if one in named - wheels.keys())
    total += sum(file.stat().st_size for file in wheels.values())
    if not named <= wheels.keys() | in_store.keys() or total > kept_bytes_max:
        return []
    return list(wheels.values())


def _installed_bytes(overlay: Path) -> int:
    """Bytes of all packages laid over the machine's own, from their own lists of files (RECORD)."""
    fields = [
        line.rpartition(",")[2]
        for listing in overlay.glob("lib/*/site-packages/*.dist-info/RECORD")
        for line in listing.read_text(encoding="utf-8").splitlines()
    ]
    return sum(int(size) for size in fields if size.isdigit())


def _download(
    lacking: list[Locked], prepared: Prepared, into: Path, environ: Mapping[str, str], say: Callable[[str], None]
) -> None:
    pip = Pip.find(environ, sys.executable, prepared.home / "pip-cache")
    if pip is None:
        say("no wheels are kept for the next machine, because there is no pip here to fetch them with")
        return
    with tempfile.TemporaryDirectory(dir=into, prefix=".tmp-") as folder:
        pinned = Path(folder, "lock.txt")
        pinned.write_text(write_locked(lacking), encoding="utf-8")
        try:
            pip.download(prepared.python, pinned, Path(folder))
        except InstallerFailed as failure:
            say(f"no wheels are kept for the next machine: {failure.reason}")
            return
        for wheel in Path(folder).glob("*.whl"):
            shutil.move(wheel, into / wheel.name)
