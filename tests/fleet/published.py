"""Runs in a machine's store, made without running anything, and a way to carry them home by hand."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from supervisor.core import checkpoint as cp
from supervisor.core.claim import Rank
from supervisor.core.content import CONTENT_FILE
from supervisor.core.digest import digest_of, preferred
from supervisor.engine.clock import BootClock
from supervisor.engine.place import RunPlace
from supervisor.fleet import parcels
from supervisor.fleet.outbox import Outbox
from supervisor.fleet.relay import HomeRun
from supervisor.stores.folder import FolderStore
from supervisor.stores.relay import RelayStore

if TYPE_CHECKING:
    from pathlib import Path

    from supervisor.fleet.parcels import Parcel

RUN = RunPlace("plates")
RECORD = {"schema": 1, "id": "abc0abc0abc0abc0", "script": "train.py", "arguments": [], "options": {"keep_last": 2}}


@dataclass
class Served:
    """A machine's folder with a store in it, its outbox, and home."""

    root: Path
    rank: Rank = field(default_factory=lambda: Rank(1, "aa"))
    seq: int = 0
    machine: RelayStore = field(init=False)
    home_store: FolderStore = field(init=False)
    home: HomeRun = field(init=False)
    outbox: Outbox = field(init=False)

    def __post_init__(self) -> None:
        self.machine = RelayStore(str(self.root / "machine/store"))
        self.home_store = FolderStore(str(self.root / "home/runs"))
        self.again()

    def again(self) -> None:
        """Begin the agent and the controller anew, as after their deaths."""
        self.outbox = Outbox(self.root / "machine/outbox", self.root / "machine/store")
        self.home = HomeRun(self.home_store, RUN, self.root / "home/state", BootClock())

    def enter(self) -> None:
        """Begin a session."""
        self.machine.create(RUN.record, json.dumps(RECORD).encode())
        self.enter_session()

    def enter_session(self) -> None:
        """Claim the run once more, under the rank of now."""
        self.machine.create(f"{RUN.session(self.rank)}/claim.json", json.dumps({"machine": {}}).encode())

    def publish(self, step: int, body: bytes = b"weights", shared: cp.Manifest | None = None) -> cp.Manifest:
        """Put a checkpoint into the machine's store; with ``shared`` its weights are an older one's."""
        self.seq += 1
        folder = RUN.step(self.rank, step)
        bodies = {"state-00000.safetensors": body, "state.json": b"{}"}
        bodies[CONTENT_FILE] = json.dumps(
            {
                "format": "training-supervisor-checkpoint", "version": 1, "step": step,
                "files": [{"name": n, "bytes": len(b), "digest": digest_of((b,), preferred())} for n, b in bodies.items()],
            }
        ).encode()  # fmt: skip
        files = []
        for name, content in bodies.items():
            if shared is not None and name.endswith(".safetensors"):
                files.append(shared.files[0])
                continue
            self.machine.create(f"{folder}/{name}", content)
            path = f"{folder}/{name}".removeprefix(f"{RUN.name}/")
            files.append(cp.FileEntry(name, path, len(content), digest_of((content,), preferred())))
        manifest = cp.Manifest(cp.CheckpointId(self.rank.epoch, step, self.rank.writer, self.seq), tuple(files))
        self.machine.create(self.path(manifest), cp.manifest_body(manifest))
        return manifest

    @staticmethod
    def path(manifest: cp.Manifest) -> str:
        """Return where a manifest lies."""
        name = cp.manifest_name(manifest.id.seq, cp.manifest_body(manifest))
        return f"{RUN.step(manifest.id.rank, manifest.id.step)}/{name}"

    def cut(self) -> list[Parcel]:
        """Let the agent pack what is new; return all that can be fetched."""
        self.outbox.scan()
        self.outbox.cut()
        return [parcel for _, parcel in self.outbox.ready]

    def mail(self) -> None:
        """Carry home's mail to the machine."""
        for parcel in self.home.mail():
            opened = parcels.read(parcel.file)
            if opened.header.letter is not None:
                self.outbox.hear(opened.header.letter)
            self.home.delivered(parcel)

    def carry(self) -> None:
        """Carry everything home, round by round, until there is nothing more."""
        while ready := self.cut():
            for parcel in ready:
                self.home.merge(parcel.file, parcel.sha256)
            self.mail()

    def at_home(self) -> dict[str, bytes]:
        """Return every file of the home store."""
        return contents(self.root / "home/runs")

    def on_the_machine(self) -> dict[str, bytes]:
        """Return every file of the machine's store."""
        return contents(self.root / "machine/store")


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder; receipts and temporary files are left out."""
    found = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith((".tmp-", "verified-")))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}
