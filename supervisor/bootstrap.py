"""A bare clone gets the supervisor's own few packages, or its tests' environment, without touching anything of the user's.

Every start of a working verb passes through :func:`ensure`; a second start costs it one ``stat``.
"""

from __future__ import annotations

import os
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MINIMUMS = {
    "tenacity": (8, 2),
    "watchdog": (4,),
    "rich": (13,),
    "packaging": (23,),
    "xxhash": (3,),
}
STAMP = "complete"
CHECKOUT = Path(__file__).absolute().parent.parent
REQUIREMENTS = CHECKOUT / "supervisor" / "requirements.txt"


def ensure(*, checkout: Path = CHECKOUT, environ: Mapping[str, str] = os.environ) -> Path | None:
    """Make the supervisor's own packages importable in this process; return their private folder, None when not needed.

    The folder goes to the front of this process's ``sys.path`` and nowhere else. Raises SetupError when packages
    are missing and cannot be fetched.
    """
    ready = private_folder(checkout=checkout, environ=environ)
    if ready is not None and str(ready) not in sys.path:
        sys.path.insert(0, str(ready))
        _hold_in_use(ready)
    return ready


def private_folder(*, checkout: Path = CHECKOUT, environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the folder of the supervisor's own packages, made if need be; None where this process can import them.

    ``sys.path`` stays as it is. Raises SetupError when packages are missing and cannot be fetched.
    """
    name = folder_name(REQUIREMENTS.read_bytes())
    homes = private_homes(checkout, environ)
    ready = next((home / name for home in homes if _is_there(home / name / STAMP)), None)
    if ready is None:
        if importable(sys.path):
            return None
        from supervisor.environments.private import install_packages
        from supervisor.views import wrapping

        ready = install_packages(REQUIREMENTS, name, homes, environ, lambda words: wrapping.show(words, sys.stderr))
    return ready


def folder_name(requirements: bytes) -> str:
    """Name of the private folder: another Python, another system or another list of packages is another folder."""
    return f"packages-{sys.implementation.cache_tag}-{zlib.crc32(requirements + sys.platform.encode()):08x}"


def private_homes(checkout: Path, environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Where private folders may lie, best first: in the checkout, else (it may be read-only) in the user's cache."""
    cache = environ.get("XDG_CACHE_HOME") or f"{environ.get('HOME') or Path.home()}/.cache"
    return checkout / ".supervisor", Path(cache) / "training-supervisor"


def importable(path: Sequence[str]) -> bool:
    """Whether good enough versions of all own packages are on `path`, told from folder names alone (about 2 ms)."""
    missing = dict(MINIMUMS)
    for entry in path:
        try:
            with os.scandir(entry or ".") as listed:
                folders = [found.name for found in listed if found.name.endswith(".dist-info")]
        except OSError:  # sys.path may name archives and folders that are not there
            continue
        for folder in folders:
            name, _, version = folder.removesuffix(".dist-info").lower().partition("-")
            if name in missing and _release(version) >= missing[name]:
                del missing[name]
    return not missing


def main(arguments: Sequence[str]) -> int:
    """``test|frameworks|core [pytest args]``, ``exec ENVIRONMENT COMMAND…``: run inside a private environment."""
    from supervisor.core.errors import UserError
    from supervisor.environments.private import run_in_test_environment

    try:
        return run_in_test_environment(arguments, CHECKOUT, private_homes(CHECKOUT, os.environ), os.environ)
    except UserError as error:
        sys.stderr.write(f"error: {error.what}\n  try: {error.hint}\n")
        return error.exit_code


def _release(version: str) -> tuple[int, ...]:
    numbers: list[int] = []
    for part in version.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


def _hold_in_use(folder: Path) -> None:
    """Say to `clean`, by a lock that this process keeps to its end, that the folder is in use."""
    import fcntl
    from contextlib import suppress

    with suppress(OSError):  # without locks in this file system, what is mapped tells it
        descriptor = os.open(folder / STAMP, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
