"""A mounted drive as a store, from the supervisor's side: nothing here touches the drive, workers do, and each has a deadline.

So a drive that hangs costs its caller the deadline and an error of kind "hung", and nobody else anything (I14).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from supervisor.core.ports import Entry, Measured, Traits
from supervisor.stores import rclone
from supervisor.stores.mounts import TABLE_PATH, Mount
from supervisor.stores.records import is_record
from supervisor.stores.wire import unpacked
from supervisor.stores.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Sequence

SETTLE_S = 60.0
SILENCE_S = 210.0
CONFIRM_EVERY_S = 5.0
PATIENCE_S = 60.0
_PLACES = {"fuse.drive": "Drive", "fuse.rclone": "the rclone drive"}


class MountedStore:
    """Runs on a mounted drive. All laws of ``core.ports.Store`` hold; see there.

    ``mount`` is what lies under ``where`` by the mount table now, and from then on must; ``patience_s`` how long a worker may
    be silent; ``settle_s`` overrides what is known of the kind of drive.
    """

    def __init__(
        self,
        where: str,
        *,
        mount: Mount,
        patience_s: float = PATIENCE_S,
        settle_s: float | None = None,
        confirm_every_s: float = CONFIRM_EVERY_S,
    ) -> None:
        root = os.path.abspath(where)
        evidence, known_settle_s = _client(mount)
        self.traits = Traits(
            settle_s=known_settle_s if settle_s is None else settle_s,
            safe_settle_s=known_settle_s,
            silence_s=SILENCE_S,
            evidence=evidence,
            where=root,
            place=_PLACES.get(mount.fstype, "the mounted drive"),
            confirm_every_s=confirm_every_s,
            mounted=True,
        )
        fields = [mount.id, mount.parent, mount.device, mount.root, mount.point, mount.fstype, mount.source]
        begin = {"root": root, "mount": fields, "table": TABLE_PATH}
        self._workers = Workers(begin, patience_s, self.traits.place)
        self._marks: dict[str, str] = {}
        self.left_out: set[str] = set()
        self._confirmed: set[str] = set()

    def list(self, folder: str) -> Sequence[Entry]:
        """Return the names in a folder."""
        return tuple(Entry(*each) for each in self._ask("list", folder)[0])

    def read(self, path: str) -> bytes:
        """Return a small file's bytes."""
        return self._ask("read", path)[1]

    def create(self, path: str, body: bytes) -> None:
        """Write a small file once."""
        self._confirmed.discard(path)
        self._ask("create", path, body=body)

    def push(self, local: str, path: str, algorithm: str, *, link: bool = False) -> Measured:  # noqa: ARG002  # the port has it
        """Copy a local file into the store once; there are no links on a drive."""
        self._confirmed.discard(path)
        return Measured(*self._ask("push", os.path.abspath(local), path, algorithm)[0])

    def pull(self, path: str, local: str, algorithm: str, *, link: bool = False) -> Measured:  # noqa: ARG002  # the port has it
        """Copy a file of the store to the local disk."""
        return Measured(*self._ask("pull", path, os.path.abspath(local), algorithm)[0])

    def delete(self, path: str) -> None:
        """Remove a file or an empty folder."""
        self._confirmed.discard(path)
        self._ask("delete", path)
        if is_record(path):
            self._marks.pop(path.partition("/")[0], None)

    def sweep(self, folder: str) -> int:
        """Nothing lies on a drive under a temporary name."""
        return int(self._ask("sweep", folder)[0])

    def evidence(self, path: str) -> str:
        """Return the client's word that a file is uploaded. Raises Unconfirmed until there is one."""
        kind = str(self._ask("evidence", path)[0])
        self._confirmed.add(path)
        return kind

    def free_bytes(self) -> int | None:
        """Return the room that writes have."""
        room = self._ask("free_bytes")[0]
        return None if room is None else int(room)

    def _ask(self, verb: str, *arguments: str, body: bytes = b"") -> tuple[Any, bytes]:
        confirmed = verb == "evidence" and arguments[0] in self._confirmed
        header = {"verb": verb, "arguments": arguments, "confirmed": confirmed, "marks": dict(self._marks)}
        answer, answered = self._workers.ask(header, body)
        self._marks.update(answer["marks"])
        self.left_out.update(answer.get("left_out", ()))
        if "error" in answer:
            raise unpacked(answer["error"])
        return answer["value"], answered


def _client(mount: Mount) -> tuple[str, float]:
    """Return the kind of evidence to expect and the settle time, both told without touching the mount."""
    if mount.fstype == "fuse.rclone":
        server = rclone.server_of(mount)
        if server is None:
            return "", SETTLE_S
        known = server.cache_mode in rclone.CACHING | rclone.STREAMING
        return "rclone" if known else "", min(SETTLE_S, server.dir_cache_s + 1.0)
    return "drivefs" if mount.fstype == "fuse.drive" else "", SETTLE_S
