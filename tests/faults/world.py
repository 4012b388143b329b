"""A run over machines in a folder, driven as the executor drives it, and the laws that must hold after any harm."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.core import checkpoint as cp
from supervisor.core import claim, retention, status
from supervisor.core import events as ev
from supervisor.core.content import CONTENT_FILE, LOG_FILE, sealed
from supervisor.core.digest import digest_of, preferred
from supervisor.core.errors import UserError
from supervisor.core.instant import Instant
from supervisor.core.ports import Store, StoreError
from supervisor.engine import journal, runs, staged
from supervisor.engine.job import Job
from supervisor.engine.place import RunPlace
from supervisor.engine.storing import Storing
from supervisor.stores.folder import TEMPORARY, FolderStore
from supervisor.trainer import writer
from supervisor.trainer.buffer import PAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

KEEP = 2
STRIDE = 5
ASKED_MAX = 12
SAME_STEPS = 40
SHARED_BYTES_MIN = 40
RUN = RunPlace("plates")
SHARING = (3, 200, SAME_STEPS)
SIZES = {"one tiny file": (1, 30), "three files, one mostly the same": SHARING, "six files": (6, 50)}
Size = tuple[int, int] | tuple[int, int, int]
_writers = count(1)


class Violation(AssertionError):  # noqa: N818
    """A law does not hold."""


def demand(holds: object, words: str) -> None:
    if not holds:
        raise Violation(words)


class Tick:
    """A clock whose every look is a second later."""

    def __init__(self) -> None:
        self._looks = count(1)

    def now(self) -> Instant:
        seconds = float(next(self._looks))
        return Instant(1_700_000_000.0 + seconds, 50.0 + seconds)


class NoEnvironment:
    def prepare(self) -> Any:
        raise NotImplementedError

    def record(self, rank: claim.Rank) -> None:
        raise NotImplementedError

    def keep(self) -> None:
        raise NotImplementedError


@dataclass
class World:
    """``root/store`` is the store; ``root/<machine>`` a machine's disk.

    ``size``: (number of files, bytes of each, for how many steps the second file stays the same); ``made``: how a machine
    opens the store that lies in a folder.
    """

    root: Path
    size: Size = SHARING
    safe: list[cp.CheckpointId] = field(default_factory=list)
    made: Callable[[str], Store] = FolderStore

    @property
    def where(self) -> str:
        return str(self.root / "store")

    def store(self) -> Store:
        return self.made(self.where)

    @property
    def mounted(self) -> bool:
        """Whether files come to the store under their own names, so that a kill can leave a part of one."""
        return self.store().traits.mounted

    def turn(self, machine: str, store: Store | None = None) -> Turn:
        return Turn(self, self.root / machine, store or self.store())

    def copy(self, to: Path) -> World:
        shutil.copytree(self.root, to)
        return World(to, self.size, list(self.safe), self.made)

    def content(self, step: int) -> dict[str, bytes]:
        """What the state of a step is: the same on every machine."""
        number, length, *same = self.size
        made_at = {1: step - step % same[0]} if same else {}
        seeds = [f"{made_at.get(index, step)}-{index}".encode() for index in range(number)]
        return {
            f"state-{index:05d}.safetensors": hashlib.shake_128(seed).digest(length) for index, seed in enumerate(seeds)
        }


class Turn:
    """One machine's turn: what the executor does with the store, one call after the other."""

    def __init__(self, world: World, disk: Path, store: Store) -> None:
        self.world = world
        self.attempt_number = 0
        self.storing = Storing(_job(disk, store))
        self.store = store
        self.step = 0

    def begin(self, *, afresh: bool = False) -> ev.CheckpointReady:
        """Enter the run, look, claim, restore."""
        self.enter()
        self.claim()
        return self.restore(afresh=afresh)

    def enter(self) -> None:
        runs.enter(self.store, RUN, self.world.root / "script.py", [], {})

    def claim(self) -> claim.Rank:
        looked = self.storing.look()
        assert isinstance(looked, ev.Looked)
        before = claim.highest(looked.names)
        rank = self.storing.claim(claim.next_epoch(looked.names))
        demand(before is None or rank.epoch > before.epoch, f"epoch {rank.epoch} is used again")
        self.storing.read_history()
        return rank

    def restore(self, *, afresh: bool = False) -> ev.CheckpointReady:
        ready = self.storing.restore(afresh=afresh)
        assert isinstance(ready, ev.CheckpointReady)
        self.step = 0 if ready.id is None else ready.id.step
        if ready.durable and ready.id is not None:
            self.world.safe.append(ready.id)  # a machine that died before it could say so had made it safe
        return ready

    def stage(self, steps: int = STRIDE) -> Path:
        """Train some steps and stage a checkpoint, as the trainer does; hear its message."""
        self.attempt_number += 1
        step = self.step + steps
        folder = stage(self.world, self.storing.local.staging, (self.step, step), 1000 + self.attempt_number)
        self.step = step
        self.storing.take_log(folder)
        return folder

    def publish(self, folder: Path) -> ev.Event:
        outcome = self.storing.publish(folder, staged.content(folder).step, lambda _: None)
        for _ in range(ASKED_MAX):
            if isinstance(outcome, ev.Submitted | ev.Unconfirmed):
                outcome = self.storing.confirm(folder)
        if isinstance(outcome, ev.Durable):
            self.world.safe.append(outcome.id)
        return outcome

    def journal_piece(self, number: int) -> None:
        """Close a piece that names what is safe."""
        seen = status.RunStatus(run=RUN.name, durable=self.world.safe[-1].step if self.world.safe else None)
        head = {"is": "RunStatus", "status": journal.plain_status(seen)}
        self.storing.write_pieces([(f"journal-{number:06d}.jsonl", json.dumps(head).encode() + b"\n")])


