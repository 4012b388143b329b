"""What the next machine of a run needs of the home store, and nothing more: its way there may be slow.

That is what a session reads when it begins (the record, who was here, how they ended, how they lived, what was installed),
and the newest checkpoint that is whole. The step log and the output stay at home, where people read them; so do kept
packages, because a machine fetches those faster from where they came from.
"""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

from supervisor.core import checkpoint as cp
from supervisor.core.claim import rank_of
from supervisor.core.digest import algorithm_of, preferred
from supervisor.core.ports import StoreError
from supervisor.core.values import dataclass
from supervisor.engine import checkpoints, journal, packed, receipts, steplog
from supervisor.engine.claims import asked_of
from supervisor.fleet import parcels

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from supervisor.core.ports import Store
    from supervisor.engine.place import RunPlace

HOME = "home"
JOURNALS = 2  # the newest tells what there is to tell; one more, because it may be damaged
_TOLD_AT_HOME = re.compile(r"output-|here-")


@dataclass(frozen=True, slots=True)
class Seed:
    """Parcels for the next machine; ``checkpoint``: where it goes on, None at step 0; ``skipped``: newer ones, and why."""

    parcels: tuple[parcels.Parcel, ...] = ()
    checkpoint: cp.CheckpointId | None = None
    skipped: tuple[str, ...] = ()

    def index(self) -> list[dict[str, object]]:
        """Return how ``job.json`` names the parcels."""
        return [parcel.index() for parcel in self.parcels]


@dataclass(frozen=True, slots=True)
class Chosen:
    """The checkpoint to go on from, None for step 0, and words on those that were passed over."""

    manifest: cp.Manifest | None
    path: str
    skipped: tuple[str, ...]


def choose(store: Store, run: RunPlace, into: Path) -> Chosen:
    """Prove checkpoints, the newest first, until one is whole. Raises UserError where there is work and none is.

    ``into``: a local folder for that; it holds the files of the checkpoint for a while.
    """
    brought = checkpoints.newest_whole(store, run, (), into)
    answer = brought.answer
    if isinstance(answer, cp.StartAfresh):
        return Chosen(None, "", ())
    if isinstance(answer, cp.AskUser):
        raise packed.refusal(store, run, answer)
    packed.keep(store, run, answer.skipped)
    return Chosen(answer.found.manifest, answer.found.path, packed.warnings(store, run, answer.skipped))


def paths(store: Store, run: RunPlace, chosen: Chosen) -> Iterator[tuple[str, int, str]]:
    """Yield (path, bytes, digest or "") of all that the next machine needs; the checkpoint's manifest is the last."""
    id_ = None if chosen.manifest is None else chosen.manifest.id
    told = {f"verified-{id_.epoch}-{id_.step}-{id_.writer}-{id_.seq}-"} if id_ else set()
    for entry in store.list(run.name):
        inside = f"{run.name}/{entry.name}"
        if rank_of(entry.name):
            yield from _of_session(store, inside)
        elif not entry.folder and asked_of(entry.name) is None:
            receipt = receipts.NAME.fullmatch(entry.name)
            if not receipt or any(entry.name.startswith(name) for name in told):
                yield inside, entry.bytes or 0, ""
    if chosen.manifest is not None:
        for file in chosen.manifest.all_files():
            yield f"{run.name}/{file.path}", file.bytes, file.digest
        yield chosen.path, len(cp.manifest_body(chosen.manifest)), ""


def pack(store: Store, wanted: Sequence[tuple[str, int, str]], folder: Path) -> Iterator[parcels.Parcel]:
    """Yield parcels with these files, in ``folder``. Raises StoreError where one is not what it was."""
    files = folder / "files"
    files.mkdir()
    pieces: dict[parcels.Piece, Path] = {}
    for number, (path, length, digest) in enumerate(wanted):
        file = files / str(number)
        got = store.pull(path, str(file), algorithm_of(digest) if digest else preferred(), link=True)
        if got.bytes != length or got.digest != (digest or got.digest):
            raise StoreError(f"{path} is not what it was a moment ago")
        for offset in range(0, max(1, length), parcels.CONTENT_BYTES_MAX):
            size = min(parcels.CONTENT_BYTES_MAX, length - offset)
            pieces[parcels.Piece(path, offset, size, length, got.digest)] = file
    for number, inside in enumerate(parcels.filled(pieces), 1):
        name = f"seed-{number:06d}{parcels.SUFFIX}"
        bodies = (parcels.body(pieces[piece], piece) for piece in inside)
        yield parcels.write(folder / name, f"inbox/{name}", parcels.Header(number, HOME, inside), bodies)
    shutil.rmtree(files)


def _of_session(store: Store, session: str) -> Iterator[tuple[str, int, str]]:
    """Yield what tells of a session: not its checkpoints, its step log and its output, and of its journal the end."""
    entries = {each.name: each.bytes or 0 for each in store.list(session) if not each.folder}
    journals = sorted(name for name in entries if journal.PIECE.fullmatch(name))[:-JOURNALS]
    for name, length in entries.items():
        if name in journals or steplog.PIECE.fullmatch(name) or _TOLD_AT_HOME.match(name):
            continue
        yield f"{session}/{name}", length, ""
