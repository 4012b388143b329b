"""Read from the disk which project a script belongs to: its repository or folder, its bytes, the modules beside it."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core.digest import SHA256, digest_of
from supervisor.core.project import Project, from_plain, remote_of, sketch, to_plain

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCES_MAX = 50
OWN = "supervisor"
GIT_BYTES_MAX = 256 * 1024
ENVIRONMENT = "SUPERVISOR_RUN_PROJECT"  # set by a fleet's agent: a machine has only a copy of the project
_IMPORT = re.compile(rb"^[ \t]*(?:from|import)[ \t]+([A-Za-z_]\w*)", re.MULTILINE)
_REMOTE = re.compile(r'^\[remote "([^"]*)"\]$')
_FIRST = "\tcommit (initial)"


def of(script: Path) -> Project:
    """Return the project of a script. ``script`` is absolute. Raises OSError where the script cannot be read."""
    body = script.read_bytes()
    root = root_of(script)
    remote, repository, commit = _git(root)
    return Project(
        folder=root.name,
        path=script.relative_to(root).as_posix(),
        place=str(script),
        remote=remote,
        repository=repository,
        commit=commit,
        digest=digest_of((body,), SHA256),
        sources={name: digest_of((text,), SHA256)[:24] for name, text in _sources(script, body)},
        lines=sketch(body.decode("utf-8", "replace")),
    )


def root_of(script: Path) -> Path:
    """Return the folder of a script's project: its repository, else a folder with pyproject.toml, else its own."""
    for sign in (".git", "pyproject.toml"):
        for parent in script.parents:
            if (parent / sign).exists():
                return parent
    return script.parent


def passed_on(told: Project) -> str:
    """Return what an agent on another machine is told of the project."""
    return json.dumps(to_plain(told), ensure_ascii=False)


def told_by(text: str) -> Project | None:
    """Return the project that home told of; None if it told of none."""
    try:
        read = from_plain(json.loads(text)) if text else Project()
    except ValueError:
        return None
    return read if read.known else None


def copy_remains(known: Project, mine: Project) -> bool:
    """Say whether the known script still lies in the repository of this one, under its own path."""
    if not known.path or known.path == mine.path:
        return False
    root = Path(mine.place.removesuffix(mine.path))
    return (root / known.path).is_file()


def _git(root: Path) -> tuple[str, str, str]:
    """Return (remote, repository, first commit) of a repository, from its files: git itself may be absent."""
    folder = root / ".git"
    try:
        if folder.is_file():  # a worktree or a submodule
            folder = (root / folder.read_text().removeprefix("gitdir:").strip()).resolve()
        if (folder / "commondir").is_file():
            folder = (folder / (folder / "commondir").read_text().strip()).resolve()
        remote, repository = remote_of(_origin((folder / "config").read_text(errors="replace")[:GIT_BYTES_MAX]))
    except OSError:
        return "", "", ""
    commit = ""
    with suppress(OSError), (folder / "logs" / "HEAD").open(errors="replace") as log:
        first = log.readline(GIT_BYTES_MAX)
        commit = first.split(" ", 2)[1] if _FIRST in first else ""
    return remote, repository, commit


def _origin(config: str) -> str:
    """Return the address of the remote "origin", else of the first one, else ""."""
    found: dict[str, str] = {}
    section = ""
    for line in map(str.strip, config.splitlines()):
        if line.startswith("["):
            match = _REMOTE.fullmatch(line)
            section = match[1] if match else ""
        elif section and line.partition("=")[0].strip() == "url":
            found.setdefault(section, line.partition("=")[2].strip())
    return found.get("origin") or next(iter(found.values()), "")


def _sources(script: Path, body: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield name and text of the modules beside the script that it imports, and of those that they import."""
    waiting, seen = [body], {script}  # our own package is no part of the project
    while waiting:
        for name in sorted({each.decode() for each in _IMPORT.findall(waiting.pop())} - {OWN}):
            for file in _module(script.parent, name):
                if file in seen or len(seen) > SOURCES_MAX:
                    continue
                seen.add(file)
                with suppress(OSError):
                    text = file.read_bytes()
                    waiting.append(text)
                    yield file.relative_to(script.parent).as_posix(), text


def _module(folder: Path, name: str) -> list[Path]:
    if (file := folder / f"{name}.py").is_file():
        return [file]
    package = folder / name
    return sorted(package.rglob("*.py"))[:SOURCES_MAX] if (package / "__init__.py").is_file() else []
