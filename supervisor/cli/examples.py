"""examples: copies trainers, documents and the notebook out of an installed package, to read and to change."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.cli import shipped
from supervisor.cli.options import Parser, parser
from supervisor.core.errors import UsageError
from supervisor.views.wrapping import show

if TYPE_CHECKING:
    from collections.abc import Sequence

FOLDER = "training-supervisor-examples"


def run(arguments: Sequence[str]) -> int:
    """Copy the examples, and name them."""
    options = _parser().parse_args(arguments)
    target = Path(options.folder)
    files = shipped.examples()
    there = [name for name in files if (target / name).exists()]
    if there:
        raise UsageError(
            f"{target / there[0]} is there already, and a copy would replace it", "name another folder: examples DIR"
        )
    try:
        for name, path in files.items():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / name)
    except OSError as error:
        raise UsageError(
            f"{error.filename or target} cannot be written: {error.strerror}", "name another folder: examples DIR"
        ) from error
    show(f"copied {len(files)} files into {target}")
    show("\n".join(f"  {target / name}" for name in files if name.startswith("trainers/") or name == shipped.NOTEBOOK))
    return 0


def _parser() -> Parser:
    made = parser("examples", "Copy the example trainers, the notebook and the documents into a folder.")
    made.add_argument("folder", metavar="DIR", nargs="?", default=FOLDER, help=f"where to (default: {FOLDER})")
    return made
