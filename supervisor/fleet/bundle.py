"""What a machine is sent besides checkpoints: the user's project and our own package in one archive, the launcher, the job."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.core.errors import FAILED_PRECHECKS, UsageError, UserError
from supervisor.core.project import to_plain
from supervisor.core.values import dataclass
from supervisor.engine import notes, project
from supervisor.fleet.consignment import CODE, KEY, PROJECT, SCHEMA, SECRETS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

LAUNCHER = "launch.py"
PACKAGE = Path(__file__).resolve().parent.parent
LEFT_OUT = frozenset({
    ".git", ".hg", ".svn", "__pycache__", ".supervisor", "runs", "checkpoints", "wandb", "node_modules", ".venv", "venv", ".env",
    ".tox", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".ipynb_checkpoints",
})  # fmt: skip
PROJECT_BYTES_MAX = 256 * 1024 * 1024
SHOWN_MAX = 3
SENT = "sent.json"  # the digest of each file of the project as it was packed
LAUNCH = '''\
"""Started on a machine of the fleet: puts the supervisor in place and becomes its agent."""
import os, shutil, sys, tarfile

folder = os.path.dirname(os.path.abspath(__file__))
package = os.path.join(folder, "package")
if not os.path.isdir(package):
    beside = os.path.join(folder, ".new-package")
    shutil.rmtree(beside, ignore_errors=True)
    checked = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # Python 3.11 has it from 3.11.4 on
    with tarfile.open(os.path.join(folder, "code.tar")) as code:
        files = [each for each in code.getmembers() if each.isreg() and ".." not in each.name.split("/")]
        code.extractall(beside, [each for each in files if each.name.startswith("package/")], **checked)
    os.rename(os.path.join(beside, "package"), package)
environ = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH", "")])))
os.execve(sys.executable, [sys.executable, "-m", "supervisor", "agent", folder], environ)
'''


@dataclass(frozen=True, slots=True)
class Shipment:
    """What every machine of a run is sent. ``options``: of `start`, as they are typed; ``secrets`` go to the trainer alone.

    ``key``: of this run's records of packages; the trainer does not get it.
    """

    name: str
    script: Path
    arguments: Sequence[str] = ()
    options: Sequence[str] = ()
    secrets: Mapping[str, str] = field(default_factory=dict)
    key: str = ""

    def pack(self, folder: Path, *, bytes_max: int) -> list[str]:
        """Write project and package into ``folder``, once a launch; return the files that changed since the last launch.

        Raises UserError.
        """
        folder.mkdir(parents=True, exist_ok=True)
        root = project_of(self.script)
        code = folder / CODE
        before = notes.read(folder / SENT) or {}
        _write_code(code, root)
        if code.stat().st_size > bytes_max:
            words = f"the project in {root} has {code.stat().st_size / 1e6:,.0f} MB packed; {bytes_max / 1e6:,.0f} MB can be sent"
            raise UserError(words, f"keep data elsewhere; the largest: {_largest(root)}", FAILED_PRECHECKS)
        (folder / LAUNCHER).write_text(LAUNCH)
        packed = self._digests()
        notes.write(folder / SENT, packed)
        return _differing(before, packed) if before else []

    def changed(self, folder: Path) -> list[str]:
        """Return the project's files that are not any more what was packed into ``folder``."""
        return _differing(notes.read(folder / SENT) or {}, self._digests())

    def files(self, folder: Path) -> list[tuple[Path, str]]:
        """Return each file to send, as it was packed, with its name on the machine; secrets are written now."""
        files = [(folder / LAUNCHER, LAUNCHER), (folder / CODE, CODE)]
        told = "".join(f"{name}={value}\n" for name, value in self.secrets.items())
        for name, text in ((SECRETS, told), (KEY, f"{self.key}\n" if self.key else "")):
            if text:
                private = folder / name
                private.touch(mode=0o600)
                private.write_text(text)
                files.append((private, name))
        return files

    def _digests(self) -> dict[str, str]:
        root = project_of(self.script)
        found = {path.relative_to(root).as_posix(): path for path in sorted(_files_of(root))}
        return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in found.items()}

    def job(self, seed: Sequence[Mapping[str, object]], release_at_s: float | None) -> bytes:
        """Return ``job.json``: it goes last, because with it the machine begins."""
        script = self.script.relative_to(project_of(self.script)).as_posix()
        told: dict[str, Any] = {
            "schema": SCHEMA,
            "name": self.name,
            "script": script,
            "arguments": list(self.arguments),
        }
        told["project"] = to_plain(project.of(self.script))
        told |= {"options": list(self.options), "seed": list(seed), "release_at_s": release_at_s}
        return json.dumps(told, indent=1).encode()


