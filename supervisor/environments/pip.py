"""The pip installer: slower than uv, but always there."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core.environment import Locked, normal_name
from supervisor.environments import commands, settings, sizes
from supervisor.environments.hiding import PIP, hidden
from supervisor.environments.port import InstallerFailed, Sources

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Pip:
    """pip as an Installer: solves by ``--dry-run --report``, which also gives the hash of each chosen file."""

    name = "pip"

    def __init__(self, argv: Sequence[str], environ: Mapping[str, str]) -> None:
        self._argv = tuple(argv)
        self._environ = environ

    @classmethod
    def find(cls, environ: Mapping[str, str], python: str, cache: Path | None = None) -> Pip | None:
        """The first pip that runs: of this Python, of the one below it, of the target, of PATH; None when there is none."""
        child = settings.for_pip(environ, cache)
        on_path = shutil.which("python3", path=environ.get("PATH"))
        for candidate in dict.fromkeys(
            filter(None, (sys.executable, f"{sys.base_prefix}/bin/python3", python, on_path))
        ):
            argv = [candidate, "-m", "pip"]
            if commands.run([*argv, "--version"], child).code == 0:
                return cls(argv, child)
        return None

    def solve(
        self, python: str, requirements: Sequence[str], constraints: Sequence[str], index_options: Sequence[str]
    ) -> tuple[Locked, ...]:
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

    def install(self, python: str, pinned: Path, *, sources: Sources, target: Path | None = None) -> None:
        where = [] if target is None else ["--target", str(target)]
        self._run("--python", python, "install", "--no-compile", "--quiet", *where, *sources.options(),
                  "-r", str(pinned), keep_fd=sources.keep_fd)  # fmt: skip

    def add(self, python: str, lines: Path, *, sources: Sources) -> None:
        self._run("--python", python, "install", "--no-compile", "--quiet", *sources.options(), "--no-deps",
                  "-r", str(lines), keep_fd=sources.keep_fd)  # fmt: skip

    def download_bytes(self, python: str, pinned: Path, *, sources: Sources) -> int | None:
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder, "report.json")
            try:
                self._run("--python", python, "install", "--dry-run", "--quiet", "--ignore-installed", "--no-deps",
                          "--report", str(report), "-r", str(pinned), *sources.index_options)  # fmt: skip
            except (
                InstallerFailed
            ):  # an older pip, or an index that does not answer: the installation itself will say it
                return None
            chosen = json.loads(report.read_text(encoding="utf-8"))["install"]
        return sizes.total([str(item["download_info"]["url"]) for item in chosen], self._environ)

    def download(self, python: str, pinned: Path, into: Path) -> None:
        """Put the files that `pinned` names into `into`, hash-checked; raises InstallerFailed."""
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

    def _run(self, *arguments: str, keep_fd: int | None = None) -> commands.Ended:
        words, environ = hidden(arguments, self._environ, PIP)
        ended = commands.run([*self._argv, *words], environ, keep_fd=keep_fd)
        if ended.code != 0:
            raise InstallerFailed(ended.said)
        return ended


def _locked(item: dict[str, dict[str, object]]) -> Locked:
    archive = item["download_info"].get("archive_info")
    hashes = archive.get("hashes", {}) if isinstance(archive, dict) else {}
    digests = tuple(f"sha256:{value}" for kind, value in hashes.items() if kind == "sha256")
    return Locked(normal_name(str(item["metadata"]["name"])), str(item["metadata"]["version"]), digests)
