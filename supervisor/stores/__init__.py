"""Stores that hold runs.

- ``local``: a folder on a local disk
- ``mounted``: a mounted drive, reached through worker processes with deadlines
- ``os_errors``: operating system errors as StoreError
- ``relay``: store of a ``launch`` machine
- ``retrying``: retries transient errors
- ``upload_status``: upload status reported by a drive's client
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from supervisor.core.ports import Store
    from supervisor.stores.mounted.mounts import Mount


class StorePlace(NamedTuple):
    """Where a store lies, and the options for it.

    Attributes:
        where: the path, or what follows the prefix of the store's row.
        mount: the mount that the path lies on; None for a place with a prefix.
        timeout_s: how long an operation on a drive may show no progress.
        settle_s: the user's visibility delay; None for the one that is known of the kind of store.
    """

    where: str
    mount: Mount | None = None
    timeout_s: float = 0.0
    settle_s: float | None = None


class StoreRow(NamedTuple):
    """One kind of store.

    Attributes:
        kind: module and class; its class method ``open_at`` takes a ``StorePlace``.
        prefix: how ``--store`` begins for it; "" for a path.
        drive: of the rows of a path, the one for paths on a mounted drive.
    """

    kind: str
    prefix: str = ""
    drive: bool = False

    def open_at(self, place: StorePlace) -> Store:
        """Return the store at a place. No file of it is touched yet."""
        module, _, name = self.kind.partition(":")
        kind: Any = getattr(import_module(module), name)
        store: Store = kind.open_at(place)
        return store


TABLE = {
    "folder": StoreRow("supervisor.stores.local.folder:FolderStore"),
    "mounted": StoreRow("supervisor.stores.mounted.store:MountedStore", drive=True),
    "relay": StoreRow("supervisor.stores.relay:RelayStore", prefix="relay:"),
}


def with_prefix(where: str) -> StoreRow | None:
    """Return the row whose prefix the place begins with; None for a path."""
    return next((row for row in TABLE.values() if row.prefix and where.startswith(row.prefix)), None)


def for_path(*, drive: bool) -> StoreRow:
    """Return the row for paths on a drive, or for the others."""
    return next(row for row in TABLE.values() if not row.prefix and row.drive == drive)
