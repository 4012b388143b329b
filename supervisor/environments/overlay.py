"""A virtual environment that holds only the difference and finds all other packages through its base interpreter."""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING

from supervisor.core.environment import LocatedRequirement, normal_name, read_locked, write_locked
from supervisor.core.errors import SetupError
from supervisor.core.humanize import duration
from supervisor.engine.progress import told_every
from supervisor.environments import file_lock
from supervisor.environments.installers import port as installer_port
from supervisor.environments.installers import run_command
from supervisor.environments.installers.port import CannotInstallError, IndexSources, InstallerFailed
from supervisor.environments.wheel_files import package_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from supervisor.core.environment import LockedPackage
    from supervisor.environments.installed import Interpreter
    from supervisor.environments.installers.port import Installer

STAMP = "complete"
NOTICE_BYTES_MIN = 200_000_000  # a download above this is announced
LOCK, DIRECTS = "lock.txt", "directs.txt"


def folder_of(
    chosen: Interpreter, difference: Sequence[LockedPackage], home: Path, directs: Sequence[str] = ()
) -> Path:
    """Return the overlay's folder. A different lock or base interpreter has a different folder."""
    identity = f"{write_locked(difference)}{chosen.executable}{chosen.folders}{''.join(directs)}"
    return home / "envs" / f"{chosen.tag}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"


def is_complete(folder: Path) -> bool:
    """Return True if the overlay is complete: its stamp is written last."""
    return (folder / STAMP).is_file()


def make(
    chosen: Interpreter,
    difference: Sequence[LockedPackage],
    folder: Path,
    installer: Callable[[], Installer],
    *,
    wheels: Path | None,
    index_options: tuple[str, ...],
    environ: Mapping[str, str],
    say: Callable[[str], None],
    directs: Sequence[str] = (),
    source: str = "the script's requirements",
) -> None:
    """Build the overlay at ``folder`` unless it is complete. After a kill at any point, the next call starts afresh.

    It is built in its final place, because a virtual environment cannot be moved. Raises SetupError.

    Args:
        chosen: the base interpreter.
        difference: the packages to install.
        folder: the place of the overlay.
        installer: uv or pip.
        wheels: folder of kept wheels, or None.
        index_options: the script's index options.
        environ: the environment variables.
        say: receives progress messages.
        directs: lines that name a path or an address; they are installed last.
        source: place of the requirements, for messages.
    """
    with file_lock.locked(folder.with_suffix(".lock"), say) as held:
        if is_complete(folder):
            return
        shutil.rmtree(folder, ignore_errors=True)
        make_venv(chosen.executable, folder, environ)
        lock = folder / LOCK
        lock.write_text(write_locked(difference), encoding="utf-8")
        count = len(difference) + len(directs)
        named = _list_names([*(f"{one.name} {one.version}" for one in difference), *map(_last_part, directs)])
        python, way = f"{folder}/bin/python", IndexSources(hashed=False, index_options=index_options, keep_fd=held)
        size = "" if _all_in_store(wheels, difference) else _size_notice(installer(), python, lock, way, say)
        say(f"installing {count} package{'s' if count > 1 else ''}{size}: {named}")
        free = _free_bytes(folder)
        try:
            with told_every(say, lambda seconds: _progress(seconds, free - _free_bytes(folder))):
                if difference:
                    _install(installer(), python, lock, _sources(wheels, difference, index_options, held), say)
                if directs:
                    lines = folder / DIRECTS
                    lines.write_text("".join(f"{line}\n" for line in directs), encoding="utf-8")
                    installer().add(python, lines, sources=way)
        except InstallerFailed as failure:
            shutil.rmtree(folder, ignore_errors=True)
            raise CannotInstallError(f"the job's packages ({named}) cannot be installed", failure, source) from failure
        _chain_site_packages(folder, chosen.folders)
        (folder / STAMP).touch()


