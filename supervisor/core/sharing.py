"""Files that several checkpoints of a session share: which need not be sent again, and which nobody needs any more."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from supervisor.core.checkpoint import STEP_FOLDER
from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from supervisor.core.checkpoint import FileEntry, Manifest

# A smaller file costs a round trip more than it costs bytes, and each that is shared ties two checkpoints together.
SHARED_BYTES_MIN = 1_000_000
SHARED_SUFFIX = ".safetensors"
SHARED_PREFIXES = ("file-", "bundle-")  # what a script nobody changed has written
_TWIN = re.compile(r" \(\d+\)")


@dataclass(frozen=True, slots=True)
class Remaining:
    """A published checkpoint that stays: its step folder and the paths its manifest names, None if that cannot be read.

    All paths are relative to the run's folder.
    """

    folder: str
    paths: Collection[str] | None


def already_there(newest: Manifest | None, name: str, promised: tuple[int, str], least_bytes: int) -> FileEntry | None:
    """Return the entry for a file (``promised``: length, digest) that lies in the store already; None: send it.

    ``newest`` is the newest checkpoint that this very session has proved DURABLE. Another session's would not do: while
    it is not outranked yet, its retention may remove a file of which it does not know that we need it. An entry names
    the place where the file lies and never another entry, so there are no chains.
    """
    if (
        newest is None
        or promised[0] < least_bytes
        or not (name.endswith(SHARED_SUFFIX) or name.startswith(SHARED_PREFIXES))
    ):
        return None
    same = (each for each in newest.files if (each.bytes, each.digest) == promised)
    return next((replace(each, name=name) for each in same), None)


def unneeded(paths: Iterable[str], remaining: Iterable[Remaining]) -> list[str]:
    """Return which of these files in step folders no remaining checkpoint names or, unread, could name.

    A manifest that cannot be read may name any file of its session at its own step or an older one. A drive's twins
    (``x (1)``) count as what they are twins of.
    """
    named: set[str] = set()
    unknown: list[tuple[str, int]] = []
    for each in remaining:
        if each.paths is None:
            unknown.append(_place(each.folder))
        else:
            named.update(map(_untwinned, each.paths))
    return [path for path in paths if _untwinned(path) not in named and not _could_be_named(path, unknown)]


def only_theirs(going: Iterable[Manifest], staying: Iterable[Manifest]) -> int:
    """Return how many bytes of files are named by those that go and by none that stays."""
    kept = {_untwinned(entry.path) for manifest in staying for entry in manifest.all_files()}
    files = {_untwinned(entry.path): entry.bytes for manifest in going for entry in manifest.files}
    return sum(length for path, length in files.items() if path not in kept)


def _could_be_named(path: str, unknown: Iterable[tuple[str, int]]) -> bool:
    session, step = _place(path)
    return any(session == theirs and step <= newest for theirs, newest in unknown)


def _place(path: str) -> tuple[str, int]:
    """Return the session's folder and the step of a path in a step folder."""
    session, folder = _untwinned(path).split("/")[:2]
    step = STEP_FOLDER.fullmatch(folder)
    assert step is not None, path
    return session, int(step[1])


def _untwinned(path: str) -> str:
    return _TWIN.sub("", path)
