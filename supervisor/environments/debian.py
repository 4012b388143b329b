"""Debian packages a script asks for: looked up first, and installed from the system's own sources when root may.

None ever comes from a store: it would run as root, and nothing but the store itself would vouch for it.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from supervisor.core.environment import DebianPackage
from supervisor.core.errors import SetupError
from supervisor.environments import commands, port

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# The machine dies in hours, so waiting for its disk buys nothing (halves the time); man-db's index is nobody's need here.
_QUICK = ("-o", "Dpkg::Options::=--force-unsafe-io", "-o", "Dpkg::Use-Pty=0", "--no-install-recommends", "-y", "-q")


def prepare(
    names: Sequence[str],
    environ: Mapping[str, str],
    say: Callable[[str], None],
) -> tuple[DebianPackage, ...]:
    """Make `names` present and return what is there now. Not root, or no apt: said in words, because the script may do without.

    Raises SetupError when apt refuses.
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
    """Version of each of `names` that is installed."""
    if not names:
        return {}
    query = ["dpkg-query", "-W", "-f=${Package}\\t${Version}\\t${db:Status-Status}\\n", *names]
    rows = (line.split("\t") for line in commands.run(query, environ).out.splitlines())
    return {row[0]: row[1] for row in rows if row[2:] == ["installed"]}


def _install(missing: Sequence[str], environ: Mapping[str, str]) -> None:
    child = dict(environ) | {"DEBIAN_FRONTEND": "noninteractive"}
    ask = ["apt-get", "install", *_QUICK, *missing]
    ended = commands.run(ask, child)
    if ended.code != 0:  # the lists of a fresh image are old or empty
        commands.run(["apt-get", "update", "-q"], child)
        ended = commands.run(ask, child)
    if ended.code != 0:
        reason = port.shorten(
            "\n".join(line for line in ended.said.splitlines() if line.startswith("E:")) or ended.said
        )
        raise SetupError(
            f"apt cannot install {', '.join(missing)}: {reason}", "check the names under apt = [...] and the network"
        )
