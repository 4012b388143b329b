"""Sees everything, on every machine and in the store, and holds it against the invariants of design/store.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.core import commands as do
from supervisor.core import events as ev
from supervisor.core.checkpoint import MANIFEST_NAME, CheckpointId, FileEntry, Manifest, parse_manifest
from supervisor.core.claim import Rank, judge
from supervisor.core.digest import algorithm_of, digest_of
from supervisor.core.session import FINAL, Phase
from supervisor.core.sharing import SHARED_SUFFIX
from tests.simulation.virtual_trainer import slow_part

if TYPE_CHECKING:
    from tests.simulation.virtual_store import Shelf
    from tests.simulation.virtual_supervisor import Supervisor
    from tests.simulation.virtual_trainer import Chain
    from tests.simulation.world import World

EXIT_CODES = frozenset({0, 1, 3, 4, 42, 75, 93, 130, 143})


class Violation(BaseException):
    """An invariant does not hold."""


class Observer:
    """Is told of every operation; raises Violation at the first that breaks an invariant."""

    def __init__(self, world: World, shelf: Shelf, chain: Chain, keep: int) -> None:
        self.world, self.shelf, self.chain, self.keep = world, shelf, chain, keep
        self.sessions: dict[str, Supervisor] = {}
        self.durable: dict[CheckpointId, float] = {}
        self.rotten: set[CheckpointId] = set()
        self.counts: dict[str, int] = {}
        self.finished = False
        self._manifests: dict[CheckpointId, tuple[str, Manifest]] = {}
        self._put: dict[str, bytes] = {}
        self._stagings: set[bytes] = set()
        self._fenced: set[Supervisor] = set()
        self._looked_at: dict[Supervisor, float] = {}
        self._claims: dict[Rank, float] = {}
        self._expected: dict[Supervisor, CheckpointId | None] = {}
        self._worked: dict[Supervisor, bool] = {}
        self._flying: dict[Supervisor, str] = {}
        self._expired: set[CheckpointId] = set()

    # --- the store ----------------------------------------------------------------------------------------------------

    def listed(self, by: Supervisor, folder: str, names: list[str], at: float) -> None:
        """A listing as of ``at`` was handed to a process."""
        if folder == "run" and by in self.sessions.values():
            self._looked_at[by] = at
            if by.executor.storing.rank.epoch and judge(names, by.executor.storing.rank):
                self._fenced.add(by)

    def writing(self, by: Supervisor, path: str) -> None:
        """A file is about to be written."""
        rank = by.executor.storing.rank
        self._hold("I8", path.startswith(f"run/{rank}/"), f"{rank} writes {path}")
        publishes = "/step-" in path or "/log-" in path
        self._hold("I10", not (publishes and by in self._fenced), f"{rank} publishes {path} after it was outranked")

    def written(self, by: Supervisor, path: str, body: bytes) -> None:
        """A file was written."""
        self._put[path] = body
        name = path.rpartition("/")[2]
        if MANIFEST_NAME.fullmatch(name):
            manifest = parse_manifest(name, body)
            self._manifests[manifest.id] = (path, manifest)
            # what was there may be gone again: a successor removes what a zombie seems to have left unfinished
            was_there = all(_is(self._put.get(f"run/{entry.path}"), entry) for entry in manifest.all_files())
            self._hold("I1", was_there, f"the manifest of {manifest.id} names what never was there")
            self._rests(manifest)
        if name == "claim.json":
            rank = by.executor.storing.rank
            looked = self._looked_at[by] - self.shelf.lag_s
            known = [each for each, at in self._claims.items() if each.epoch >= rank.epoch and at < looked]
            self._hold("I11", not known, f"{rank} claims an epoch that {known} had")
            self._claims[rank] = self.world.now

    def deleting(self, by: Supervisor, path: str) -> None:
        """A file is about to be deleted."""
        self._hold("I10", by not in self._fenced, f"{by.executor.storing.rank} deletes {path} after it was outranked")

    def deleted(self, _by: Supervisor, path: str) -> None:
        """A file was deleted: what was DURABLE must still load, or have enough newer ones."""
        for id_ in self.durable.keys() - self.rotten - self._expired:
            manifest_path, manifest = self._manifests[id_]
            mine = {manifest_path, *(f"run/{entry.path}" for entry in manifest.all_files())}
            if path in mine:
                newer = [each for each in self.durable if each > id_]
                self._hold("I2", len(newer) >= self.keep, f"{id_} was removed with {len(newer)} newer ones DURABLE")
                self._expired.add(id_)

    # --- the session --------------------------------------------------------------------------------------------------

    def happened(self, by: Supervisor, event: ev.Event) -> None:
        """An event reached a session."""
        self.counts[type(event).__name__] = self.counts.get(type(event).__name__, 0) + 1
        match event:
            case ev.ControllerFailed():
                raise Violation(f"I15: {event.error}")
            case ev.Durable():
                self._hold("I4", self.loads(event.id), f"{event.id} is called DURABLE and does not load")
                self.durable[event.id] = self.world.now
                self._landed(by, event.folder)
            case ev.PublishFailed():
                self._landed(by, event.folder)
            case ev.CheckpointReady():
                self._chose(by, event)
            case ev.SetupFailed():
                self._hold("I2", "no checkpoint in it is whole" not in event.what, event.what)

    def commanded(self, by: Supervisor, command: do.Command) -> None:
        """A session commanded something."""
        if isinstance(command, do.Restore):
            old = self.world.now - self.shelf.lag_s
            mine = by.executor.storing.rank
            known = [id_ for id_, at in self.durable.items() if at <= old and Rank(id_.epoch, id_.writer) <= mine]
            self._worked[by] = bool(known)
            self._expected[by] = max((id_ for id_ in known if id_ not in self.rotten | self._expired), default=None)
        elif isinstance(command, do.Publish):
            self._hold("I17", by not in self._flying, f"a second upload: {command.folder}")
            self._flying[by] = command.folder
        elif isinstance(command, do.Announce) and command.phase in FINAL:
            self._hold("I15", command.exit_code in EXIT_CODES, f"exit code {command.exit_code}")

    def restored(self, by: Supervisor, step: int, state: str) -> None:
        """A trainer goes on from here."""
        self._hold("I18", state == self.chain.states[step], f"{by.executor.storing.rank} restored another step {step}")

    def restored_slow_part(self, by: Supervisor, step: int, body: bytes) -> None:
        """What changes now and then only was brought from where it lies."""
        whole = body == slow_part(self.chain, step)
        self._hold("I18", whole, f"{by.executor.storing.rank} restored another slow part at step {step}")

    def staged(self, body: bytes) -> None:
        """A trainer staged a checkpoint."""
        self._stagings.add(body)

    def ended(self, by: Supervisor) -> None:
        """A session came to its own end."""
        self.counts[str(by.session.phase)] = self.counts.get(str(by.session.phase), 0) + 1
        if by.session.phase is Phase.SUCCEEDED:
            done = max(self.durable, key=lambda id_: id_.step, default=None)
            self._hold("I4", done is not None and done.step == self.chain.total, "finished without a DURABLE end")
            self.finished = True

    # --- the truth ----------------------------------------------------------------------------------------------------

    def loads(self, id_: CheckpointId) -> bool:
        """Say whether every file of a published checkpoint lies there as it was written."""
        if id_ not in self._manifests:
            return False
        path, manifest = self._manifests[id_]
        if path not in self.shelf.files:
            return False
        for entry in manifest.all_files():
            file = self.shelf.files.get(f"run/{entry.path}")
            if file is None or not _is(file.body, entry):
                return False
        return True

    def damage_newest(self) -> None:
        """Let the disk under the store rot: the newest DURABLE checkpoint gets a wrong byte, or loses a file's content.

        Not a file that checkpoints share: of that there is one copy, and they are lost with it together.
        """
        good = sorted(id_ for id_ in self.durable.keys() - self._expired if id_ not in self.rotten and self.loads(id_))
        if len(good) < self.keep or self.rotten - self._expired:
            return
        path, manifest = self._manifests[good[-1]]
        victims = [path, *(f"run/{entry.path}" for entry in manifest.files if not entry.name.endswith(SHARED_SUFFIX))]
        file = self.shelf.files[self.world.chance.choice(victims)]
        body = file.body or b"?"
        file.body = self.world.chance.choice([b"", body[:-1], body[:-1] + bytes([body[-1] ^ 1])])
        self.rotten.add(good[-1])

    def _files_of(self, id_: CheckpointId) -> set[str]:
        return {f"run/{entry.path}" for entry in self._manifests[id_][1].files}

    def _rests(self, manifest: Manifest) -> None:
        """No checkpoint rests on a file of another session, nor on one that was not DURABLE."""
        mine = str(Rank(manifest.id.epoch, manifest.id.writer))
        for entry in manifest.files:
            folder = entry.path.rpartition("/")[0]
            self._hold("I8", folder.split("/")[0] == mine, f"{manifest.id} rests on {entry.path}")
            if folder != f"{mine}/step-{manifest.id.step:09d}":
                self.counts["shared files"] = self.counts.get("shared files", 0) + 1
                safe = any(f"run/{entry.path}" in self._files_of(id_) for id_ in self.durable)
                self._hold("I4", safe, f"{manifest.id} rests on {entry.path}, which is not DURABLE")

    def _chose(self, by: Supervisor, event: ev.CheckpointReady) -> None:
        expected = self._expected.get(by)
        if expected is not None and (expected in self.rotten or expected in self._expired):
            expected = None
        if event.id is not None and event.durable:
            self.durable.setdefault(event.id, self.world.now)
        if event.id is None:
            self._hold("I7", not self._worked[by], "step 0 after work")
            return
        self._hold("I3", expected is None or event.id >= expected, f"{event.id} was chosen, {expected} is DURABLE")
        body = (Path(event.folder) / "state.json").read_bytes()
        self._hold("I1", body in self._stagings, f"{event.folder} is not what was staged")
        read: dict[str, Any] = json.loads(body)
        self._hold("I1", read["step"] == event.id.step, f"{event.id} holds step {read['step']}")

    def _landed(self, by: Supervisor, folder: str) -> None:
        if self._flying.get(by) == folder:
            del self._flying[by]

    def _hold(self, invariant: str, holds: bool, words: str) -> None:
        if not holds:
            raise Violation(f"{invariant} at {self.world.now:.0f} s: {words}")


def _is(body: bytes | None, entry: FileEntry) -> bool:
    return body is not None and digest_of((body,), algorithm_of(entry.digest)) == entry.digest
