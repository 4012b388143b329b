"""Asking before something is removed: a person at a terminal answers, and anything else has to say ``--yes``."""

from __future__ import annotations

import sys

from supervisor.core.errors import UsageError


def agreed(question: str, *, yes: bool, what: str) -> bool:
    """Return whether to go on. Raises UsageError, so that nothing is removed, where nobody can be asked.

    ``what``: what stays as it is, for the message. The default answer is no.
    """
    if yes:
        return True
    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError(f"{what} was not removed, because there is no terminal to ask on", "add --yes to remove it")
    sys.stdout.flush()
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
