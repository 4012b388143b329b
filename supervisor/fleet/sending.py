"""Which files of a machine's store are still to go to the user's computer, and in which order."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING

from supervisor.core.checkpoint import MANIFEST_NAME, ManifestError, parse_manifest
from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
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


def order(path: str, first: Collection[str] = ()) -> tuple[int, int, int, str]:
    """Return a key: small files about the run, then the files in ``first``, then checkpoints from the newest on.

    A manifest is small too; so neither waits long for a large file.
    """
    if is_of_checkpoint(path):
        return 3 if path in first else 4, *_older_last(path), path
    return {"run.json": 0, "claim.json": 1}.get(path.rpartition("/")[2], 2), 0, 0, path


def is_of_checkpoint(path: str) -> bool:
    """Say whether it is a file of a checkpoint, other than its manifest."""
    return _STEP.search(path) is not None and not MANIFEST_NAME.fullmatch(path.rpartition("/")[2])


def newest_first(manifests: Iterable[str]) -> list[str]:
    """Return manifests of checkpoints, the newest first."""
    return sorted((path for path in manifests if MANIFEST_NAME.fullmatch(path.rpartition("/")[2])), key=_older_last)


def _older_last(path: str) -> tuple[int, int]:
    step = _STEP.search(path)
    return (-int(step[1]), -int(step[2])) if step else (0, 0)


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