def _differing(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    return sorted(name for name in {*before, *now} if before.get(name) != now.get(name))


def project_of(script: Path) -> Path:
    """Return the folder that goes with a script: its git repository, else the folder where it lies."""
    for above in script.parents:
        if (above / ".git").exists():  # no mount: the user's own sources
            return above
    return script.parent


def _write_code(file: Path, root: Path) -> None:
    """The same sources make the same bytes: names in order, no times, no owners."""
    beside = file.with_name(f".new-{file.name}")
    with (
        beside.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as code,
    ):
        total = 0
        for path in sorted(_files_of(root)):
            total += path.stat().st_size
            if total > PROJECT_BYTES_MAX:
                words = f"the project in {root} has more than {PROJECT_BYTES_MAX / 1e6:,.0f} MB"
                raise UserError(words, f"keep data elsewhere; the largest: {_largest(root)}", FAILED_PRECHECKS)
            _add(code, path, f"{PROJECT}/{path.relative_to(root).as_posix()}")
        for path in sorted(each for each in PACKAGE.rglob("*") if each.is_file() and "__pycache__" not in each.parts):
            _add(code, path, f"package/supervisor/{path.relative_to(PACKAGE).as_posix()}")
    beside.replace(file)


def _add(code: tarfile.TarFile, path: Path, name: str) -> None:
    body = path.read_bytes()
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(body), 0o755 if os.access(path, os.X_OK) else 0o644
    code.addfile(entry, io.BytesIO(body))


def _files_of(root: Path) -> Iterator[Path]:
    """Yield what git would commit, where there is git; else all but what is known to be made or private."""
    listed = _git_files(root)
    found: Iterable[Path] = _walked(root) if listed is None else (root / each for each in listed)
    for path in found:
        if path.is_file() and not path.is_symlink() and LEFT_OUT.isdisjoint(path.relative_to(root).parts):
            yield path


def _git_files(root: Path) -> list[str] | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            check=False, capture_output=True, timeout=60,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0:
        return None
    return [os.fsdecode(each) for each in dict.fromkeys(done.stdout.split(b"\0")) if each]


def _walked(root: Path) -> Iterator[Path]:
    for above, folders, files in os.walk(root):
        folders[:] = sorted(set(folders) - LEFT_OUT)
        yield from (Path(above) / each for each in files)


def _largest(root: Path) -> str:
    sizes: dict[str, int] = {}
    for path in _files_of(root):
        top = path.relative_to(root).parts[0]
        sizes[top] = sizes.get(top, 0) + path.stat().st_size
    found = sorted(sizes.items(), key=lambda each: -each[1])[:SHOWN_MAX]
    return ", ".join(f"{name} ({size / 1e6:,.0f} MB)" for name, size in found)


def secrets(names: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that are sent along. Raises UsageError for one that is not set, or cannot be written in a line."""
    found = {}
    for name in names:
        value = environ.get(name)
        if value is None or "\n" in value:
            what = "is not set here" if value is None else "has more than one line"
            raise UsageError(f"--secret {name}: the variable {what}", f"export {name}=… and launch again")
        found[name] = value
    return found
