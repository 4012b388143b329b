"""Runs an installer's command to its end and captures its output."""

from __future__ import annotations

import atexit
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

from supervisor.core.frozen import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

COULD_NOT_START = 127


@dataclass(frozen=True, slots=True)
class CommandResult:
    """Result of a command. ``output`` joins both streams, because the installers mix reasons between them."""

    code: int
    out: str
    output: str


def run(
    argv: Sequence[str], environ: Mapping[str, str], *, stdin: str = "", keep_fd: int | None = None
) -> CommandResult:
    """Run ``argv``. A command that fails or is absent (code 127) raises nothing.

    Args:
        argv: the command line.
        environ: the environment variables.
        stdin: the input.
        keep_fd: a held lock that stays open in the child. After a kill -9 of the supervisor the installer keeps
            writing, and the next supervisor must wait for it. A child without it ends with this process.
    """
    try:
        child = subprocess.Popen(
            argv,
            env=dict(environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            pass_fds=() if keep_fd is None else (keep_fd,),
        )
    except OSError as error:
        return CommandResult(COULD_NOT_START, "", f"{argv[0]}: {error.strerror}")
    if keep_fd is None:
        _CHILDREN.add(child)
    try:
        out, errors = child.communicate(stdin)
    except BaseException:  # Ctrl-C, for instance: its result is not used any more
        child.kill()
        raise
    finally:
        _CHILDREN.discard(child)
    return CommandResult(child.returncode, out, f"{out}\n{errors}")


def _end_children() -> None:
    """End the remaining children: their downloads are useless once the run is over."""
    for child in tuple(_CHILDREN):
        with suppress(OSError):
            child.terminate()


_CHILDREN: set[subprocess.Popen[str]] = set()
atexit.register(_end_children)
