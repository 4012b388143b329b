"""pack: the product in one zip, for a computer that cannot clone it, such as a Colab machine."""

from __future__ import annotations

import argparse
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.cli import shipped
from supervisor.cli.options import Parser, parser
from supervisor.core.errors import UsageError
from supervisor.views.words import size
from supervisor.views.wrapping import show

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DRIVE_FOLDER = "MyDrive/training-supervisor"


def run(arguments: Sequence[str]) -> int:
    """Write the zip, and say where it belongs."""
    from supervisor import __version__

    options = _parser().parse_args(arguments)
    name = f"training-supervisor-{__version__}"
    target = Path(options.output or f"{name}.zip")
    if target.is_dir():
        target /= f"{name}.zip"
    files = shipped.product()
    _write(target, name, files)
    show(
        f"packed {len(files)} files of training-supervisor {__version__} into {target} ({size(target.stat().st_size)})"
    )
    show(f"  next: put it into the folder {DRIVE_FOLDER} of Google Drive")
    show(f"  then: open {_near(shipped.root() / shipped.NOTEBOOK)} on Colab (File, Upload notebook), and Run all")
    return 0


def _write(target: Path, name: str, files: Mapping[str, Path]) -> None:
    """Write a zip that has all files below one folder, as a clone does; it gets its name when it is whole."""
    half = target.with_name(f".{target.name}-{os.getpid()}.tmp")
    try:
        with zipfile.ZipFile(half, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as packed:
            for inside, path in files.items():
                packed.write(path, f"{name}/{inside}")
        half.replace(target)
    except OSError as error:
        half.unlink(missing_ok=True)
        raise UsageError(
            f"{target} cannot be written: {error.strerror}", "name another file with -o FILE, in a folder that exists"
        ) from error


def _near(path: Path) -> Path:
    """Return a path as a person would type it from here."""
    try:
        return path.relative_to(Path.cwd())
    except ValueError:
        return path


def _parser() -> Parser:
    made = parser("pack", "Write the product into one zip: put it into Google Drive, and the notebook finds it there.")
    made.add_argument(
        "-o", "--output", metavar="FILE", help="file or folder (default: training-supervisor-VERSION.zip)"
    )
    made.add_argument("--for-colab", action="store_true", help=argparse.SUPPRESS)
    return made
