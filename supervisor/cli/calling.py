"""How the program was called: read once, from what the interpreter was given."""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING

from supervisor.cli import shipped
from supervisor.core import program

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

SCRIPT = "training-supervisor"  # the console script
PACKAGE = "supervisor"
TOY = "trainers/toy.py"
_CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120


def note() -> None:
    """Tell :mod:`supervisor.core.program` how this process was called."""
    program.set_called_as(read(sys.orig_argv, sys.argv[0] if sys.argv else "", os.environ, _which))


def example_script() -> str:
    """Return a script to try the program with: the shipped toy, which every verb finds from any folder."""
    return TOY if shipped.script(TOY) else "SCRIPT"


def read(original: Sequence[str], argv0: str, environ: Mapping[str, str], which: Callable[[str], str | None]) -> str:
    """Return what stands before the verb.

    ``original``: the interpreter's own command line (``sys.orig_argv``); ``argv0``: ``sys.argv[0]``; ``which`` looks a
    command up. A process that one of ours started shows the commands of the one that a person called.
    """
    if environ.get(program.ENVIRONMENT):
        return environ[program.ENVIRONMENT]
    name = os.path.basename(argv0)  # noqa: PTH119  a command line's word, not a path to work with
    if name.startswith(SCRIPT):
        return SCRIPT if _same_file(which(SCRIPT), argv0) else shlex.quote(argv0)
    at = _module_at(original)
    if at is not None:
        return shlex.join(original[: at + 1])
    if argv0 in original and _is_our_folder(argv0):
        return shlex.join(original[: list(original).index(argv0) + 1])
    if which("python3") or not sys.executable:
        return program.DEFAULT
    return f"{shlex.quote(sys.executable)} -m {PACKAGE}"


def _module_at(original: Sequence[str]) -> int | None:
    """Return where the module's name stands in ``python -m supervisor``, None where the interpreter was given none."""
    for at, word in enumerate(original[1:], start=1):
        if word == f"-m{PACKAGE}":
            return at
        if word == "-m" or (word.startswith("-") and not word.startswith("--") and word.endswith("m")):
            return at + 1 if list(original[at + 1 : at + 2]) == [PACKAGE] else None
        if not word.startswith("-") and original[at - 1] not in {"-W", "-X", "--check-hash-based-pycs"}:
            return None  # a script: what follows is its own
    return None


def _is_our_folder(argv0: str) -> bool:
    """Return True where the interpreter was given the package's folder or its ``__main__.py``."""
    here = os.path.join(_CHECKOUT, PACKAGE)  # noqa: PTH118
    return os.path.abspath(argv0) in {here, os.path.join(here, "__main__.py")}  # noqa: PTH100, PTH118


def _which(name: str) -> str | None:
    import shutil  # here, because few calls need it and it loads the compressions

    return shutil.which(name)


def _same_file(found: str | None, argv0: str) -> bool:
    try:
        return found is not None and os.path.samefile(found, argv0)  # noqa: PTH121
    except OSError:
        return False
