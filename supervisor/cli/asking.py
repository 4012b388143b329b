"""Asking before something is removed: a person at a terminal answers, and anything else has to say ``--yes``."""

from __future__ import annotations

import sys

from supervisor.core.errors import UsageError


def agreed(question: str, *, yes: bool, what: str) -> bool:
    """Ask a yes-or-no question on the terminal; no is the default.

    Args:
        question: the text before ``[y/N]``.
        yes: the answer is given already (``--yes``).
        what: the object of the removal, for the error message.

    Returns:
        True for yes.

    Raises:
        UsageError: stdin is no terminal. The caller removes nothing.
    """
    if yes:
        return True
    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError(f"{what} was not removed, because there is no terminal to ask on", "add --yes to remove it")
    sys.stdout.flush()
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
