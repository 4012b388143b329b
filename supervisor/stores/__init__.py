"""Stores: where runs are kept.

- ``local``: a folder on a local disk
- ``mounted``: a mounted drive, reached through worker processes with deadlines
- ``os_errors``: errors of the system as kinds of StoreError
- ``relay``: store of a ``launch`` machine
- ``retrying``: retries transient errors
- ``upload_status``: what a drive's client says about uploads
"""

from __future__ import annotations

TABLE = {
    "folder": "supervisor.stores.local.folder:FolderStore",
    "relay": "supervisor.stores.relay:RelayStore",
}
