"""Which files of a machine's store are still to go to the user's computer, and in which order."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING

from supervisor.core.checkpoint import MANIFEST_NAME, ManifestError, parse_manifest
from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

KEPT_PACKAGES = "/environment"
_STEP = re.compile(r"/e(\d{8,})-[0-9a-z]+/step-(\d{9,})/")


@dataclass(frozen=True, slots=True)
class File:
    """A file of the store by its path; it never changes."""

    path: str
    bytes: int


def found(root: Path, settled: Callable[[str], bool], known: Mapping[str, File]) -> dict[str, File]:
    """Return the store's files that are not ``settled``. ``known``: those found before, which are not measured again."""
    files = {}
    for entry, path in _walk(str(root), ""):
        if settled(path):
            continue
        if path in known:
            files[path] = known[path]
            continue
        with suppress(FileNotFoundError):  # it went while we looked
            files[path] = File(path, entry.stat(follow_symlinks=False).st_size)
    return files


def order(path: str) -> tuple[int, int, int, str]:
    """Return a key: what tells of the run, then checkpoints from the oldest on.

    What tells is small, and a manifest is; so neither waits long for a large file.
    """
    name = path.rpartition("/")[2]
    step = _STEP.search(path)
    if step and not MANIFEST_NAME.fullmatch(name):
        return 3, int(step[1]), int(step[2]), path
    return {"run.json": 0, "claim.json": 1}.get(name, 2), 0, 0, path


def named_by(root: Path, path: str) -> set[str]:
    """Return the paths in the store of all files that a manifest names; of one that cannot be read, none."""
    try:
        manifest = parse_manifest(path.rpartition("/")[2], (root / path).read_bytes())
    except (FileNotFoundError, ManifestError):
        return set()  # home judges it, and refuses it
    run = path.partition("/")[0]
    return {f"{run}/{entry.path}" for entry in manifest.all_files()}


def _walk(folder: str, above: str) -> Iterator[tuple[os.DirEntry[str], str]]:
    try:
        entries = os.scandir(folder)
    except FileNotFoundError:
        return
    with entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue  # not whole yet: a writer gives its file the real name at the end
            if entry.is_dir(follow_symlinks=False):
                if f"{above}{entry.name}".endswith(KEPT_PACKAGES) and above.count("/") == 1:
                    continue  # they save time only where they come from near; a new machine fetches them anew
                yield from _walk(entry.path, f"{above}{entry.name}/")
            else:
                yield entry, f"{above}{entry.name}"