def make_venv(python: str, folder: Path, environ: Mapping[str, str]) -> None:
    """Make a bare virtual environment of ``python`` at ``folder``, without pip: Colab and Debian have no ensurepip."""
    ended = run_command.run([python, "-m", "venv", "--without-pip", str(folder)], environ)
    if ended.code != 0:
        raise SetupError(
            f"{python} cannot make a virtual environment: {installer_port.shorten(ended.output)}",
            "install the venv module of this Python, or use another interpreter",
        )


def _size_notice(installer: Installer, python: str, lock: Path, way: IndexSources, say: Callable[[str], None]) -> str:
    """Return the notice of a large download, or "". For a build for another device it says how to avoid that."""
    size_bytes = installer.download_bytes(python, lock, sources=way)
    if size_bytes is None or size_bytes < NOTICE_BYTES_MIN:
        return ""
    if installer.name == "pip" and "nvidia-" in lock.read_text(encoding="utf-8"):
        say(
            "pip finds only builds with CUDA; `pip install uv` first, and on a machine without an accelerator those are left out"
        )
    return f" (about {size_bytes / 1e9:.1f} GB to fetch)"


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder.parent).free


def _progress(seconds: float, written: int) -> str:
    done = f", about {written / 1e9:.1f} GB written" if written > NOTICE_BYTES_MIN / 2 else ""
    return f"installing, {duration(seconds)} so far{done}"


def _all_in_store(wheels: Path | None, difference: Sequence[LockedPackage]) -> bool:
    stored = set() if wheels is None else {package_of(file.name) for file in wheels.glob("*.whl")}
    return stored >= {(one.name, one.version) for one in difference}


def _sources(
    wheels: Path | None, difference: Sequence[LockedPackage], index_options: tuple[str, ...], held: int
) -> Iterator[IndexSources]:
    """Return the sources in order: kept wheels alone if complete (no network), these with the index, the index alone.

    The index alone comes last because a kept wheel may be damaged.
    """
    if wheels is not None:
        stored = {package_of(file.name) for file in wheels.glob("*.whl")}
        if stored >= {(one.name, one.version) for one in difference}:
            yield IndexSources(wheels, wheels_only=True, keep_fd=held)
        if stored:
            yield IndexSources(wheels, index_options=index_options, keep_fd=held)
    yield IndexSources(index_options=index_options, keep_fd=held)


def _install(
    installer: Installer, python: str, lock: Path, ways: Iterator[IndexSources], say: Callable[[str], None]
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


def _chain_site_packages(folder: Path, below: Sequence[str]) -> None:
    """Add the base interpreter's search path behind the overlay's own.

    The system-site-packages switch is not enough. For a virtual environment as base it shows the packages of the Python
    below both, not those of the base.
    """
    packages = next((folder / "lib").glob("*/site-packages"))
    lines = "".join(f"import site; site.addsitedir({path!r})\n" for path in below)
    (packages / "zz_interpreter_below.pth").write_text(lines, encoding="utf-8")


def direct_installs(folder: Path) -> tuple[LocatedRequirement, ...]:
    """Return the overlay's packages that were installed from a path or an address (PEP 610)."""
    found = []
    for note in sorted((folder / "lib").glob("*/site-packages/*.dist-info/direct_url.json")):
        name, _, version = note.parent.name.removesuffix(".dist-info").rpartition("-")
        size_bytes = json.loads(note.read_bytes())
        if "archive_info" in size_bytes and size_bytes.get("url", "").startswith("file:"):
            pinned = {one.name for one in read_locked((folder / LOCK).read_text(encoding="utf-8"))}
            if normal_name(name) in pinned:
                continue  # a wheel of a folder that replaces an index
        found.append(
            LocatedRequirement(normal_name(name), version, size_bytes.get("vcs_info", {}).get("commit_id", ""))
        )
    return tuple(found)


def _last_part(line: str) -> str:
    named, at, _ = line.partition(" @ ")
    return named if at else line.partition("#")[0].rstrip("/").rpartition("/")[2]


def _list_names(named: Sequence[str]) -> str:
    shown = ", ".join(named[:6])
    return shown + (f" and {len(named) - 6} more" if len(named) > 6 else "")  # noqa: PLR2004  as many as fit a line
