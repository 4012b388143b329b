"""A virtual environment that holds only the difference and sees the rest through the interpreter it lies over."""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING

from supervisor.core.environment import Located, normal_name, read_locked, write_locked
from supervisor.core.errors import SetupError
from supervisor.core.spoken import duration
from supervisor.engine.ticking import told_every
from supervisor.environments import commands, locks, port
from supervisor.environments.files import package_of
from supervisor.environments.port import CannotInstallError, InstallerFailed, Sources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from supervisor.core.environment import Locked
    from supervisor.environments.capture import Interpreter
    from supervisor.environments.port import Installer

STAMP = "complete"
SAID_BYTES_MIN = 200_000_000  # a download above this is said before it begins
LOCK, DIRECTS = "lock.txt", "directs.txt"


def folder_of(chosen: Interpreter, difference: Sequence[Locked], home: Path, directs: Sequence[str] = ()) -> Path:
    """Where the overlay lies: another lock, or the same over another interpreter, is another folder."""
    identity = f"{write_locked(difference)}{chosen.executable}{chosen.folders}{''.join(directs)}"
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
    directs: Sequence[str] = (),
    source: str = "the script's wish",
) -> None:
    """Build the overlay at `folder` unless it is whole. Killed at any instruction, the next call begins afresh.

    It is built in its final place, because a virtual environment cannot be moved. ``directs``: lines of packages that are
    named by a path or an address; they come last. ``source``: where all was asked for. Raises SetupError.
    """
    with locks.held(folder.with_suffix(".lock"), say) as held:
        if is_whole(folder):
            return
        shutil.rmtree(folder, ignore_errors=True)
        make_venv(chosen.executable, folder, environ)
        lock = folder / LOCK
        lock.write_text(write_locked(difference), encoding="utf-8")
        count = len(difference) + len(directs)
        named = _some([*(f"{one.name} {one.version}" for one in difference), *map(_last_part, directs)])
        python, way = f"{folder}/bin/python", Sources(hashed=False, index_options=index_options, keep_fd=held)
        size = "" if _all_kept(wheels, difference) else _said_size(installer(), python, lock, way, say)
        say(f"installing {count} package{'s' if count > 1 else ''}{size}: {named}")
        free = _free_bytes(folder)
        try:
            with told_every(say, lambda seconds: _so_far(seconds, free - _free_bytes(folder))):
                if difference:
                    _install(installer(), python, lock, _sources(wheels, difference, index_options, held), say)
                if directs:
                    lines = folder / DIRECTS
                    lines.write_text("".join(f"{line}\n" for line in directs), encoding="utf-8")
                    installer().add(python, lines, sources=way)
        except InstallerFailed as failure:
            shutil.rmtree(folder, ignore_errors=True)
            raise CannotInstallError(f"the job's packages ({named}) cannot be installed", failure, source) from failure
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


def _said_size(installer: Installer, python: str, lock: Path, way: Sources, say: Callable[[str], None]) -> str:
    """Return the words for a large download, "" for a small one; for a build that is for another device what to do."""
    told = installer.download_bytes(python, lock, sources=way)
    if told is None or told < SAID_BYTES_MIN:
        return ""
    if installer.name == "pip" and "nvidia-" in lock.read_text(encoding="utf-8"):
        say(
            "pip finds only builds with CUDA; `pip install uv` first, and on a machine without an accelerator those are left out"
        )
    return f" (about {told / 1e9:.1f} GB to fetch)"


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder.parent).free


def _so_far(seconds: float, written: int) -> str:
    done = f", about {written / 1e9:.1f} GB written" if written > SAID_BYTES_MIN / 2 else ""
    return f"installing, {duration(seconds)} so far{done}"


def _all_kept(wheels: Path | None, difference: Sequence[Locked]) -> bool:
    kept = set() if wheels is None else {package_of(file.name) for file in wheels.glob("*.whl")}
    return kept >= {(one.name, one.version) for one in difference}


def _sources(
    wheels: Path | None, difference: Sequence[Locked], index_options: tuple[str, ...], held: int
) -> Iterator[Sources]:
    """Kept wheels alone when all are there (no network, seconds), then with the index's help, then the index alone.

    The index alone comes last because a kept wheel may be damaged.
    """
    if wheels is not None:
        kept = {package_of(file.name) for file in wheels.glob("*.whl")}
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


def located(folder: Path) -> tuple[Located, ...]:
    """Return what was installed into the overlay from a path or an address, as the installer noted it (PEP 610)."""
    found = []
    for note in sorted((folder / "lib").glob("*/site-packages/*.dist-info/direct_url.json")):
        name, _, version = note.parent.name.removesuffix(".dist-info").rpartition("-")
        told = json.loads(note.read_bytes())
        if "archive_info" in told and told.get("url", "").startswith("file:"):
            pinned = {one.name for one in read_locked((folder / LOCK).read_text(encoding="utf-8"))}
            if normal_name(name) in pinned:
                continue  # a wheel of a folder that stands in for an index
        found.append(Located(normal_name(name), version, told.get("vcs_info", {}).get("commit_id", "")))
    return tuple(found)


def _last_part(line: str) -> str:
    named, at, _ = line.partition(" @ ")
    return named if at else line.partition("#")[0].rstrip("/").rpartition("/")[2]


def _some(named: Sequence[str]) -> str:
    shown = ", ".join(named[:6])
    return shown + (f" and {len(named) - 6} more" if len(named) > 6 else "")  # noqa: PLR2004  as many as fit a line
