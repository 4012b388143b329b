"""Every error a person can cause: what happened, what to do about it, and the exit code that says so to programs."""

from __future__ import annotations

SUCCEEDED = 0
FAILED = 1
USAGE = 2
FAILED_SETUP = 3
FAILED_PRECHECKS = 4
NOT_TESTED = 5
HANDED_OVER = 42
FENCED = 75
NO_PROGRESS = 93
INTERRUPTED = 130
TERMINATED = 143

NO_MORE_PROCESSES = "this machine allows this user no more processes or threads"
NO_MORE_PROCESSES_HINT = (
    "raise the limit (`ulimit -u`, or the container's on pids) and start again; what was saved is kept"
)


class UserError(Exception):
    """Shown as two lines, ``what`` and ``hint``, with no traceback; the process ends with ``exit_code``."""

    def __init__(self, what: str, hint: str, exit_code: int = FAILED_PRECHECKS) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint
        self.exit_code = exit_code


class UsageError(UserError):
    """The command line itself is wrong."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what, hint, USAGE)


class SetupError(UserError):
    """The job cannot run in any environment we can make here; a restart would not help."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what, hint, FAILED_SETUP)
