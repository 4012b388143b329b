"""The installer protocol: operations, failures and sources of packages."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from supervisor.core.errors import SetupError
from supervisor.core.frozen import dataclass
from supervisor.core.masking import masked_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from supervisor.core.environment import LockedPackage

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
    """Failure of an installer. ``reason`` is its own text, shortened.

    - ``no_network``: the connection is missing, not the package
    - ``unbuilt``: the package that could not be built on this machine, or ""
    - ``no_git``: git itself is missing
    - ``no_space``: the disk is full
    """

    def __init__(self, output: str) -> None:
        built = _UNBUILT.search(output)
        self.unbuilt = built[1] if built else "one of its packages" if _BUILD.search(output) else ""
        self.no_git = bool(_NO_GIT.search(output))
        self.no_network = bool(_NO_NETWORK.search(output)) and "certificate" not in output and not self.unbuilt
        self.no_space = "No space left on device" in output or "Disk quota exceeded" in output
        self.reason = shorten(output)
        self.build_error = masked_text(_last_error(output))[:_BUILD_ERROR_MAX]
        super().__init__(self.reason)

    @property
    def summary(self) -> str:
        """The reason in our own shorter words if there are any, else the installer's."""
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
        """Return the hint for the user. ``source`` names the place of the requirement."""
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
    """The job's packages cannot be installed. ``reason`` is the cause without the requirements."""

    def __init__(self, what: str, failure: InstallerFailed, source: str) -> None:
        self.reason, self.unbuilt = failure.summary, failure.unbuilt
        super().__init__(f"{what}: {self.reason}", failure.advice(source))

    def with_untrusted_note(self) -> None:
        """Add that the store keeps the packages, and why they are not used."""
        self.what += "; the packages that the store keeps are not signed by this user's key"
        self.args = (self.what,)
        self.hint = (
            "connect this machine; or set SUPERVISOR_KEY as `doctor --key` prints it on the machine that "
            "kept them; or add --trust-store"
        )


class Installer(Protocol):
    """Protocol of an installer. All operations raise InstallerFailed.

    - ``solve`` returns the packages that ``requirements`` would add to ``python``, hashed and sorted by name. It
      changes nothing.
    - ``install`` installs pinned requirements into ``python``'s own environment or the folder ``target``, without
      further dependencies.
    - ``add`` does the same for lines that name a path or an address.
    - ``download_bytes`` returns the download size of pinned requirements; None if the index does not tell it.
    """

    name: str

    def solve(
        self, python: str, requirements: Sequence[str], constraints: Sequence[str], index_options: Sequence[str]
    ) -> tuple[LockedPackage, ...]: ...

    def install(self, python: str, pinned: Path, *, sources: IndexSources, target: Path | None = None) -> None: ...

    def add(self, python: str, lines: Path, *, sources: IndexSources) -> None: ...

    def download_bytes(self, python: str, pinned: Path, *, sources: IndexSources) -> int | None: ...


@dataclass(frozen=True, slots=True)
class IndexSources:
    """Sources of an installation, in addition to the user's own settings.

    - ``wheels``: a folder of kept wheels, the only source if ``wheels_only``
    - ``hashed``: the list is complete, with a hash for each package
    - ``keep_fd``: the held lock, inherited by the installer
    """

    wheels: Path | None = None
    wheels_only: bool = False
    hashed: bool = True
    index_options: tuple[str, ...] = ()
    keep_fd: int | None = None

    def options(self) -> list[str]:
        """Return the options that uv and pip have in common."""
        chosen = [] if self.wheels is None else ["--find-links", str(self.wheels)]
        alone = ["--no-index"] if self.wheels_only else list(self.index_options)
        return [*chosen, *alone, *(["--require-hashes", "--no-deps"] if self.hashed else [])]


def _last_error(output: str) -> str:
    """Return the last line in which a build names its error; the lines around it are less specific."""
    lines = [re.sub(r"^[\s×│├╰─▶]+", "", line).strip() for line in output.splitlines()]
    found = [line for line in lines if re.match(r"(fatal )?error: |.*: (fatal )?error: |\w*(Error|Exception): ", line)]
    specific = [line for line in found if not re.search(r"subprocess-exited|Failed to build|metadata-generation", line)]
    return (specific or found or [shorten(output)])[-1]


def shorten(output: str) -> str:
    """Return an installer's reason on one line: its error lines if any, without drawing characters and addresses."""
    traced = [line for line in output.partition(_TRACEBACK)[2].splitlines() if _RAISED.match(line)]
    if traced:  # the installer itself failed: its last exception is the reason
        return masked_text(traced[-1].strip())[:_REASON_BYTES_MAX]
    lines = [re.sub(r"^[\s×│├╰─▶]+", "", line).strip() for line in output.splitlines()]
    start = next((at for at, line in enumerate(lines) if re.match(r"(?i)error|no solution|because", line)), 0)
    repeated = ("ERROR:", "WARNING", "[notice]", "hint:")
    selected = [line for line in lines[start + 1 :] if line and not line.startswith(repeated)]
    text = " ".join([*lines[start : start + 1], *selected])
    text = re.sub(r"(?i)^(error: ?)+|no solution found when resolving dependencies:? ?(cause: )?", "", text)
    text = masked_text(re.sub(r"\b(https?|file)://\S+", "the index", text))
    return text if len(text) <= _REASON_BYTES_MAX else text[:_REASON_BYTES_MAX] + "…"
