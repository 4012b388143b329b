"""Runs as machines leave them in a store, made without running anything."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from supervisor.cli import main
from supervisor.core import commands as do
from supervisor.core import events as ev
from supervisor.core.checkpoint import CheckpointId
from supervisor.core.claim import Rank
from supervisor.core.instant import Instant
from supervisor.core.messages import Beat
from supervisor.core.status import RunStatus
from supervisor.engine import claims, identity, publication, runs
from supervisor.engine.clock import BootClock
from supervisor.engine.journal import Journal
from supervisor.engine.place import RunPlace
from supervisor.stores.folder import FolderStore

DEAD = {"pid": 4_000_000, "since": "1"}


@dataclass
class Left:
    """One run in a store, and what its sessions leave there."""

    root: Path
    store: FolderStore
    run: RunPlace

    def session(self, epoch: int, machine: dict[str, Any] | None = None, **claim: Any) -> Rank:
        rank = Rank(epoch, f"{epoch:08x}")
        body = {"machine": machine or {}, "platform": "local", "arguments": [], **claim}
        claims.write_claim(self.store, self.run, rank, body)
        return rank

    def journal(self, rank: Rank, *values: Any, ago_s: float = 60.0) -> None:
        now = BootClock().now()
        then = Instant(now.mono_s - ago_s, now.wall_s - ago_s)
        journal = Journal(None, RunStatus(run=self.run.name))
        for value in (ev.Started(), ev.ClaimWritten(rank), *values):
            journal.record(then, value)
        for name, body in journal.take():
            self.store.create(f"{self.run.session(rank)}/{name}", body)

    def trained(self, rank: Rank, step: int, **announced: Any) -> None:
        beat = ev.TrainerSaid(Beat(step, "step", total_steps=100, step_s=0.5, metrics={"loss": 0.25}))
        durable = ev.Durable("", CheckpointId(rank.epoch, step, rank.writer, 1), 10, 0.1, "fsync")
        self.journal(rank, do.Announce(**{"phase": "RUNNING", "state": "RUNNING", **announced}), beat, durable)

    def end(self, rank: Rank, reason: str, exit_code: int = 0, words: str = "so it ended") -> None:
        body = {"reason": reason, "exit_code": exit_code, "words": words, "step": None}
        claims.write_end(self.store, self.run, rank, reason, body)

    def checkpoint(self, rank: Rank, step: int, content: bytes = b"weights") -> CheckpointId:
        """Publish a checkpoint with rows of the log for the ten steps before it."""
        folder = self.root / "staging" / f"step-{step:09d}-1"
        folder.mkdir(parents=True)
        rows = "".join(f'{{"step": {each}, "loss": {each / 8}}}\n' for each in range(step - 10, step)).encode()
        bodies = {"state.json": content, "log.jsonl": rows}
        for name, body in bodies.items():
            (folder / name).write_bytes(body)
        files = [
            {"name": name, "bytes": len(body), "digest": f"sha256:{hashlib.sha256(body).hexdigest()}"}
            for name, body in bodies.items()
        ]
        said = {"format": "training-supervisor-checkpoint", "version": 1, "step": step, "files": files}
        (folder / "checkpoint.json").write_text(json.dumps(said))
        id_ = CheckpointId(rank.epoch, step, rank.writer, 1)
        log = (step - 10, rows)
        order = publication.Order(folder, id_, None, log)
        manifest = publication.submit(self.store, self.run, rank, order, lambda: None)
        publication.seal(self.store, self.run, manifest, lambda: None)
        return id_

    def file(self, id_: CheckpointId, name: str) -> Path:
        return Path(self.store.root) / self.run.step(Rank(id_.epoch, id_.writer), id_.step) / name


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of its own: the working folder, the local disk, no supervisor's variables."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUPERVISOR_RUN_LOCAL", str(tmp_path / "local"))
    for name in ("COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE", "SLURM_JOB_ID", "VERTEX_PRODUCT"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def make(root: Path):
    """Make a run in ./runs."""

    def made(name: str = "plates", script_name: str = "train.py") -> Left:
        script = root / script_name
        script.write_text("print('trained')\n")
        store, run = FolderStore(str(root / "runs")), RunPlace(name)
        runs.enter(store, run, script, ["--steps", "100"], {"save_every": "auto", "keep_last": 2})
        return Left(root, store, run)

    return made


@pytest.fixture
def left(make) -> Left:
    return make()


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]):
    """Run a command and return (exit code, all it printed)."""

    def run(*words: str) -> tuple[int, str]:
        code = main(words)
        shown = capsys.readouterr()
        return code, shown.out + shown.err

    return run


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]):
    """Run a command and return (exit code, its output, its errors)."""

    def run(*words: str) -> tuple[int, str, str]:
        code = main(words)
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


@pytest.fixture
def mine() -> dict[str, Any]:
    return identity.mine()
