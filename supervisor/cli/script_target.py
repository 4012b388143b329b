"""Target of a command line: a script, or a module as with ``python -m``.

For other launchers the error shows the right line.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.cli.suggestions import split_known
from supervisor.core import shell_commands
from supervisor.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.cli.options import Parser

LAUNCHERS = frozenset({
    "accelerate", "bash", "deepspeed", "horovodrun", "ipython", "mpiexec", "mpirun", "poetry", "python", "python3", "sh", "srun",
    "torchrun", "uv",
})  # fmt: skip
LAUNCHING_MODULES = frozenset({
    "torch.distributed.run", "torch.distributed.launch", "accelerate.commands.launch", "deepspeed.launcher.runner",
})  # fmt: skip
MODULE_OPTIONS = frozenset({"-m", "--module"})


def module_path(name: str) -> Path:
    """Return the file that ``python -m NAME`` runs, found without an import. Raises UsageError."""
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts):
        hint = (
            f"give a path as it is: {shell_commands.command('start', name)}"
            if Path(name).exists()
            else "write it like package.module"
        )
        raise UsageError(f"-m {name}: this is no module's name", hint)
    for folder in dict.fromkeys((str(Path.cwd()), *sys.path)):
        place = Path(folder, *parts)
        for found in (place / "__main__.py", place.with_suffix(".py")):
            if found.is_file():
                return found.resolve()
    hint = "start it in the folder in which `python3 -m` finds it, or give the path of its file"
    if Path.cwd().joinpath(*parts).is_dir():
        hint = f"a package needs a __main__.py to be run; a module of it is named {name}.MODULE"
    raise UsageError(f"there is no module {name} in this folder", hint)


def reject_launchers(parser: Parser, own: Sequence[str], script_arguments: Sequence[str]) -> None:
    """Raise UsageError for another launcher's command line: the supervisor takes the script itself, as one process."""
    parser.script_arguments = script_arguments
    at = _launcher_at(parser, own)
    if at is None:
        return
    launcher, before, after = own[at], own[:at], list(own[at + 1 :])
    if at and own[at - 1] in MODULE_OPTIONS:
        before = own[: at - 1]
    target, arguments = _target(after)
    arguments += script_arguments
    what = f"{launcher} is not needed: the supervisor runs the script itself, as one process"
    if not target:
        raise UsageError(what, f"{shell_commands.command(parser.verb)} SCRIPT -- ARGUMENTS OF THE SCRIPT")
    raise UsageError(
        what, shell_commands.command(parser.verb, *target, *before, *(["--", *arguments] if arguments else []))
    )


def _launcher_at(parser: Parser, own: Sequence[str]) -> int | None:
    """Return the position of another launcher in place of the script; None if there is none."""
    for at, word in enumerate(own):
        if at and own[at - 1] in MODULE_OPTIONS:
            return at if word in LAUNCHING_MODULES else None
        name = os.path.basename(word)  # noqa: PTH119  a command's word
        launches = name in LAUNCHERS or (name.startswith("python") and name[6:].replace(".", "").isdigit())
        if launches and word in split_known(parser, own[: at + 1])[0] and not Path(word).is_file():
            return at
    return None


def _target(words: list[str]) -> tuple[list[str], list[str]]:
    """Return the launched script or module and its arguments; nothing if they are unknown."""
    for at, word in enumerate(words):
        if word in MODULE_OPTIONS and words[at + 1 :] and words[at + 1] not in LAUNCHING_MODULES:
            return ["-m", words[at + 1]], words[at + 2 :]
        if word.endswith(".py") and not word.startswith("-"):
            return [word], words[at + 1 :]
    return [], []
