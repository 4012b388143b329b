"""The machine as its agent sees it: folders, store, clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.frozen import dataclass

if TYPE_CHECKING:
    from pathlib import Path

    from supervisor.core.ports import Clock, Store

NOTES = "agent"


@dataclass(frozen=True, slots=True)
class AgentPaths:
    """The machine's ``folder`` and its parts: ``store`` under ``store/``, the supervisor's local folders."""

    folder: Path
    store: Store
    local_root: Path
    clock: Clock
    environ: dict[str, str]

    @property
    def agent_folder(self) -> Path:
        """The agent's own folder."""
        return self.folder / NOTES
