"""The pip installer: slower than uv, but always present."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core.environment import LockedPackage, normal_name
from supervisor.environments.installers import download_sizes, pip_config, run_command
from supervisor.environments.installers.hidden_credentials import PIP, without_credentials
from supervisor.environments.installers.port import IndexSources, InstallerFailed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Pip:
    """pip as an Installer. It solves with ``--dry-run --report``, which includes the hash of each chosen file."""

    name = "pip"

    def __init__(self, argv: Sequence[str], environ: Mapping[str, str]) -> None:
        self._argv = tuple(argv)
        self._environ = environ

    @classmethod
    def find(cls, environ: Mapping[str, str], python: str, cache: Path | None = None) -> Pip | None:
        """Return the first pip that runs: of this Python, of its base, of the target, of PATH; None if there is none."""
        child = pip_config.pip_environ(environ, cache)
        on_path = shutil.which("python3", path=environ.get("PATH"))
        for candidate in dict.fromkeys(
            filter(None, (sys.executable, f"{sys.base_prefix}/bin/python3", python, on_path))
        ):
            argv = [candidate, "-m", "pip"]
            if run_command.run([*argv, "--version"], child).code == 0:
                return cls(argv, child)
        return None

    def solve(
        self, python: str, requirements: Sequence[str], constraints: Sequence[str], index_options: Sequence[str]
    ) -> tuple[LockedPackage, ...]:
        with tempfile.TemporaryDirectory() as folder:
            constrained = Path(folder, "constraints.txt")
            constrained.write_text("\n".join(constraints), encoding="utf-8")
            wanted = Path(folder, "wanted.txt")
            wanted.write_text("\n".join(requirements), encoding="utf-8")
            report = Path(folder, "report.json")
            self._run("--python", python, "install", "--dry-run", "--quiet", "--break-system-packages",
                      "--report", str(report), "-c", str(constrained), "-r", str(wanted), *index_options)  # fmt: skip
            chosen = json.loads(report.read_text(encoding="utf-8"))["install"]
        pinned = (_locked(item) for item in chosen if not item.get("is_direct"))
        return tuple(sorted(pinned, key=lambda locked: locked.name))

    def install(self, python: str, pinned: Path, *, sources: IndexSources, target: Path | None = None) -> None:
        where = [] if target is None else ["--target", str(target)]
        self._run("--python", python, "install", "--no-compile", "--quiet", *where, *sources.options(),
                  "-r", str(pinned), keep_fd=sources.keep_fd)  # fmt: skip

    def add(self, python: str, lines: Path, *, sources: IndexSources) -> None:
        self._run("--python", python, "install", "--no-compile", "--quiet", *sources.options(), "--no-deps",
                  "-r", str(lines), keep_fd=sources.keep_fd)  # fmt: skip

    def download_bytes(self, python: str, pinned: Path, *, sources: IndexSources) -> int | None:
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder, "report.json")
            try:
                self._run("--python", python, "install", "--dry-run", "--quiet", "--ignore-installed", "--no-deps",
                          "--report", str(report), "-r", str(pinned), *sources.index_options)  # fmt: skip
            except (
                InstallerFailed
            ):  # an older pip, or an index that does not answer: the installation itself reports it
                return None
            chosen = json.loads(report.read_text(encoding="utf-8"))["install"]
        return download_sizes.total([str(item["download_info"]["url"]) for item in chosen], self._environ)

    def download(self, python: str, pinned: Path, into: Path) -> None:
        """Download the files of ``pinned`` into ``into`` with hash checks. Raises InstallerFailed."""
        self._run(
            "--python",
            python,
            "download",
            "--quiet",
            "--no-deps",
            "--require-hashes",
            "-r",
            str(pinned),
            "-d",
            str(into),
        )

    def _run(self, *arguments: str, keep_fd: int | None = None) -> run_command.CommandResult:
        words, environ = without_credentials(arguments, self._environ, PIP)
        ended = run_command.run([*self._argv, *words], environ, keep_fd=keep_fd)
        if ended.code != 0:
            raise InstallerFailed(ended.output)
        return ended


def _locked(item: dict[str, dict[str, object]]) -> LockedPackage:
    archive = item["download_info"].get("archive_info")
    hashes = archive.get("hashes", {}) if isinstance(archive, dict) else {}
    digests = tuple(f"sha256:{value}" for kind, value in hashes.items() if kind == "sha256")
    return LockedPackage(normal_name(str(item["metadata"]["name"])), str(item["metadata"]["version"]), digests)
