"""A store that can be damaged and mended again, with an own judge of what in it is still whole."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from supervisor.core import checkpoint as cp
from supervisor.core import events as ev
from supervisor.core.errors import FAILED_PRECHECKS, UserError
from supervisor.engine import checkpoints
from supervisor.stores.folder import FolderStore
from tests.faults.laws import it_resumes_from
from tests.faults.paper import harm
from tests.faults.world import RUN, Turn, before, demand, named

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

    from supervisor.core.ports import Store


class Ruin:
    """A world whose store can be damaged and mended again, with an own judge of what is still whole."""

    def __init__(self, root: Path, made: Callable[[str], Store] = FolderStore) -> None:
        self.world = before(root / "start", made=made)
        turn = self.world.turn("second")
        turn.begin()
        turn.publish(turn.stage())
        turn.publish(turn.stage())
        turn.journal_piece(1)
        run = self.world.root / "store" / RUN.name
        self.whole = {path: path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}
        self.files: dict[cp.CheckpointId, list[Path]] = {}
        for found in checkpoints.find(self.world.store(), RUN):
            manifest = checkpoints.read_manifest(self.world.store(), found).manifest
            assert manifest is not None
            named_files = [run / entry.path for entry in manifest.all_files()]
            self.files[found.id] = [self.world.root / "store" / found.path, *named_files]
        self.rounds = 0

    def newest_whole(self) -> cp.CheckpointId | None:
        return max((id_ for id_, files in self.files.items() if all(map(self._same, files))), default=None)

    def newer_than(self, id_: cp.CheckpointId | None) -> list[cp.CheckpointId]:
        """Those whose manifest can be seen, and that have to be named as skipped."""
        return [other for other, files in self.files.items() if files[0].exists() and (id_ is None or other > id_)]

    def mend(self) -> None:
        run = self.world.root / "store" / RUN.name
        for session in run.iterdir():
            if session.is_dir() and session / "claim.json" not in self.whole:
                shutil.rmtree(session)
        for path, body in self.whole.items():
            if not self._same(path):
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(body)

    def judge(self) -> None:
        """Start a machine and compare what it does with what the judge says."""
        expected, seen = self.newest_whole(), self.newer_than(self.newest_whole())
        listing = self._listing()
        self.rounds += 1
        turn = self.world.turn(f"machine-{self.rounds}")
        outcome = named(lambda: begin(turn))
        if expected is not None:
            demand(isinstance(outcome, ev.CheckpointReady), f"{expected} is whole, but: {outcome!r}")
            demand(outcome.id == expected, f"{expected} is the newest whole, it took {outcome.id}")
            it_resumes_from(self.world, turn, outcome, None)
            for id_ in seen:
                demand(any(str(id_) in words for words in outcome.skipped), f"{id_} was skipped without a word")
        elif seen or self._told():
            demand(isinstance(outcome, UserError), f"nothing is whole, but it goes on: {outcome!r}")
            demand(outcome.exit_code == FAILED_PRECHECKS, f"exit code {outcome.exit_code}")
        demand(listing <= self._listing(), "something was deleted")
        shutil.rmtree(self.world.root / f"machine-{self.rounds}", ignore_errors=True)

    def _same(self, path: Path) -> bool:
        try:
            return path.read_bytes() == self.whole[path]
        except OSError:
            return False

    def _told(self) -> bool:
        return any(self._same(path) for path in self.whole if path.name.startswith("journal-"))

    def _listing(self) -> set[Path]:
        return set((self.world.root / "store").rglob("*"))


def damage(ruin: Ruin, chance: random.Random) -> None:
    """Harm one to eight files, those of the newest checkpoints rather than others."""
    newest = [path for id_ in sorted(ruin.files)[-3:] for path in ruin.files[id_]]
    files = dict(ruin.whole)
    harm(files, chance, newest, list(files))
    for path, body in ruin.whole.items():
        if path not in files:
            path.unlink()
        elif files[path] != body:
            path.write_bytes(files[path])


def begin(turn: Turn) -> ev.CheckpointReady:
    """Claim and restore, without looking at the run's record."""
    turn.claim()
    return turn.restore()
