"""Names: where a run lies in its store, and where a session lies on the local disk."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from supervisor.core.errors import FAILED_PRECHECKS, UserError
from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from pathlib import Path

    from supervisor.core.claim import Rank

STATUS, SUPERVISOR = "status.json", "supervisor.json"


def make_private(folder: Path) -> None:
    """Make a folder that other users can neither read nor write. Raises UserError for one that is another user's."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_uid != os.getuid():
        raise UserError(
            f"the local folder {folder} belongs to another user (uid {found.st_uid})",
            "name one of your own: set SUPERVISOR_RUN_LOCAL to a folder that you alone can write",
            FAILED_PRECHECKS,
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        with suppress(OSError):  # a disk without rights, as FAT: the folder above has to keep others out
            folder.chmod(0o700)


@dataclass(frozen=True, slots=True)
class RunPlace:
    """Paths of one run in the store, relative to the store's root."""

    name: str

    @property
    def record(self) -> str:
        """The run's own record, written once."""
        return f"{self.name}/run.json"

    @property
    def environments(self) -> str:
        """Locks of the job's environment, and the wheels beside them."""
        return f"{self.name}/environment"

    def session(self, rank: Rank) -> str:
        """Return a session's folder."""
        return f"{self.name}/{rank}"

    def step(self, rank: Rank, step: int) -> str:
        """Return the folder of a checkpoint."""
        return f"{self.session(rank)}/step-{step:09d}"

    def stop_request(self, rank: Rank, how: str, nonce: str) -> str:
        """Return the name of a request that this session end ("save" or "now")."""
        return f"{self.name}/stop-{rank}-{how}-{nonce}.json"

    def knock(self, rank: Rank, nonce: str) -> str:
        """Return the name of a question for a sign of life from this session."""
        return f"{self.name}/knock-{rank}-{nonce}.json"


@dataclass(frozen=True, slots=True)
class LocalPlace:
    """Folders of one session on the local disk; all of it may vanish at any instruction."""

    root: Path
    run_id: str
    rank: Rank

    @property
    def run(self) -> Path:
        """Everything of this run on this machine."""
        return self.root / self.run_id

    @property
    def session(self) -> Path:
        """Everything of this session."""
        return self.run / str(self.rank)

    @property
    def staging(self) -> Path:
        """Where the trainer stages checkpoints."""
        return self.session / "staging"

    @property
    def restored(self) -> Path:
        """Where verified checkpoints from the store are brought."""
        return self.session / "restored"

    @property
    def scratch(self) -> Path:
        """Caches of the script, kept over attempts and sessions on this machine."""
        return self.run / "scratch"

    def make(self) -> None:
        """Make the folders that a session and its trainer write into. Raises OSError."""
        make_private(self.root)
        for folder in (self.staging, self.restored, self.scratch):
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def emptied(self) -> bool:
        """Whether somebody has removed what a living session has there, as cleaners of temporary folders do."""
        return not (self.lock.exists() and self.staging.exists())

    @property
    def journal(self) -> Path:
        """The journal's records that are not in the store yet."""
        return self.session / "journal.jsonl"

    @property
    def output(self) -> Path:
        """All the trainer printed in this session."""
        return self.session / "output.log"

    @property
    def step_log(self) -> Path:
        """Rows of the step log, from all checkpoints staged in this session."""
        return self.session / "steps.jsonl"

    @property
    def status(self) -> Path:
        """The live status."""
        return self.session / STATUS

    @property
    def lock(self) -> Path:
        """Held by the supervisor and by the trainer; free when both are gone."""
        return self.session / "lock"
