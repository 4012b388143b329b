"""The supervisor's own folders: its few packages for running, and the environments its tests run in."""

from __future__ import annotations

import os
import shutil
import sys
import zlib
from typing import TYPE_CHECKING

from supervisor.core.errors import SetupError, UsageError
from supervisor.environments import installers, locks, overlay
from supervisor.environments.port import InstallerFailed, Sources

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

STAMP = "complete"
# Each environment: lists that are pinned and hashed, then lists that cannot be (requirements/README.md says why).
TEST_ENVIRONMENTS = {
    "test": (("test.txt",), ("torch.txt",)),
    "frameworks": (("test.txt", "frameworks.txt"), ("torch.txt",)),
    "core": (("core.txt",), ()),
}
CORE_TESTS = ("tests/unit/core", "tests/unit/environments", "tests/simulation")
_CONNECT = "connect this machine to the network, or point PIP_FIND_LINKS at a folder that holds the wheels"


def install_packages(
    requirements: Path, name: str, homes: Sequence[Path], environ: Mapping[str, str], say: Callable[[str], None]
) -> Path:
    """Install `requirements` into the folder `name` of the first home that can be written, and return that folder.

    It is built under another name and renamed when whole, so what bears the name is always complete.
    Raises SetupError.
    """
    home = first_writable(homes)
    folder = home / name
    with locks.held(home / "packages.lock", say) as held:
        if (folder / STAMP).is_file():
            return folder
        for half_made in (folder, *home.glob(".tmp-packages-*")):
            shutil.rmtree(half_made, ignore_errors=True)
        say("first start here: installing the supervisor's own few packages into a private folder")
        temporary = home / f".tmp-{name}-{os.getpid()}"
        try:
            installer = installers.choose(environ, home, say, fetch=False)
            installer.install(sys.executable, requirements, sources=Sources(keep_fd=held), target=temporary)
        except InstallerFailed as failure:
            shutil.rmtree(temporary, ignore_errors=True)
            reason = "there is no connection to a package index" if failure.no_network else failure.reason
            raise SetupError(f"the supervisor's own packages cannot be installed: {reason}", _CONNECT) from failure
        (temporary / STAMP).touch()
        temporary.rename(folder)
    return folder


def run_in_test_environment(
    arguments: Sequence[str], checkout: Path, homes: Sequence[Path], environ: Mapping[str, str]
) -> int:
    """Replace this process by pytest, or by a command, inside a private environment that is made when it is missing."""
    verb, rest = (arguments[0], list(arguments[1:])) if arguments else ("", [])
    name = rest.pop(0) if verb == "exec" and rest else verb
    if name not in TEST_ENVIRONMENTS or (verb == "exec" and not rest):
        raise UsageError(
            "supervisor.bootstrap does not know what to run",
            f"python -m supervisor.bootstrap {'|'.join(TEST_ENVIRONMENTS)} [pytest options], or exec ENVIRONMENT COMMAND…",
        )
    environment = test_environment(name, checkout / "requirements", homes, environ)
    if verb != "exec":
        own = name == "core" and not any(word.startswith("tests") for word in rest)
        chosen = [path for path in CORE_TESTS if (checkout / path).is_dir()] if own else []
        rest = ["python", "-m", "pytest", *chosen, *rest]
    child = {key: value for key, value in environ.items() if key not in {"PYTHONDONTWRITEBYTECODE", "PYTHONHOME"}}
    child |= {"PATH": f"{environment}/bin{os.pathsep}{environ.get('PATH', '')}", "VIRTUAL_ENV": str(environment)}
    program = shutil.which(rest[0], path=child["PATH"])
    if program is None:
        raise UsageError(f"{rest[0]} is not in the environment {name}", "name one of its programs, as pytest or ruff")
    os.chdir(checkout)
    os.execve(program, rest, child)  # noqa: S606  signals and the exit code must reach the program itself


def test_environment(name: str, lists: Path, homes: Sequence[Path], environ: Mapping[str, str]) -> Path:
    """The finished virtual environment `name`, made without ensurepip; the stamp is written last and names the lists."""
    hashed, unhashed = ([lists / file for file in files] for files in TEST_ENVIRONMENTS[name])
    check = zlib.crc32(b"".join(file.read_bytes() for file in (*hashed, *unhashed)))
    home = first_writable(homes)
    folder = home / f"{name}-{sys.implementation.cache_tag}"
    mark = f"{check:08x} {sys.base_prefix} {sys.version_info.micro}"
    with locks.held(home / f"{name}.lock", say) as held:
        if (folder / STAMP).is_file() and (folder / STAMP).read_text(encoding="utf-8") == mark:
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        say(f"making the environment {folder.name}")
        overlay.make_venv(sys.executable, folder, environ)
        try:
            installer = installers.choose(environ, home, say)
            for file in hashed:
                installer.install(f"{folder}/bin/python", file, sources=Sources(keep_fd=held))
            for file in unhashed:
                installer.install(f"{folder}/bin/python", file, sources=Sources(hashed=False, keep_fd=held))
        except InstallerFailed as failure:
            raise SetupError(f"the tests' packages cannot be installed: {failure.reason}", _CONNECT) from failure
        (folder / STAMP).write_text(mark, encoding="utf-8")
    return folder


def first_writable(homes: Sequence[Path]) -> Path:
    """The first home in which files can be made, made if need be; SetupError when there is none."""
    for home in homes:
        try:
            home.mkdir(parents=True, exist_ok=True)
            probe = home / f".probe-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError:  # a read-only checkout is usual; the next home is tried
            continue
        return home
    raise SetupError(f"neither {homes[0]} nor {homes[-1]} can be written", "make one of them writable")


def say(words: str) -> None:
    """Progress for a person, on the error stream because the output may be a program's."""
    sys.stderr.write(f"{words}\n")
