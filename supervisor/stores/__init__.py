"""Places outside the machine where runs are kept. One file and one row here makes a new one."""

from __future__ import annotations

TABLE = {
    "folder": "supervisor.stores.folder:FolderStore",
    "relay": "supervisor.stores.relay:RelayStore",
}
