"""The part of the local store that the next machine of a run needs, and no more: the connection may be slow.

It holds what a session reads at its start: the record, earlier claims, ends and lifetimes, the environment, and the
newest valid checkpoint. The step log and the output stay on this computer, where people read them. Kept packages stay
too, because a machine fetches them faster from their index.
"""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

from supervisor.core.checkpoint import manifest as cp
from supervisor.core.checkpoint.session_id import parse_session_id
from supervisor.core.digest import algorithm_of, preferred
from supervisor.core.frozen import dataclass
from supervisor.core.ports import StoreError
from supervisor.engine import journal
from supervisor.engine.resume import fetch as checkpoint_fetch
from supervisor.engine.resume import packed as packed_checkpoints
from supervisor.engine.run_catalog import verification_records
from supervisor.engine.run_catalog.claims import addressee
from supervisor.engine.upload import step_log as step_log_store
from supervisor.fleet.transfer import part as transfer_part

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from supervisor.core.ports import Store
    from supervisor.engine.paths import RunPaths

HOME = "home"
JOURNALS = 2  # the newest has the information; one more, because it may be damaged
_TOLD_AT_HOME = re.compile(r"output-|here-")


@dataclass(frozen=True, slots=True)
class ResumeSet:
    """Parts for the next machine.

    ``checkpoint``: its resume point, None for step 0; ``skipped``: newer ones with reasons.
    """

    parcels: tuple[transfer_part.TransferPart, ...] = ()
    checkpoint: cp.CheckpointId | None = None
    skipped: tuple[str, ...] = ()

    def index(self) -> list[dict[str, object]]:
        """Return the list of the parts for ``job.json``."""
        return [part.index() for part in self.parcels]


@dataclass(frozen=True, slots=True)
class Chosen:
    """The checkpoint to resume from, None for step 0, and reasons for the skipped ones."""

    manifest: cp.Manifest | None
    path: str
    skipped: tuple[str, ...]


def choose(store: Store, run: RunPaths, into: Path) -> Chosen:
    """Verify checkpoints, the newest first, until one is valid. Raises UserError if the run has work but no valid one.

    Args:
        store: the local store.
        run: the run.
        into: a local folder that holds a checkpoint's files for a while.
    """
    fetched = checkpoint_fetch.fetch_newest_valid(store, run, (), into)
    answer = fetched.answer
    if isinstance(answer, cp.StartFresh):
        return Chosen(None, "", ())
    if isinstance(answer, cp.NeedsUser):
        raise packed_checkpoints.refusal(store, run, answer)
    packed_checkpoints.pin_packed(store, run, answer.skipped)
    return Chosen(answer.found.manifest, answer.found.path, packed_checkpoints.warnings(store, run, answer.skipped))


def paths(store: Store, run: RunPaths, chosen: Chosen) -> Iterator[tuple[str, int, str]]:
    """Yield (path, bytes, digest or "") of all files for the next machine; the manifest is the last."""
    id_ = None if chosen.manifest is None else chosen.manifest.id
    receipt_prefixes = {f"verified-{id_.generation}-{id_.step}-{id_.writer}-{id_.seq}-"} if id_ else set()
    for entry in store.list(run.name):
        inside = f"{run.name}/{entry.name}"
        if parse_session_id(entry.name):
            yield from _of_session(store, inside)
        elif not entry.folder and addressee(entry.name) is None:
            receipt = verification_records.NAME.fullmatch(entry.name)
            if not receipt or any(entry.name.startswith(name) for name in receipt_prefixes):
                yield inside, entry.bytes or 0, ""
    if chosen.manifest is not None:
        for file in chosen.manifest.all_files():
            yield f"{run.name}/{file.path}", file.bytes, file.digest
        yield chosen.path, len(cp.manifest_body(chosen.manifest)), ""


def pack(store: Store, wanted: Sequence[tuple[str, int, str]], folder: Path) -> Iterator[transfer_part.TransferPart]:
    """Yield parts with these files in ``folder``. Raises StoreError if a file has changed."""
    files = folder / "files"
    files.mkdir()
    pieces: dict[transfer_part.FileChunk, Path] = {}
    for number, (path, length, digest) in enumerate(wanted):
        file = files / str(number)
        got = store.pull(path, str(file), algorithm_of(digest) if digest else preferred(), link=True)
        if got.bytes != length or got.digest != (digest or got.digest):
            raise StoreError(f"{path} is not what it was a moment ago")
        for offset in range(0, max(1, length), transfer_part.CONTENT_BYTES_MAX):
            size = min(transfer_part.CONTENT_BYTES_MAX, length - offset)
            pieces[transfer_part.FileChunk(path, offset, size, length, got.digest)] = file
    for number, inside in enumerate(transfer_part.fill_parts(pieces), 1):
        name = f"seed-{number:06d}{transfer_part.SUFFIX}"
        bodies = (transfer_part.body(pieces[piece], piece) for piece in inside)
        yield transfer_part.write(
            folder / name, f"inbox/{name}", transfer_part.PartHeader(number, HOME, inside), bodies
        )
    shutil.rmtree(files)


def _of_session(store: Store, session: str) -> Iterator[tuple[str, int, str]]:
    """Yield the records of a session and the end of its journal, without checkpoints, step log and output."""
    entries = {each.name: each.bytes or 0 for each in store.list(session) if not each.folder}
    journals = sorted(name for name in entries if journal.PIECE.fullmatch(name))[:-JOURNALS]
    for name, length in entries.items():
        if name in journals or step_log_store.PIECE.fullmatch(name) or _TOLD_AT_HOME.match(name):
            continue
        yield f"{session}/{name}", length, ""
