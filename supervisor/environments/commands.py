"""Run an installer's command to its end and keep what it said."""

from __future__ import annotations

import subprocess
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
    writing, and the next supervisor must wait for that one too.
    """
    try:
        done = subprocess.run(
            argv,
            env=dict(environ),
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            pass_fds=() if keep_fd is None else (keep_fd,),
        )
    except OSError as error:
        return Ended(COULD_NOT_START, "", f"{argv[0]}: {error.strerror}")
    return Ended(done.returncode, done.stdout, f"{done.stdout}\n{done.stderr}")