def _job(disk: Path, store: Store) -> Job:
    return Job(
        script=disk / "script.py", arguments=(), run=RUN, run_id="0123456789abcdef", store=store, local_root=disk,
        clock=Tick(), environments=NoEnvironment(), alive=lambda claimed: False if claimed.get("host") == disk.name else None,
        identity={"pid": os.getpid(), "host": disk.name},
        platform="local", writer=f"{next(_writers):08x}", environ={}, save_every="asked",
        retention=retention.Policy(KEEP), claim_extra={}, show=lambda _: None,
        shared_bytes_min=SHARED_BYTES_MIN,
    )  # fmt: skip


def stage(world: World, staging: Path, span: tuple[int, int], number: int) -> Path:
    """Write a checkpoint folder with the trainer's own writer: state after ``span[1]`` steps, rows of the span."""
    rows = "".join(json.dumps(row(step)) + "\n" for step in range(*span)).encode()
    files = {**world.content(span[1]), LOG_FILE: rows}

    def seal(records: Mapping[str, tuple[int, str]]) -> tuple[str, bytes]:
        listed = [{"name": name, "bytes": length, "digest": digest} for name, (length, digest) in records.items()]
        return CONTENT_FILE, sealed({"step": span[1], "metrics": {"loss": 0.5}, "files": listed})

    name = f"step-{span[1]:09d}-{number}"
    writer.write_folder(staging, name, [_new_file(staging, file, body) for file, body in files.items()], seal)
    return staging / name


def _new_file(staging: Path, name: str, body: bytes) -> writer.NewFile:
    """Return the file as the trainer writes it: tensors in whole pages, linked to an earlier file if that is the same."""
    if name == LOG_FILE:
        return writer.NewFile(name, [memoryview(body)])
    pages = memoryview(body.ljust(-(-len(body) // PAGE_BYTES) * PAGE_BYTES, b"\0"))
    there = [each for each in sorted(staging.glob(f"step-*/{name}")) if each.read_bytes() == body]
    before = (there[-1], (len(body), digest_of([body], preferred()))) if there else None
    return writer.NewFile(name, pages=pages, bytes=len(body), before=before)


def row(step: int) -> dict[str, Any]:
    return {"step": step, "loss": 1.0 / (1 + step)}


def story(turn: Turn, tell: Callable[[cp.CheckpointId], None], checkpoints_made: int = 0) -> None:
    """One machine's turn from entering the run to a few checkpoints with retention behind each.

    Where checkpoints share a file there are more of them: the one that brought it goes, then one that shares it.
    """
    checkpoints_made = checkpoints_made or (KEEP + 1 if len(turn.world.size) > 2 else 2)
    ready = turn.begin()
    if ready.durable and ready.id is not None:
        tell(ready.id)
    for number in range(1, checkpoints_made + 1):
        outcome = turn.publish(turn.stage())
        demand(isinstance(outcome, ev.Durable), f"not saved: {outcome}")
        tell(turn.world.safe[-1])
        retained = turn.storing.retain()
        demand(isinstance(retained, ev.Retained), f"not retained: {retained}")
        turn.journal_piece(number)


def restless(turn: Turn, tell: Callable[[cp.CheckpointId], None], unpublished: int) -> None:
    """A turn that publishes what a predecessor staged, stages more than it publishes, and whose trainer dies once."""

    def publish(folder: Path) -> None:
        outcome = turn.publish(folder)
        demand(isinstance(outcome, ev.Durable), f"not saved: {outcome}")
        tell(turn.world.safe[-1])
        turn.storing.retain()

    ready = turn.begin()
    if ready.durable and ready.id is not None:
        tell(ready.id)
    if ready.adopted:
        publish(Path(ready.folder))
    for number in (1, 2):
        folder = turn.stage()
        for _ in range(unpublished):
            superseded, folder = folder, turn.stage(1)
            staged.discard(superseded)
        again = turn.restore()
        demand(again.folder == str(folder), f"after the trainer's death it goes on from {again}")
        publish(folder)
        turn.journal_piece(number)


def before(root: Path, size: Size = SHARING, made: Callable[[str], Store] = FolderStore) -> World:
    """A world with an earlier machine that left two DURABLE checkpoints and died while it put in another."""
    root.mkdir(parents=True)
    world = World(root, size, made=made)
    (root / "script.py").write_text("pass\n")
    turn = world.turn("first")
    story(turn, lambda _: None)
    folder = turn.stage()
    half = world.root / "store" / RUN.step(turn.storing.rank, turn.step)
    half.mkdir()
    shutil.copy(folder / CONTENT_FILE, half / CONTENT_FILE)
    (half / (f"{TEMPORARY}dead-1" if not world.mounted else "state-00000.safetensors")).write_bytes(b"x" * 10)
    shutil.rmtree(root / "first")
    return world


def named(act: Callable[[], Any]) -> Any:
    """Do it; return its outcome, or the error if it is one that the executor has a name for (I15: else a traceback)."""
    try:
        return act()
    except (StoreError, UserError) as error:
        return error
    except OSError as error:
        return StoreError(f"{error} on the local disk", "local")
