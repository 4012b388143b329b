"""The mounted drive as one process sees it: through its machine's mount, which can be away, hang, and tear what is written."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from supervisor.core.errors import UserError
from supervisor.core.ports import Missing, StoreError, Traits
from tests.simulation.virtual_drive import CONFIRM_EVERY_S, Weather
from tests.simulation.virtual_store import WORDS, View
from tests.simulation.world import Died

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.core.ports import Entry
    from tests.simulation.observer import Observer
    from tests.simulation.virtual_drive import Drive, Mount
    from tests.simulation.world import World

DEADLINE_S = 30.0


class DriveView(View):
    """The verbs of a store on a mount. Where an operation breaks off, it may have been done, in part or as a whole."""

    def __init__(self, drive: Drive, world: World, observer: Observer) -> None:
        super().__init__(drive, world, observer)  # type: ignore[arg-type]
        self.drive = drive
        self.traits = Traits(
            settle_s=drive.settle_s, silence_s=150.0, where="virtual", place="Drive", mounted=True,
            evidence="drivefs" if drive.habits.evidence else "", confirm_every_s=CONFIRM_EVERY_S,
        )  # fmt: skip

    @property
    def mount(self) -> Mount:
        """The mount of this process's machine."""
        return self.drive.mount(self._who().machine)

    def list(self, folder: str) -> Sequence[Entry]:
        """Return the names that this machine can see by now."""
        self._before(folder)
        at = self.world.now
        found = self.mount.listing(folder)
        self.world.hazard(self._who())
        self.observer.listed(self._who(), folder, found, at)
        return found

    def read(self, path: str) -> bytes:
        """Return a file's bytes."""
        self._before(path)
        body = self.mount.seen(path)
        if body is None:
            raise Missing(f"{path} is not there")
        return body

    def evidence(self, path: str) -> str:
        """Return what the client says of a file."""
        self._before(path)
        self.observer.asked(self._who(), path)
        return self.mount.evidence(path)

    def free_bytes(self) -> int | None:
        """Say how much room there is, if the drive says so."""
        if self.drive.broken != "full":
            return None
        self._told("full")
        return 0

    def flush(self, within_s: float) -> None:
        """Send all that is written and unmount, if it gets through."""
        world, mount = self.world, self.mount
        if self.drive.broken or mount.trouble.now(world.now) or self.drive.stuck_until > world.now:
            world.stall(self._who(), within_s)
            raise UserError("the flush did not end in time", "keep the machine")
        world.stall(self._who(), min(within_s, 20.0))
        mount.flush()
        mount.trouble = Weather("gone", world.now + 300.0)

    def _write(self, path: str, body: bytes) -> None:
        self.observer.writing(self._who(), path)
        try:
            self._before(path, writes=True)
        except (StoreError, Died) as error:
            self._break_off(path, body, error)
            raise
        self._put(path, body)
        self.observer.written(self._who(), path, body)
        self._after(path)

    def _put(self, path: str, body: bytes) -> None:
        self.mount.put(path, body)

    def _remove(self, path: str) -> None:
        self.mount.remove(path)

    def _break_off(self, path: str, body: bytes, error: BaseException) -> None:
        """Leave what a write leaves that ended in an error or a death: nothing, an empty file, a half, or all of it."""
        if self._who().machine.gone or self.mount.trouble.now(self.world.now) == "gone":
            return
        left = self.world.chance.choice([None, None, b"", body[: len(body) // 2], body])
        if left == body != b"" and not (isinstance(error, StoreError) and error.kind == "hung"):
            left = None
        if left is not None:
            self.drive.count("writes broken off")
            with suppress(StoreError):
                self._put(path, left)
                if left == body:
                    self.observer.written(self._who(), path, body)
                else:
                    self.observer.left(self._who(), path, left)

    def _before(self, path: str, *, writes: bool = False) -> None:
        super()._before(path, writes=writes)
        trouble = self.mount.trouble.now(self.world.now)
        if trouble == "hung":
            self.world.stall(self._who(), DEADLINE_S)
            raise StoreError(f"no answer within {DEADLINE_S:.0f} s ({path})", "hung")
        if trouble and (trouble != "full" or writes):
            self._told(trouble)
            raise StoreError(f"{WORDS[trouble]} ({path})", trouble)
