"""What a command line runs: a script, or a module as ``python -m`` does; other launchers are answered with the line that works."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.cli.suggesting import sorted_out
from supervisor.core import program
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
    """Return the file that ``python -m NAME`` runs, found without importing anything. Raises UsageError."""
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts):
        hint = (
            f"give a path as it is: {program.command('start', name)}"
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


def refuse_launchers(parser: Parser, own: Sequence[str], behind: Sequence[str]) -> None:
    """Raise UsageError for the command line of another launcher: here the script itself is named, and is one process."""
    parser.behind = behind
    at = _launcher_at(parser, own)
    if at is None:
        return
    launcher, before, after = own[at], own[:at], list(own[at + 1 :])
    if at and own[at - 1] in MODULE_OPTIONS:
        before = own[: at - 1]
    target, arguments = _target(after)
    arguments += behind
    what = f"{launcher} is not needed: the supervisor runs the script itself, as one process"
    if not target:
        raise UsageError(what, f"{program.command(parser.verb)} SCRIPT -- ARGUMENTS OF THE SCRIPT")
    raise UsageError(what, program.command(parser.verb, *target, *before, *(["--", *arguments] if arguments else [])))


def _launcher_at(parser: Parser, own: Sequence[str]) -> int | None:
    """Return where another launcher stands in the place of the script, None where none does."""
    for at, word in enumerate(own):
        if at and own[at - 1] in MODULE_OPTIONS:
            return at if word in LAUNCHING_MODULES else None
        name = os.path.basename(word)  # noqa: PTH119  a command's word
        launches = name in LAUNCHERS or (name.startswith("python") and name[6:].replace(".", "").isdigit())
        if launches and word in sorted_out(parser, own[: at + 1])[0] and not Path(word).is_file():
            return at
    return None


def _target(words: list[str]) -> tuple[list[str], list[str]]:
    """Return how the script or module is named here, and its arguments; nothing where it cannot be told."""
    for at, word in enumerate(words):
        if word in MODULE_OPTIONS and words[at + 1 :] and words[at + 1] not in LAUNCHING_MODULES:
            return ["-m", words[at + 1]], words[at + 2 :]
        if word.endswith(".py") and not word.startswith("-"):
            return [word], words[at + 1 :]
    return [], []
