"""The uv installer."""

from __future__ import annotations

import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core.environment import read_locked
from supervisor.environments import commands
from supervisor.environments.files import digest, names
from supervisor.environments.hiding import UV, hidden
from supervisor.environments.port import InstallerFailed, Sources

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from supervisor.core.environment import Locked
    from supervisor.environments.settings import Settings

FURTHER_INDEXES = ("--index-strategy", "unsafe-first-match")  # uv's name for: the next index, if no version fits here
ALL_INDEXES = (
    "--index-strategy",
    "unsafe-best-match",
)  # only with hashes: they say which files may be taken, whoever has them
CPU_BUILDS = ("--torch-backend", "cpu")
_FOR_CUDA = re.compile(r"(torch==[^+]+$|nvidia-|triton==)")
_ADDED = re.compile(r"^ \+ (\S+==\S+)$", re.MULTILINE)


class Uv:
    """uv as an Installer: solves by a dry run against the interpreter, hashes with ``uv pip compile``.

    ``cpu``: there is no accelerator here, so of torch the build for the processor is chosen where one can be reached. uv
    itself knows where those builds are; the person's own indexes stay in force for all other packages.
    """

    name = "uv"

    def __init__(self, program: str, environ: Mapping[str, str], chosen: Settings, *, cpu: bool = False) -> None:
        self._program = program
        self._environ = environ
        self._wheel_folders = chosen.wheel_folders
        self._no_index = ["--no-index"] if chosen.no_index else []  # uv has no variable for this one
        self._cpu = cpu and not chosen.no_index and "UV_TORCH_BACKEND" not in environ
        self._strict = "UV_INDEX_STRATEGY" in environ  # the person's own word about it
        self._several = bool(chosen.extra_indexes)
        self._beyond: Sequence[str] = ()

    def solve(
        self, python: str, requirements: Sequence[str], constraints: Sequence[str], index_options: Sequence[str]
    ) -> tuple[Locked, ...]:
        pins = self._pins(python, requirements, constraints, index_options)
        backend: Sequence[str] = ()
        if self._cpu and any(_FOR_CUDA.match(pin) for pin in pins):
            try:
                pins, backend = self._pins(python, requirements, constraints, [*index_options, *CPU_BUILDS]), CPU_BUILDS
            except InstallerFailed:
                self._cpu = False  # they cannot be reached, or this uv does not know them: the common builds do too
        if not pins:
            return ()
        with tempfile.TemporaryDirectory() as folder:
            wanted = Path(folder, "wanted.txt")
            wanted.write_text("\n".join(pins), encoding="utf-8")
            hashed = self._run("compile", "--no-deps", "--generate-hashes", "--no-header", "--no-annotate", "--quiet",
                               "--python", python, str(wanted), *index_options, *backend)  # fmt: skip
        return tuple(one if one.hashes else self._hashed_at_hand(one) for one in read_locked(hashed.out))

    def _pins(
        self, python: str, requirements: Sequence[str], constraints: Sequence[str], index_options: Sequence[str]
    ) -> list[str]:
        with tempfile.TemporaryDirectory() as folder:
            constrained = Path(folder, "constraints.txt")
            constrained.write_text("\n".join(constraints), encoding="utf-8")
            wanted = Path(folder, "wanted.txt")
            wanted.write_text("\n".join(requirements), encoding="utf-8")
            # --break-system-packages is what lets a dry run look at a Debian Python; nothing is written.
            tried = self._run("install", "--dry-run", "--break-system-packages", "--python", python,
                              "--constraints", str(constrained), "-r", str(wanted), *index_options)  # fmt: skip
        return _ADDED.findall(tried.said)

    def install(self, python: str, pinned: Path, *, sources: Sources, target: Path | None = None) -> None:
        # a small folder of our own is copied, because a linked file that is damaged in place is damaged in the cache too
        where = [] if target is None else ["--target", str(target), "--link-mode", "copy"]
        offline = ["--offline"] if sources.wheels_only else []
        words = ["install", "--python", python, *where, *offline, *sources.options(), "-r", str(pinned)]
        self._with_cpu_builds(words, pinned, sources)

    def download_bytes(self, python: str, pinned: Path, *, sources: Sources) -> int | None:
        words = ["compile", "--no-deps", "--no-header", "--quiet", "--format", "pylock.toml", "--python", python,
                 str(pinned), *sources.index_options]  # fmt: skip
        try:
            told = self._with_cpu_builds(words, pinned, sources).out
        except InstallerFailed:  # an older uv, or an index that does not answer: the installation itself will say it
            return None
        sizes = [re.findall(r"\bsize = (\d+)", package) for package in told.split("[[packages]]")[1:]]
        return sum(max(map(int, each)) for each in sizes if each) or None

    def _with_cpu_builds(self, words: Sequence[str], pinned: Path, sources: Sources) -> commands.Ended:
        """Run a command over a lock; where it names builds for the processor that no index has, where uv knows them."""
        try:
            return self._run(*words, keep_fd=sources.keep_fd)
        except InstallerFailed:
            if sources.wheels_only or "+cpu" not in pinned.read_text(encoding="utf-8"):
                raise
            return self._run(*words, *CPU_BUILDS, keep_fd=sources.keep_fd)

    def add(self, python: str, lines: Path, *, sources: Sources) -> None:
        self._run("install", "--python", python, *sources.options(), "--no-deps", "-r", str(lines),
                  keep_fd=sources.keep_fd)  # fmt: skip

    def _hashed_at_hand(self, locked: Locked) -> Locked:
        """`locked` with the digests of its wheels in the person's folders, which uv chooses from but does not hash."""
        files = [file for folder in self._wheel_folders for file in Path(folder).glob("*.whl") if names(file, locked)]
        if not files:
            raise InstallerFailed(f"error: no hash is known for {locked.pin}")
        return replace(locked, hashes=tuple(sorted(map(digest, files))))

    def _run(self, *arguments: str, keep_fd: int | None = None) -> commands.Ended:
        """Run uv. A name comes from the first index that has it; where the versions there do not do, from the next ones.

        The order stays the person's: never the best version of all indexes, which a stranger could publish at a public one.
        Where hashes are required, a stranger's file is none of those that may be taken: then every index is asked.
        """
        ended = self._ran(arguments, keep_fd)
        several = self._several or any(word.startswith("--extra-index-url") for word in arguments)
        if ended.code == 0 or not several or self._strict or InstallerFailed(ended.said).no_network:
            further = []
        else:
            further = [FURTHER_INDEXES, *([ALL_INDEXES] if "--require-hashes" in arguments else [])]
        before = self._beyond
        for strategy in further:
            if strategy == before:
                continue
            self._beyond = strategy
            again = self._ran(arguments, keep_fd)
            if again.code != 0 or strategy is ALL_INDEXES:
                self._beyond = before
            if again.code == 0:
                return again
        if ended.code != 0:
            raise InstallerFailed(ended.said)
        return ended

    def _ran(self, arguments: Sequence[str], keep_fd: int | None) -> commands.Ended:
        words, environ = hidden([*arguments, *self._no_index, *self._beyond], self._environ, UV)
        return commands.run([self._program, "pip", *words], environ, keep_fd=keep_fd)
