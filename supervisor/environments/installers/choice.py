"""Choice between uv and pip: uv if it is present or quickly fetched, else pip."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core.errors import SetupError
from supervisor.environments import file_lock
from supervisor.environments.installers import pip_config, run_command
from supervisor.environments.installers.port import IndexSources, InstallerFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from supervisor.environments.installers.port import Installer

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
    """Choose uv from the machine, else from ``home``, else pip. Raises SetupError if there is neither.

    Args:
        environ: the user's environment variables.
        home: folder for a fetched uv.
        say: receives progress messages.
        python: the interpreter to install for.
        fetch: allows to fetch uv into ``home``.
        cpu: this machine has no accelerator.
    """
    from supervisor.environments.installers.pip import Pip
    from supervisor.environments.installers.uv import Uv

    uv = find_uv(environ, home)
    pip = Pip.find(environ, python, home / "pip-cache")
    if uv is None and fetch and pip is not None:
        uv = _fetch_uv(pip, home, say)
    # In an environment that shows the system's packages, uv does not see these and would install them all again.
    if uv is not None and not (pip is not None and _has_system_packages(python)):
        chosen = pip_config.read_for_uv(environ)
        return Uv(str(uv), pip_config.uv_environ(environ, home / "uv-cache"), chosen, cpu=cpu)
    if pip is not None:
        return pip
    raise SetupError(
        "neither uv nor pip is on this machine, so no package can be installed", "install pip for this Python"
    )


def find_uv(environ: Mapping[str, str], home: Path) -> Path | None:
    """Return a uv that runs and is new enough: from PATH, beside this Python, or fetched earlier into ``home``."""
    places = [shutil.which("uv", path=environ.get("PATH")), Path(sys.prefix) / "bin/uv", _fetched_uv(home)]
    for place in places:
        if place is not None and os.access(place, os.X_OK):
            version = re.match(r"uv (\d+)\.(\d+)", run_command.run([str(place), "--version"], environ).out)
            if version and (int(version[1]), int(version[2])) >= _OLDEST_UV:
                return Path(place)
    return None


def _has_system_packages(python: str) -> bool:
    try:
        settings_of_venv = (Path(python).parent.parent / "pyvenv.cfg").read_text(encoding="utf-8")
    except OSError:  # not a virtual environment
        return False
    return bool(re.search(r"(?im)^include-system-site-packages\s*=\s*true", settings_of_venv))


def _fetched_uv(home: Path) -> Path:
    return home / "tools" / "bin" / "uv"


def _fetch_uv(pip: Installer, home: Path, say: Callable[[str], None]) -> Path | None:
    """Fetch the pinned uv (1.6 s). Return None on failure, because pip can do the work."""
    with file_lock.locked(home / "tools.lock", say) as held:
        if _fetched_uv(home).is_file():
            return _fetched_uv(home)
        say("fetching uv, the quicker installer")
        temporary = home / ".tmp-tools"
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            pip.install(sys.executable, UV_PINNED, sources=IndexSources(keep_fd=held), target=temporary)
            temporary.rename(home / "tools")
        except InstallerFailed as failure:
            reason = "no connection" if failure.no_network else failure.reason
            say(f"uv could not be fetched ({reason}); pip does the work")
            return None
        except OSError as error:
            say(f"uv could not be put in place ({error.strerror}); pip does the work")
            return None
    return _fetched_uv(home)
