"""What home has to say to the machine that serves a run: what it holds by now, and what people ask of the session there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.claim import rank_of
from supervisor.core.digest import digest_of, preferred
from supervisor.core.ports import Missing
from supervisor.engine.claims import CLAIM, asked_of
from supervisor.fleet import parcels
from supervisor.fleet.next_machine import HOME

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from supervisor.core.ports import Store
    from supervisor.engine.place import RunPlace


class Mail:
    """Mail for one machine, in ``folder`` until it is delivered.

    What is owed lives in memory only: where it is lost, the parcel it is about still lies in the machine's outbox, comes
    again, and is answered again.
    """

    def __init__(self, store: Store, run: RunPlace, folder: Path) -> None:
        self._store, self._run, self._folder = store, run, folder
        self._owed: dict[str, parcels.Letter] = {}
        self._known: set[str] = set()
        self._number = 0
        folder.mkdir(parents=True, exist_ok=True)

    def owe(
        self, header: parcels.Header, held: Collection[str], refused: Mapping[str, str], wanted: Collection[str]
    ) -> None:
        """Note what is to be said of a parcel that came."""
        owed = self._owed.get(header.origin, parcels.Letter(header.origin))
        self._owed[header.origin] = parcels.Letter(
            to=header.origin,
            parcels=[*owed.parcels, header.number],
            held=[*(path for path in owed.held if path not in wanted), *held],
            refused={**owed.refused, **refused},
            wanted=[*(path for path in owed.wanted if path not in held), *wanted],
        )
        self.known(held)

    def known(self, paths: Iterable[str]) -> None:
        """Know that the machine has these: they came from there, or are in its seed."""
        self._known.update(path for path in paths if self._tells(path))

    def undelivered(self) -> Sequence[parcels.Parcel]:
        """Return all mail that was not delivered."""
        for origin in tuple(self._owed):
            self._write((), self._owed[origin])
            del self._owed[origin]
        asked = [(path, body) for path in self._asked() if (body := self._read(path)) is not None]
        if asked:
            self._write(asked, None)
            self._known.update(path for path, _ in asked)
        return [self._parcel(file) for file in sorted(self._folder.glob(f"*{parcels.SUFFIX}"))]

    def delivered(self, parcel: parcels.Parcel) -> None:
        """Forget a parcel."""
        parcel.file.unlink(missing_ok=True)

    def withdraw(self, paths: Collection[str]) -> set[str]:
        """Take back what was not delivered yet; return those of the paths that a machine may have by now."""
        withdrawn: set[str] = set()
        for file in self._folder.glob(f"*{parcels.SUFFIX}"):
            inside = {piece.path for piece in parcels.read(file).header.pieces}
            if inside.isdisjoint(paths):
                continue
            file.unlink(missing_ok=True)
            withdrawn |= inside & set(paths)
            self._known -= inside  # what else lay in it is written once more
        return {path for path in paths if path in self._known and path not in withdrawn}

    def forget(self) -> None:
        """Forget everything: another machine begins."""
        self._owed.clear()
        self._known.clear()
        for file in self._folder.iterdir():
            file.unlink()

    def _asked(self) -> Iterator[str]:
        """Yield what the machine may not know of: who claimed the run, and what is asked of its sessions."""
        for entry in self._store.list(self._run.name):
            inside = f"{self._run.name}/{entry.name}"
            path = f"{inside}/{CLAIM}" if rank_of(entry.name) else inside
            if self._tells(path) and path not in self._known:
                yield path

    def _tells(self, path: str) -> bool:
        inside = path.removeprefix(f"{self._run.name}/")
        folder, _, name = inside.rpartition("/")
        return asked_of(name) is not None if not folder else name == CLAIM and rank_of(folder) is not None

    def _read(self, path: str) -> bytes | None:
        try:
            return self._store.read(path)
        except Missing:
            return None  # its writer died before it wrote it, or it went meanwhile

    def _write(self, files: Sequence[tuple[str, bytes]], letter: parcels.Letter | None) -> None:
        pieces = [parcels.Piece(path, 0, len(body), len(body), digest_of((body,), preferred())) for path, body in files]
        self._number = 1 + max([self._number, *(int(file.name[5:11]) for file in self._folder.glob("mail-*.parcel"))])
        header = parcels.Header(self._number, HOME, pieces, letter)
        file = self._folder / f"mail-{self._number:06d}{parcels.SUFFIX}"
        parcels.write(file, file.name, header, (body for _, body in files))

    def _parcel(self, file: Path) -> parcels.Parcel:
        opened = parcels.read(file)
        name = f"inbox/{file.stem}-{opened.sha256[:8]}{parcels.SUFFIX}"
        return parcels.Parcel(file, name, file.stat().st_size, opened.sha256)
