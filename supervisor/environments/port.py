"""What every installer can do, how it says no, and where it may take packages from."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from supervisor.core.errors import SetupError
from supervisor.core.masking import masked_text
from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from supervisor.core.environment import Locked

_NO_NETWORK = re.compile(
    r"error sending request|dns error|failed to lookup address|name resolution|Name or service not known|"
    r"Connection refused|Network is unreachable|NewConnectionError|ConnectTimeout|Failed to establish|"
    r"No route to host|[Nn]etwork connectivity is disabled|ProxyError|timed out|operation timed out",
)
_UNBUILT = re.compile(
    r"(?:Failed to build|Failed building wheel for|Could not build wheels for)[ `']+([A-Za-z0-9][\w.-]*)"
)
_BUILD = re.compile(r"subprocess-exited-with-error|metadata-generation-failed|[Bb]uild backend returned an error")
_NO_GIT = re.compile(
    r"Git executable not found|Cannot find command 'git'|git.*: No such file or directory", re.IGNORECASE
)
_REASON_BYTES_MAX = 400
_BUILD_ERROR_MAX = 160
_TRACEBACK, _RAISED = "Traceback (most recent call last)", re.compile(r"[A-Za-z_][\w.]*(?:Error|Exception): ")


class InstallerFailed(Exception):  # noqa: N818  named as a sentence: the installer failed
    """An installer said no: `reason` is its own, in short; `no_network` tells a missing connection from a missing package.

    ``unbuilt``: the package that had to be built here and could not, or "". ``no_git``: git itself is missing; ``no_space``:
    the disk is full.
    """

    def __init__(self, said: str) -> None:
        built = _UNBUILT.search(said)
        self.unbuilt = built[1] if built else "one of its packages" if _BUILD.search(said) else ""
        self.no_git = bool(_NO_GIT.search(said))
        self.no_network = bool(_NO_NETWORK.search(said)) and "certificate" not in said and not self.unbuilt
        self.no_space = "No space left on device" in said or "Disk quota exceeded" in said
        self.reason = shorten(said)
        self.build_error = masked_text(_last_error(said))[:_BUILD_ERROR_MAX]
        super().__init__(self.reason)

    @property
    def plain(self) -> str:
        """The reason in our own words where they are shorter, else the installer's."""
        if self.no_space:
            return "the disk of this machine is full"
        if self.no_network:
            return "there is no connection to a package index"
        if self.no_git:
            return "git is not on this machine"
        if self.unbuilt:
            return f"{self.unbuilt} has to be built here, and its build fails ({self.build_error})"
        return self.reason

    def advice(self, source: str) -> str:
        """What to do about it; ``source`` is where the person asked for the package."""
        if self.no_space:
            return "make room on its disk, or use a machine with a larger one"
        if self.no_network:
            return "connect this machine, or point PIP_FIND_LINKS at a folder that holds the wheels; or start with --no-install"
        if self.no_git:
            return "install git, or start with --no-install, which uses the packages that are here"
        if self.unbuilt:
            return (
                f"install what the build of {self.unbuilt} needs (a compiler, swig, headers), ask for a version that has a "
                "wheel, or start with --no-install"
            )
        return f"change it in {source}, or start with --no-install, which uses the packages that are here"


class CannotInstallError(SetupError):
    """The job's packages cannot be had; ``reason`` is why, without what was asked for."""

    def __init__(self, what: str, failure: InstallerFailed, source: str) -> None:
        self.reason, self.unbuilt = failure.plain, failure.unbuilt
        super().__init__(f"{what}: {self.reason}", failure.advice(source))

    def unbelieved(self) -> None:
        """Add that the store keeps the packages, and why they are not used."""
        self.what += "; the packages that the store keeps are not signed by this user's key"
        self.args = (self.what,)
        self.hint = (
            "connect this machine; or set SUPERVISOR_KEY as `doctor --key` prints it on the machine that "
            "kept them; or add --trust-store"
        )


class Installer(Protocol):
    """solve: what `requirements` would add to `python`, never touching it, hashed and in order of name.

    install: put a list of pinned requirements into `python`'s own environment or into the folder `target`, with no
    dependencies but those named. add: the same for lines that name a path or an address. All raise InstallerFailed.
    download_bytes: how much a list of pinned requirements is to fetch; None where the index does not tell.
    """

    name: str

    def solve(
        self, python: str, requirements: Sequence[str], constraints: Sequence[str], index_options: Sequence[str]
    ) -> tuple[Locked, ...]: ...

    def install(self, python: str, pinned: Path, *, sources: Sources, target: Path | None = None) -> None: ...

    def add(self, python: str, lines: Path, *, sources: Sources) -> None: ...

    def download_bytes(self, python: str, pinned: Path, *, sources: Sources) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Sources:
    """Where an installation takes packages from, over and above the person's own settings.

    `wheels`: a folder of kept wheels, alone when `wheels_only`. `hashed`: the list is a whole one, with a hash for each.
    `keep_fd`: the held lock, for the installer to inherit.
    """

    wheels: Path | None = None
    wheels_only: bool = False
    hashed: bool = True
    index_options: tuple[str, ...] = ()
    keep_fd: int | None = None

    def options(self) -> list[str]:
        """The same words for uv and pip."""
        chosen = [] if self.wheels is None else ["--find-links", str(self.wheels)]
        alone = ["--no-index"] if self.wheels_only else list(self.index_options)
        return [*chosen, *alone, *(["--require-hashes", "--no-deps"] if self.hashed else [])]


def _last_error(said: str) -> str:
    """Return the last line in which a build says what it lacks; what the installer says around it tells less."""
    lines = [re.sub(r"^[\s×│├╰─▶]+", "", line).strip() for line in said.splitlines()]
    found = [line for line in lines if re.match(r"(fatal )?error: |.*: (fatal )?error: |\w*(Error|Exception): ", line)]
    told = [line for line in found if not re.search(r"subprocess-exited|Failed to build|metadata-generation", line)]
    return (told or found or [shorten(said)])[-1]


def shorten(said: str) -> str:
    """An installer's own reason on one line: the error lines where there are any, no drawing characters, no addresses."""
    traced = [line for line in said.partition(_TRACEBACK)[2].splitlines() if _RAISED.match(line)]
    if traced:  # the installer itself failed: its last exception says why
        return masked_text(traced[-1].strip())[:_REASON_BYTES_MAX]
    lines = [re.sub(r"^[\s×│├╰─▶]+", "", line).strip() for line in said.splitlines()]
    start = next((at for at, line in enumerate(lines) if re.match(r"(?i)error|no solution|because", line)), 0)
    said_again = ("ERROR:", "WARNING", "[notice]", "hint:")
    kept = [line for line in lines[start + 1 :] if line and not line.startswith(said_again)]
    text = " ".join([*lines[start : start + 1], *kept])
    text = re.sub(r"(?i)^(error: ?)+|no solution found when resolving dependencies:? ?(cause: )?", "", text)
    text = masked_text(re.sub(r"\b(https?|file)://\S+", "the index", text))
    return text if len(text) <= _REASON_BYTES_MAX else text[:_REASON_BYTES_MAX] + "…"
