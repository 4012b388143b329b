"""Debian packages that a script requires: looked up first, and installed from the system's sources if the user is root.

None is ever installed from a store: it would run as root, and only the store would vouch for it.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from supervisor.core.environment import DebianPackage
from supervisor.core.errors import SetupError
from supervisor.environments.installers import port as installer_port
from supervisor.environments.installers import run_command

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# Skips disk flushes (halves the time), because the machine lives only for hours, and man-db's index, which is unused.
_QUICK = ("-o", "Dpkg::Options::=--force-unsafe-io", "-o", "Dpkg::Use-Pty=0", "--no-install-recommends", "-y", "-q")


def prepare(
    names: Sequence[str],
    environ: Mapping[str, str],
    say: Callable[[str], None],
) -> tuple[DebianPackage, ...]:
    """Make the packages present and return the installed ones. Without root or apt it only reports the missing ones.

    Raises:
        SetupError: apt failed.
    """
    missing = [name for name in names if name not in installed(names, environ)]
    if missing and shutil.which("apt-get", path=environ.get("PATH")) is None:
        say(f"the script asks for {', '.join(missing)}, and this system has no apt: install them if the script fails")
    elif missing and os.geteuid() != 0:
        say(
            f"the script asks for {', '.join(missing)}: not root here, so ask for 'apt-get install {' '.join(missing)}' if it fails"
        )
    elif missing:
        say(f"installing {', '.join(missing)} with apt")
        _install(missing, environ)
    return tuple(DebianPackage(name, version) for name, version in sorted(installed(names, environ).items()))


def installed(names: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the installed version of each of ``names``."""
    if not names:
        return {}
    query = ["dpkg-query", "-W", "-f=${Package}\\t${Version}\\t${db:Status-Status}\\n", *names]
    rows = (line.split("\t") for line in run_command.run(query, environ).out.splitlines())
    return {row[0]: row[1] for row in rows if row[2:] == ["installed"]}


def _install(missing: Sequence[str], environ: Mapping[str, str]) -> None:
    child = dict(environ) | {"DEBIAN_FRONTEND": "noninteractive"}
    ask = ["apt-get", "install", *_QUICK, *missing]
    ended = run_command.run(ask, child)
    if ended.code != 0:  # a fresh image has empty or old package lists
        run_command.run(["apt-get", "update", "-q"], child)
        ended = run_command.run(ask, child)
    if ended.code != 0:
        reason = installer_port.shorten(
            "\n".join(line for line in ended.output.splitlines() if line.startswith("E:")) or ended.output
        )
        raise SetupError(
            f"apt cannot install {', '.join(missing)}: {reason}", "check the names under apt = [...] and the network"
        )
