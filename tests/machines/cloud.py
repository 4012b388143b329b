"""The cloud as somebody sees it who is no machine of the run: what lies there, and which checkpoint a fresh machine takes."""

from __future__ import annotations

import hashlib
import re
import tempfile
import threading
from pathlib import Path
from typing import Self

from supervisor.core import checkpoint as cp
from supervisor.core.ports import StoreError
from supervisor.engine import checkpoints
from supervisor.engine.place import RunPlace
from supervisor.stores.folder import FolderStore

LOOK_EVERY_S = 0.25
PARTS = re.compile(r"step-\d{9}( \(\d+\))?")


class Cloud:
    """A folder that the machines' drives upload to; ``run`` is the run in its store."""

    def __init__(self, folder: Path, run: str = "toy") -> None:
        self.folder, self.runs, self.run = folder, folder / "runs", run
        self.runs.mkdir(parents=True, exist_ok=True)

    def choice(self, runs: Path | None = None) -> cp.CheckpointId | None:
        """Return where a fresh machine that sees ``runs`` goes on; None: it begins. Raises LookupError where it asks."""
        with tempfile.TemporaryDirectory() as into:
            store = FolderStore(str(runs or self.runs))
            answer = checkpoints.newest_whole(store, RunPlace(self.run), (), Path(into)).answer
        match answer:
            case cp.ResumeFrom():
                return answer.found.id
            case cp.StartAfresh():
                return None
        raise LookupError(answer.why)

    def files(self) -> dict[str, str]:
        """Return the digest of every file of the run."""
        found = {}
        for path in sorted((self.runs / self.run).rglob("*")):
            if path.is_file():
                found[str(path.relative_to(self.runs / self.run))] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found

    def session(self, epoch: int) -> Path | None:
        """Return the folder of the session of an epoch, once it is there."""
        return next(iter((self.runs / self.run).glob(f"e{epoch:08d}-*")), None)

    def half_uploaded(self, epoch: int) -> list[Path]:
        """Return the checkpoints of a session of which something is there, and no manifest."""
        session = self.session(epoch)
        steps = [each for each in session.iterdir() if PARTS.fullmatch(each.name)] if session else []
        return [each for each in steps if any(each.iterdir()) and not any(each.glob("manifest-*"))]


class Watched:
    """As long as it is entered, the cloud is looked at; at the end no choice had gone back in (epoch, step) (I3)."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud, self.choices, self.wrong = cloud, [], []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        self._over.set()
        self._thread.join()
        if kind is None:
            assert not self.wrong, (self.wrong, self.choices)
            assert self.choices == sorted(self.choices), self.choices

    def _look(self) -> None:
        while not self._over.is_set():
            try:
                chosen = self.cloud.choice()
            except LookupError as error:
                if self.choices:  # before the first checkpoint is whole a part of it is reason enough to ask
                    self.wrong.append(str(error))
            except StoreError as error:
                self.wrong.append(str(error))
            else:
                mark = (chosen.epoch, chosen.step) if chosen else (0, 0)
                if not self.choices or self.choices[-1] != mark:
                    self.choices.append(mark)
            self._over.wait(LOOK_EVERY_S)
