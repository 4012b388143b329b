"""A mounted drive as a store, on the supervisor's side. Only workers touch the drive, and each request has a deadline.

Theory of operation

A call on a FUSE mount can block in the kernel for ever, and no signal ends it. The mount can also disappear and leave a
plain folder, or come back as another drive. Both must not stop training (I14) or lose data silently (I13).

Rules:

1. This process never opens, lists or stats a path on the drive. Even the kind of drive is read from the mount table.
2. Each request goes to a worker process, one at a time for each worker. ``WORKERS_MAX`` requests run in parallel.
3. A worker that is silent for ``patience_s`` is given up: it gets SIGKILL, and the caller gets ``StoreError`` "hung".
   During a long copy the worker sends ticks, so a slow drive is not a silent one.
4. A killed worker may stay in the kernel until the drive returns. While ``WORKERS_MAX`` of them do, new requests fail
   at once as "hung", and no further process is started.
5. Before each operation the worker verifies the mount (``guard``): same mount point, type, source and device, and not a
   plain folder. Paths are opened relative to the descriptor of the mount's root.
6. The record of the run must have the digest that it had when first read (``identity``). Otherwise another drive is
   mounted there: ``StoreError`` "gone".
7. The drive has no links, renames or temporary names. A file is created under its final name, written, flushed, closed
   and read back. Existing files are never overwritten (I9).
8. A closed file is only in the client's cache. ``evidence`` asks the client whether it is uploaded (``upload_status``)
   and raises ``NotConfirmed`` until then (I4).

Workers keep no state that matters. Each request carries the record digests, and whether the path was confirmed before.
Each answer returns the digests.

Cases:

- The worker exits over a request: ``StoreError`` "unreadable". The next request gets a new worker.
- The drive hangs at start: the same deadlines apply, and the start reports that the drive does not answer.
- The mount is gone: ``StoreError`` "gone". The descriptor is released, and the next request opens the mount again.
- The client has no known interface: ``traits.evidence`` is empty. A checkpoint becomes durable only when another
  machine reads it.
- The program ends: the workers' input closes, and they exit.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from supervisor.core.ports import FileDigest, FolderEntry, StoreTraits
from supervisor.stores.mounted.identity import is_record
from supervisor.stores.mounted.ipc import decode_error
from supervisor.stores.mounted.mounts import TABLE_PATH, Mount
from supervisor.stores.mounted.pool import WorkerPool
from supervisor.stores.upload_status import rclone

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from supervisor.stores import StorePlace

SETTLE_S = 60.0
SILENCE_S = 210.0
CONFIRM_EVERY_S = 5.0
TIMEOUT_S = 60.0
_PLACES = {"fuse.drive": "Drive", "fuse.rclone": "the rclone drive"}


class MountedStore:
    """Store on a mounted drive. It fulfils the contract of ``core.ports.Store``.

    Args:
        where: folder of the store.
        mount: the mount of ``where`` in the mount table now; it must stay the same.
        timeout_s: longest time a worker may be silent.
        settle_s: overrides the known visibility delay of this kind of drive.
        confirm_every_s: interval between two checks of the upload status.
    """

    def __init__(
        self,
        where: str,
        *,
        mount: Mount,
        timeout_s: float = TIMEOUT_S,
        settle_s: float | None = None,
        confirm_every_s: float = CONFIRM_EVERY_S,
    ) -> None:
        root = os.path.abspath(where)
        evidence, known_settle_s = _client(mount)
        self.traits = StoreTraits(
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
        self._workers = WorkerPool(begin, timeout_s, self.traits.place)
        self._record_digests: dict[str, str] = {}
        self.left_out: set[str] = set()
        self._confirmed: set[str] = set()

    @classmethod
    def open_at(cls, place: StorePlace) -> Self:
        """Return the store at a place on a mounted drive. The drive is not touched yet."""
        assert place.mount is not None, "the table of stores has this row for paths on a drive"
        return cls(place.where, mount=place.mount, timeout_s=place.timeout_s, settle_s=place.settle_s)

    def list(self, folder: str) -> Sequence[FolderEntry]:
        """Return the names in a folder."""
        return tuple(FolderEntry(*each) for each in self._ask("list", folder)[0])

    def read(self, path: str) -> bytes:
        """Return a small file's bytes."""
        return self._ask("read", path)[1]

    def create(self, path: str, body: bytes) -> None:
        """Write a small file once."""
        self._confirmed.discard(path)
        self._ask("create", path, body=body)

    def push(self, local: str, path: str, algorithm: str, *, link: bool = False) -> FileDigest:  # noqa: ARG002  # the port has it
        """Copy a local file into the store once. A drive has no links."""
        self._confirmed.discard(path)
        return FileDigest(*self._ask("push", os.path.abspath(local), path, algorithm)[0])

    def pull(self, path: str, local: str, algorithm: str, *, link: bool = False) -> FileDigest:  # noqa: ARG002  # the port has it
        """Copy a file of the store to the local disk."""
        return FileDigest(*self._ask("pull", path, os.path.abspath(local), algorithm)[0])

    def delete(self, path: str) -> None:
        """Remove a file or an empty folder."""
        self._confirmed.discard(path)
        self._ask("delete", path)
        if is_record(path):
            self._record_digests.pop(path.partition("/")[0], None)

    def sweep(self, folder: str) -> int:
        """Return 0: a drive has no temporary names."""
        return int(self._ask("sweep", folder)[0])

    def evidence(self, path: str) -> str:
        """Return the kind of evidence for an uploaded file. Raises NotConfirmed until the client reports it."""
        kind = str(self._ask("evidence", path)[0])
        self._confirmed.add(path)
        return kind

    def free_bytes(self) -> int | None:
        """Return the bytes that a write may use."""
        room = self._ask("free_bytes")[0]
        return None if room is None else int(room)

    def _ask(self, verb: str, *arguments: str, body: bytes = b"") -> tuple[Any, bytes]:
        confirmed = verb == "evidence" and arguments[0] in self._confirmed
        header = {"verb": verb, "arguments": arguments, "confirmed": confirmed, "marks": dict(self._record_digests)}
        answer, answered = self._workers.ask(header, body)
        self._record_digests.update(answer["marks"])
        self.left_out.update(answer.get("left_out", ()))
        if "error" in answer:
            raise decode_error(answer["error"])
        return answer["value"], answered


def _client(mount: Mount) -> tuple[str, float]:
    """Return the expected kind of evidence and the visibility delay, without touching the mount."""
    if mount.fstype == "fuse.rclone":
        server = rclone.server_of(mount)
        if server is None:
            return "", SETTLE_S
        known = server.cache_mode in rclone.CACHING | rclone.STREAMING
        return "rclone" if known else "", min(SETTLE_S, server.dir_cache_s + 1.0)
    return "drivefs" if mount.fstype == "fuse.drive" else "", SETTLE_S
