"""Run an installer's command to its end and keep what it said."""

from __future__ import annotations

import atexit
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

COULD_NOT_START = 127


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended; `said` is both streams, as the installers mix reasons between them."""

    code: int
    out: str
    said: str


def run(argv: Sequence[str], environ: Mapping[str, str], *, stdin: str = "", keep_fd: int | None = None) -> Ended:
    """Run `argv`; never raises for a command that fails or is not there (code 127).

    `keep_fd` (a held lock) stays open in the child, because a supervisor killed with -9 leaves its installer
    writing, and the next supervisor must wait for that one too. A child without it ends with this process.
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
        return Ended(COULD_NOT_START, "", f"{argv[0]}: {error.strerror}")
    if keep_fd is None:
        _CHILDREN.add(child)
    try:
        out, errors = child.communicate(stdin)
    except BaseException:  # Ctrl-C, for instance: nobody waits for it any more
        child.kill()
        raise
    finally:
        _CHILDREN.discard(child)
    return Ended(child.returncode, out, f"{out}\n{errors}")


def _end_children() -> None:
    """End what still runs for us: what it was to fetch has no use once the run is over."""
    for child in tuple(_CHILDREN):
        with suppress(OSError):
            child.terminate()


_CHILDREN: set[subprocess.Popen[str]] = set()
atexit.register(_end_children)
