"""Debian packages a script asks for: looked up first, installed when root may, from kept files where they are."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from supervisor.core.environment import DebianPackage
from supervisor.core.errors import SetupError
from supervisor.environments import commands, port
from supervisor.environments.files import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

# The machine dies in hours, so waiting for its disk buys nothing (halves the time); man-db's index is nobody's need here.
_QUICK = ("-o", "Dpkg::Options::=--force-unsafe-io", "-o", "Dpkg::Use-Pty=0", "--no-install-recommends", "-y", "-q")


def prepare(
    names: Sequence[str],
    kept: Sequence[Path],
    home: Path,
    environ: Mapping[str, str],
    say: Callable[[str], None],
) -> tuple[DebianPackage, ...]:
    """Make `names` present and return what is there now. Not root, or no apt: said in words, because the script may do without.

    `kept`: .deb files already checked against the record. Raises SetupError when apt refuses.
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
        _install(missing, kept, home / "debs", environ)
    files = {
        name: file
        for file in sorted((home / "debs").glob("*.deb"))
        for name in names
        if file.name.startswith(f"{name}_")
    }
    return tuple(
        _described(name, version, files.get(name)) for name, version in sorted(installed(names, environ).items())
    )


def installed(names: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Version of each of `names` that is installed."""
    if not names:
        return {}
    query = ["dpkg-query", "-W", "-f=${Package}\\t${Version}\\t${db:Status-Status}\\n", *names]
    rows = (line.split("\t") for line in commands.run(query, environ).out.splitlines())
    return {row[0]: row[1] for row in rows if row[2:] == ["installed"]}


def files_of(recorded: Sequence[DebianPackage], folder: Path | None) -> list[Path]:
    """The kept .deb files of a record, each with its recorded digest; empty when any is missing or differs."""
    if folder is None:
        return []
    files = [folder / one.file for one in recorded if one.file]
    whole = all(
        file.is_file() and digest(file) == one.digest
        for one, file in zip((r for r in recorded if r.file), files, strict=True)
    )
    return files if whole else []


def _install(missing: Sequence[str], kept: Sequence[Path], debs: Path, environ: Mapping[str, str]) -> None:
    child = dict(environ) | {"DEBIAN_FRONTEND": "noninteractive"}
    if kept and commands.run(["apt-get", "install", *_QUICK, *(str(file.resolve()) for file in kept)], child).code == 0:
        return
    (debs / "partial").mkdir(parents=True, exist_ok=True)
    ask = ["apt-get", "install", *_QUICK, "-o", f"Dir::Cache::archives={debs.resolve()}",
           "-o", "APT::Keep-Downloaded-Packages=true", *missing]  # fmt: skip
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


def _described(name: str, version: str, file: Path | None) -> DebianPackage:
    return DebianPackage(name, version) if file is None else DebianPackage(name, version, file.name, digest(file))
