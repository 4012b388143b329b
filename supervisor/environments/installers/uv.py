"""The uv installer."""

from __future__ import annotations

import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core.environment import read_locked
from supervisor.environments.installers import run_command
from supervisor.environments.installers.hidden_credentials import UV, without_credentials
from supervisor.environments.installers.port import IndexSources, InstallerFailed
from supervisor.environments.wheel_files import digest, is_wheel_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from supervisor.core.environment import LockedPackage
    from supervisor.environments.installers.pip_config import PipConfig

FURTHER_INDEXES = ("--index-strategy", "unsafe-first-match")  # uv's name for: try the next index if no version fits
ALL_INDEXES = (
    "--index-strategy",
    "unsafe-best-match",
)  # only with hashes: these name the allowed files, at any index
CPU_BUILDS = ("--torch-backend", "cpu")
_FOR_CUDA = re.compile(r"(torch==[^+]+$|nvidia-|triton==)")
_ADDED = re.compile(r"^ \+ (\S+==\S+)$", re.MULTILINE)


class Uv:
    """uv as an Installer: it solves by a dry run against the interpreter and hashes with ``uv pip compile``.

    With ``cpu`` (no accelerator on this machine) it chooses torch's CPU build if one can be reached. uv itself knows
    the address of those builds. The user's own indexes stay in force for all other packages.
    """

    name = "uv"

    def __init__(self, program: str, environ: Mapping[str, str], chosen: PipConfig, *, cpu: bool = False) -> None:
        self._program = program
        self._environ = environ
        self._wheel_folders = chosen.wheel_folders
        self._no_index = ["--no-index"] if chosen.no_index else []  # uv has no variable for this one
        self._cpu = cpu and not chosen.no_index and "UV_TORCH_BACKEND" not in environ
        self._strict = "UV_INDEX_STRATEGY" in environ  # the user's own choice
        self._multi_index = bool(chosen.extra_indexes)
        self._further_indexes: Sequence[str] = ()

    def solve(
        self, python: str, requirements: Sequence[str], constraints: Sequence[str], index_options: Sequence[str]
    ) -> tuple[LockedPackage, ...]:
        pins = self._pins(python, requirements, constraints, index_options)
        backend: Sequence[str] = ()
        if self._cpu and any(_FOR_CUDA.match(pin) for pin in pins):
            try:
                pins, backend = self._pins(python, requirements, constraints, [*index_options, *CPU_BUILDS]), CPU_BUILDS
            except InstallerFailed:
                self._cpu = False  # they are unreachable, or unknown to this uv: the common builds work too
        if not pins:
            return ()
        with tempfile.TemporaryDirectory() as folder:
            wanted = Path(folder, "wanted.txt")
            wanted.write_text("\n".join(pins), encoding="utf-8")
            hashed = self._run("compile", "--no-deps", "--generate-hashes", "--no-header", "--no-annotate", "--quiet",
                               "--python", python, str(wanted), *index_options, *backend)  # fmt: skip
        return tuple(one if one.hashes else self._with_local_hashes(one) for one in read_locked(hashed.out))

    def _pins(
        self, python: str, requirements: Sequence[str], constraints: Sequence[str], index_options: Sequence[str]
    ) -> list[str]:
        with tempfile.TemporaryDirectory() as folder:
            constrained = Path(folder, "constraints.txt")
            constrained.write_text("\n".join(constraints), encoding="utf-8")
            wanted = Path(folder, "wanted.txt")
            wanted.write_text("\n".join(requirements), encoding="utf-8")
            # --break-system-packages allows a dry run against a Debian Python; nothing is written.
            tried = self._run("install", "--dry-run", "--break-system-packages", "--python", python,
                              "--constraints", str(constrained), "-r", str(wanted), *index_options)  # fmt: skip
        return _ADDED.findall(tried.output)

    def install(self, python: str, pinned: Path, *, sources: IndexSources, target: Path | None = None) -> None:
        # small packages are copied: damage to a linked file would damage the cache too
        where = [] if target is None else ["--target", str(target), "--link-mode", "copy"]
        offline = ["--offline"] if sources.wheels_only else []
        words = ["install", "--python", python, *where, *offline, *sources.options(), "-r", str(pinned)]
        self._with_cpu_builds(words, pinned, sources)

    def download_bytes(self, python: str, pinned: Path, *, sources: IndexSources) -> int | None:
        words = ["compile", "--no-deps", "--no-header", "--quiet", "--format", "pylock.toml", "--python", python,
                 str(pinned), *sources.index_options]  # fmt: skip
        try:
            report = self._with_cpu_builds(words, pinned, sources).out
        except InstallerFailed:  # an older uv, or an index that does not answer: the installation itself reports it
            return None
        sizes = [re.findall(r"\bsize = (\d+)", package) for package in report.split("[[packages]]")[1:]]
        return sum(max(map(int, each)) for each in sizes if each) or None

    def _with_cpu_builds(self, words: Sequence[str], pinned: Path, sources: IndexSources) -> run_command.CommandResult:
        """Run a command over a lock. CPU builds that no index has are taken from the address that uv knows."""
        try:
            return self._run(*words, keep_fd=sources.keep_fd)
        except InstallerFailed:
            if sources.wheels_only or "+cpu" not in pinned.read_text(encoding="utf-8"):
                raise
            return self._run(*words, *CPU_BUILDS, keep_fd=sources.keep_fd)

    def add(self, python: str, lines: Path, *, sources: IndexSources) -> None:
        self._run("install", "--python", python, *sources.options(), "--no-deps", "-r", str(lines),
                  keep_fd=sources.keep_fd)  # fmt: skip

    def _with_local_hashes(self, locked: LockedPackage) -> LockedPackage:
        """Return the locked packages with digests of wheels in the user's folders: uv chooses from these without hashing."""
        files = [
            file for folder in self._wheel_folders for file in Path(folder).glob("*.whl") if is_wheel_of(file, locked)
        ]
        if not files:
            raise InstallerFailed(f"error: no hash is known for {locked.pin}")
        return replace(locked, hashes=tuple(sorted(map(digest, files))))

    def _run(self, *arguments: str, keep_fd: int | None = None) -> run_command.CommandResult:
        """Run uv with the first index that has a name; retry with the next indexes if no version there fits.

        The order stays the user's. The best version of all indexes is never taken: a stranger could publish it at a
        public one. With required hashes a stranger's file is rejected anyway, so every index is asked.
        """
        ended = self._run_once(arguments, keep_fd)
        multi_index = self._multi_index or any(word.startswith("--extra-index-url") for word in arguments)
        if ended.code == 0 or not multi_index or self._strict or InstallerFailed(ended.output).no_network:
            further = []
        else:
            further = [FURTHER_INDEXES, *([ALL_INDEXES] if "--require-hashes" in arguments else [])]
        before = self._further_indexes
        for strategy in further:
            if strategy == before:
                continue
            self._further_indexes = strategy
            again = self._run_once(arguments, keep_fd)
            if again.code != 0 or strategy is ALL_INDEXES:
                self._further_indexes = before
            if again.code == 0:
                return again
        if ended.code != 0:
            raise InstallerFailed(ended.output)
        return ended

    def _run_once(self, arguments: Sequence[str], keep_fd: int | None) -> run_command.CommandResult:
        words, environ = without_credentials([*arguments, *self._no_index, *self._further_indexes], self._environ, UV)
        return run_command.run([self._program, "pip", *words], environ, keep_fd=keep_fd)
