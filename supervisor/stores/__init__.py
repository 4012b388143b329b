"""Stores that hold runs.

- ``local``: a folder on a local disk
- ``mounted``: a mounted drive, reached through worker processes with deadlines
- ``os_errors``: operating system errors as StoreError
- ``relay``: store of a ``launch`` machine
- ``retrying``: retries transient errors
- ``upload_status``: upload status reported by a drive's client
"""

from __future__ import annotations

TABLE = {
    "folder": "supervisor.stores.local.folder:FolderStore",
    "relay": "supervisor.stores.relay:RelayStore",
}
