"""The choice between uv and pip: uv when it is there or quickly had, pip otherwise."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core.errors import SetupError
from supervisor.environments import commands, locks, settings
from supervisor.environments.port import InstallerFailed, Sources

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from supervisor.environments.port import Installer

UV_PINNED = Path(__file__).parent / "uv.txt"
_OLDEST_UV = (0, 5)


def choose(
    environ: Mapping[str, str],
    home: Path,
    say: Callable[[str], None],
    *,
    python: str = sys.executable,
    fetch: bool = True,
    cpu: bool = False,
) -> Installer:
    """Choose uv from the machine, else from `home` (fetched there when `fetch`), else pip; SetupError when there is neither.

    ``cpu``: there is no accelerator here.
    """
    from supervisor.environments.pip import Pip
    from supervisor.environments.uv import Uv

    uv = find_uv(environ, home)
    pip = Pip.find(environ, python, home / "pip-cache")
    if uv is None and fetch and pip is not None:
        uv = _fetch_uv(pip, home, say)
    # uv does not see the system's packages inside an environment that shows them, and would install them all again.
    if uv is not None and not (pip is not None and _shows_system(python)):
        chosen = settings.read_for_uv(environ)
        return Uv(str(uv), settings.for_uv(environ, home / "uv-cache"), chosen, cpu=cpu)
    if pip is not None:
        return pip
    raise SetupError(
        "neither uv nor pip is on this machine, so no package can be installed", "install pip for this Python"
    )


def find_uv(environ: Mapping[str, str], home: Path) -> Path | None:
    """A uv that runs and is new enough: on PATH, beside this Python, or fetched earlier into `home`."""
    places = [shutil.which("uv", path=environ.get("PATH")), Path(sys.prefix) / "bin/uv", _fetched(home)]
    for place in places:
        if place is not None and os.access(place, os.X_OK):
            version = re.match(r"uv (\d+)\.(\d+)", commands.run([str(place), "--version"], environ).out)
            if version and (int(version[1]), int(version[2])) >= _OLDEST_UV:
                return Path(place)
    return None


def _shows_system(python: str) -> bool:
    try:
        settings_of_venv = (Path(python).parent.parent / "pyvenv.cfg").read_text(encoding="utf-8")
    except OSError:  # not a virtual environment
        return False
    return bool(re.search(r"(?im)^include-system-site-packages\s*=\s*true", settings_of_venv))


def _fetched(home: Path) -> Path:
    return home / "tools" / "bin" / "uv"


def _fetch_uv(pip: Installer, home: Path, say: Callable[[str], None]) -> Path | None:
    """Fetch the pinned uv (1.6 s); None when that fails, because pip can still do the work."""
    with locks.held(home / "tools.lock", say) as held:
        if _fetched(home).is_file():
            return _fetched(home)
        say("fetching uv, the quicker installer")
        temporary = home / ".tmp-tools"
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            pip.install(sys.executable, UV_PINNED, sources=Sources(keep_fd=held), target=temporary)
            temporary.rename(home / "tools")
        except InstallerFailed as failure:
            reason = "no connection" if failure.no_network else failure.reason
            say(f"uv could not be fetched ({reason}); pip does the work")
            return None
        except OSError as error:
            say(f"uv could not be put in place ({error.strerror}); pip does the work")
            return None
    return _fetched(home)
