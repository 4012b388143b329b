"""A drive as the verbs see it, made of a folder: what its client says of uploads, and how it stops to answer, are given."""

from __future__ import annotations

from supervisor.core.ports import StoreError, Traits, Unconfirmed
from supervisor.stores.folder import FolderStore


class Drive(FolderStore):
    """``refuses``: how many times the evidence is not there yet (None: it never comes). ``fails``: the kind of error of all."""

    def __init__(self, root: str, *, refuses: int | None = 0, possible: bool = True, fails: str = "") -> None:
        super().__init__(root)
        kind = "drivefs" if possible else ""
        self.traits = Traits(
            where=self.root, place="Drive", evidence=kind, settle_s=60.0, confirm_every_s=0.001, mounted=True
        )
        self.refuses, self.possible, self.fails = refuses, possible, fails
        self.free: int | None = 10**10

    def _see_root(self) -> None:
        if self.fails:
            raise StoreError("Drive has not answered for 10 s", self.fails)
        super()._see_root()

    def evidence(self, path: str) -> str:
        super().evidence(path)
        if not self.possible:
            raise Unconfirmed("nothing here says whether it has left this machine", possible=False)
        if self.refuses is None:
            raise Unconfirmed("Drive has not uploaded it yet")
        if self.refuses > 0:
            self.refuses -= 1
            raise Unconfirmed("Drive has not uploaded it yet")
        return "drivefs"

    def free_bytes(self) -> int | None:
        return self.free
