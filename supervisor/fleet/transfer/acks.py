"""Acknowledgements from the computer to the serving machine, and the user's requests to its session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.checkpoint.session_id import parse_session_id
from supervisor.core.digest import digest_of, preferred
from supervisor.core.ports import NotFound
from supervisor.engine.run_catalog.claims import CLAIM, addressee
from supervisor.fleet.resume_set import HOME
from supervisor.fleet.transfer import part as transfer_part

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from supervisor.core.ports import Store
    from supervisor.engine.paths import RunPaths


class AckOutbox:
    """Acknowledgements for one machine, in ``folder`` until they are delivered.

    Unsent ones are only in memory. If they are lost, the part is still in the machine's outbox. It is fetched again and
    acknowledged again.
    """

    def __init__(self, store: Store, run: RunPaths, folder: Path) -> None:
        self._store, self._run, self._folder = store, run, folder
        self._pending: dict[str, transfer_part.Acknowledgement] = {}
        self._known: set[str] = set()
        self._number = 0
        folder.mkdir(parents=True, exist_ok=True)

    def add(
        self,
        header: transfer_part.PartHeader,
        held: Collection[str],
        refused: Mapping[str, str],
        wanted: Collection[str],
    ) -> None:
        """Add the acknowledgement of a received part."""
        pending = self._pending.get(header.origin, transfer_part.Acknowledgement(header.origin))
        self._pending[header.origin] = transfer_part.Acknowledgement(
            to=header.origin,
            parcels=[*pending.parcels, header.number],
            held=[*(path for path in pending.held if path not in wanted), *held],
            refused={**pending.refused, **refused},
            wanted=[*(path for path in pending.wanted if path not in held), *wanted],
        )
        self.mark_known(held)

    def mark_known(self, paths: Iterable[str]) -> None:
        """Note that the machine has these files: it sent them, or they are in its resume set."""
        self._known.update(path for path in paths if self._mentions(path))

    def undelivered(self) -> Sequence[transfer_part.TransferPart]:
        """Return all undelivered parts."""
        for origin in tuple(self._pending):
            self._write((), self._pending[origin])
            del self._pending[origin]
        asked = [(path, body) for path in self._pending_requests() if (body := self._read(path)) is not None]
        if asked:
            self._write(asked, None)
            self._known.update(path for path, _ in asked)
        return [self._parcel(file) for file in sorted(self._folder.glob(f"*{transfer_part.SUFFIX}"))]

    def delivered(self, part: transfer_part.TransferPart) -> None:
        """Forget a part."""
        part.file.unlink(missing_ok=True)

    def cancel(self, paths: Collection[str]) -> set[str]:
        """Cancel undelivered files; return those of the paths that a machine may already have."""
        cancelled: set[str] = set()
        for file in self._folder.glob(f"*{transfer_part.SUFFIX}"):
            inside = {piece.path for piece in transfer_part.read(file).header.pieces}
            if inside.isdisjoint(paths):
                continue
            file.unlink(missing_ok=True)
            cancelled |= inside & set(paths)
            self._known -= inside  # its other content is written again
        return {path for path in paths if path in self._known and path not in cancelled}

    def forget(self) -> None:
        """Forget everything: another machine starts."""
        self._pending.clear()
        self._known.clear()
        for file in self._folder.iterdir():
            file.unlink()

    def _pending_requests(self) -> Iterator[str]:
        """Yield files that the machine may not have: claims of the run, and requests to its sessions."""
        for entry in self._store.list(self._run.name):
            inside = f"{self._run.name}/{entry.name}"
            path = f"{inside}/{CLAIM}" if parse_session_id(entry.name) else inside
            if self._mentions(path) and path not in self._known:
                yield path

    def _mentions(self, path: str) -> bool:
        inside = path.removeprefix(f"{self._run.name}/")
        folder, _, name = inside.rpartition("/")
        return addressee(name) is not None if not folder else name == CLAIM and parse_session_id(folder) is not None

    def _read(self, path: str) -> bytes | None:
        try:
            return self._store.read(path)
        except NotFound:
            return None  # its writer died before it wrote it, or it was removed meanwhile

    def _write(self, files: Sequence[tuple[str, bytes]], letter: transfer_part.Acknowledgement | None) -> None:
        pieces = [
            transfer_part.FileChunk(path, 0, len(body), len(body), digest_of((body,), preferred()))
            for path, body in files
        ]
        self._number = 1 + max([self._number, *(int(file.name[5:11]) for file in self._folder.glob("mail-*.parcel"))])
        header = transfer_part.PartHeader(self._number, HOME, pieces, letter)
        file = self._folder / f"mail-{self._number:06d}{transfer_part.SUFFIX}"
        transfer_part.write(file, file.name, header, (body for _, body in files))

    def _parcel(self, file: Path) -> transfer_part.TransferPart:
        opened = transfer_part.read(file)
        name = f"inbox/{file.stem}-{opened.sha256[:8]}{transfer_part.SUFFIX}"
        return transfer_part.TransferPart(file, name, file.stat().st_size, opened.sha256)
