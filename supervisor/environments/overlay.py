"""A virtual environment that holds only the difference and sees the rest through the interpreter it lies over."""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING

from supervisor.core.environment import write_locked
from supervisor.core.errors import SetupError
from supervisor.environments import commands, locks, port
from supervisor.environments.files import package_of
from supervisor.environments.port import InstallerFailed, Sources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from supervisor.core.environment import Locked
    from supervisor.environments.capture import Interpreter
    from supervisor.environments.port import Installer

STAMP = "complete"
LOCK = "lock.txt"


def folder_of(chosen: Interpreter, difference: Sequence[Locked], home: Path) -> Path:
    """Where the overlay lies: another lock, or the same over another interpreter, is another folder."""
    identity = f"{write_locked(difference)}{chosen.executable}{chosen.folders}"
    return home / "envs" / f"{chosen.tag}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"


def is_whole(folder: Path) -> bool:
    """Whether the overlay was finished: the stamp is the last thing written."""
    return (folder / STAMP).is_file()


def make(
    chosen: Interpreter,
    difference: Sequence[Locked],
    folder: Path,
    installer: Callable[[], Installer],
    *,
    wheels: Path | None,
    index_options: tuple[str, ...],
    environ: Mapping[str, str],
    say: Callable[[str], None],
) -> None:
    """Build the overlay at `folder` unless it is whole. Killed at any instruction, the next call begins afresh.

    It is built in its final place, because a virtual environment cannot be moved. Raises SetupError.
    """
    with locks.held(folder.with_suffix(".lock"), say) as held:
        if is_whole(folder):
            return
        shutil.rmtree(folder, ignore_errors=True)
        make_venv(chosen.executable, folder, environ)
        lock = folder / LOCK
        lock.write_text(write_locked(difference), encoding="utf-8")
        say(f"installing {len(difference)} package{'s' if len(difference) > 1 else ''}: {_some(difference)}")
        try:
            _install(installer(), f"{folder}/bin/python", lock, _sources(wheels, difference, index_options, held), say)
        except InstallerFailed as failure:
            shutil.rmtree(folder, ignore_errors=True)
            reason = "there is no connection to a package index" if failure.no_network else failure.reason
            raise SetupError(
                f"the job's packages ({_some(difference)}) cannot be installed: {reason}",
                "connect this machine, or point PIP_FIND_LINKS at a folder that holds the wheels; then start again",
            ) from failure
        _see_through(folder, chosen.folders)
        (folder / STAMP).touch()


def make_venv(python: str, folder: Path, environ: Mapping[str, str]) -> None:
    """A bare virtual environment of `python` at `folder`, without pip because ensurepip is missing on Colab and Debian."""
    ended = commands.run([python, "-m", "venv", "--without-pip", str(folder)], environ)
    if ended.code != 0:
        raise SetupError(
            f"{python} cannot make a virtual environment: {port.shorten(ended.said)}",
            "install the venv module of this Python, or use another interpreter",
        )


def _sources(
    wheels: Path | None, difference: Sequence[Locked], index_options: tuple[str, ...], held: int
) -> Iterator[Sources]:
    """Kept wheels alone when all are there (no network, seconds), then with the index's help, then the index alone.

    The index alone comes last because a kept wheel may be damaged.
    """
    if wheels is not None:
        kept = {package_of(file) for file in wheels.glob("*.whl")}
        if kept >= {(one.name, one.version) for one in difference}:
            yield Sources(wheels, wheels_only=True, keep_fd=held)
        if kept:
            yield Sources(wheels, index_options=index_options, keep_fd=held)
    yield Sources(index_options=index_options, keep_fd=held)


def _install(
    installer: Installer, python: str, lock: Path, ways: Iterator[Sources], say: Callable[[str], None]
) -> None:
    first: InstallerFailed | None = None
    for sources in ways:
        try:
            installer.install(python, lock, sources=sources)
        except InstallerFailed as failure:
            if sources.wheels is not None:
                say(f"the kept wheels do not do ({failure.reason})")
            first = failure if first is None or failure.no_network else first
        else:
            return
    if first is not None:
        raise first


def _see_through(folder: Path, below: Sequence[str]) -> None:
    """Let the overlay find what its interpreter finds, after its own.

    Not by the system-site-packages switch, because that of an environment made from a virtual environment shows
    the packages of the Python below both, not those of the one it was made from.
    """
    packages = next((folder / "lib").glob("*/site-packages"))
    lines = "".join(f"import site; site.addsitedir({path!r})\n" for path in below)
    (packages / "zz_interpreter_below.pth").write_text(lines, encoding="utf-8")


def _some(difference: Sequence[Locked]) -> str:
    shown = ", ".join(f"{one.name} {one.version}" for one in difference[:6])
    return shown + (f" and {len(difference) - 6} more" if len(difference) > 6 else "")  # noqa: PLR2004  as many as fit a line
