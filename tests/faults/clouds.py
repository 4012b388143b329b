"""A model of a drive whose machine is taken away: what its client never proved arrives in part, or not at all, in any order.

A file that was written is in the cloud absent, empty, half or whole until its upload is done; one that was emptied or removed
may still be there as it was. The client of the model says "uploaded" once before it is true, because a real one may.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.core.ports import Unconfirmed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor.stores.uploads import Written
    from tests.faults import syscalls

CHANGING = frozenset({"write", "unlink", "rmdir", "mkdir", "open"})
TRUE_FROM = 3  # questions about one file


@dataclass
class File:
    """``certain`` is what the cloud surely holds (None: no such file), ``last`` the most that was written since then."""

    certain: bytes | None = None
    now: bytes | None = None
    last: bytes = b""
    touched: bool = False

    def may_be(self) -> list[bytes | None]:
        if not self.touched:
            return [self.certain]
        parts = [self.last, self.last[: len(self.last) // 2]] if self.last else []
        return list(dict.fromkeys([self.now, self.certain, b"", *parts]))


State = dict[str, "bytes | None"]


class Cloud:
    """Follows the calls in the store's folder ``where`` and can build what another machine then finds."""

    kind = "cloud"
    remains = b""

    def __init__(self, where: Path) -> None:
        self.where, self.chance = where, random.Random(5)
        self.files: dict[str, File] = {}
        self.folders = {str(each) for each in where.rglob("*") if each.is_dir()}
        for path in where.rglob("*"):
            if path.is_file():
                body = path.read_bytes()
                self.files[str(path)] = File(body, body)
        self.asked: Counter[str] = Counter()

    def see(self, file: Written) -> str:
        """Answer the store's question about an upload."""
        path = os.path.normpath(self.where.parent / file.path)
        self.asked[path] += 1
        if self.asked[path] == 1:
            raise Unconfirmed("not uploaded yet")
        if self.asked[path] >= TRUE_FROM:
            now = self.files[path].now
            self.files[path] = File(now, now)
        return self.kind

    def cache(self) -> str | None:
        return None

    def act(self, call: syscalls.Call) -> Any:
        """Do the call and follow it."""
        result = call.go()
        if not call.path.startswith(f"{self.where}/"):
            return result
        flags = call.args[1] if call.name == "open" and len(call.args) > 1 else 0
        if call.name == "write":
            self._touch(call.path, (self.files[call.path].now or b"") + bytes(call.args[1])[:result])
        elif call.name == "unlink":
            self._touch(call.path, None)
        elif call.name == "mkdir":
            self.folders.add(call.path)
        elif isinstance(flags, int) and flags & (os.O_CREAT | os.O_TRUNC):
            self._touch(call.path, b"")
        return result

    def states(self) -> Iterator[tuple[str, State]]:
        """Yield what may be left in the cloud now."""
        sure = {path: file.certain for path, file in self.files.items()}
        here = {path: file.now for path, file in self.files.items()}
        open_ = {path: file.may_be() for path, file in self.files.items() if file.touched}
        yield "nothing more arrives", sure
        yield "all arrives", here
        yield "all that is new is empty", {**sure, **dict.fromkeys(open_, b"")}
        yield "half of all arrives", {**sure, **{path: options[-1] for path, options in open_.items()}}
        for path, options in open_.items():
            for body in options[1:]:
                yield f"all but {path} arrives, which is {_told(body)}", {**here, path: body}
            for body in options:
                if body != sure[path]:
                    yield f"only {path} arrives, {_told(body)}", {**sure, path: body}
        for _ in range(len(open_)):
            yield "any of it arrives", {**sure, **{path: self.chance.choice(each) for path, each in open_.items()}}

    def build(self, state: State, at: Path, *, folders: bool) -> None:
        """Make it; with ``folders`` every folder that ever was is there too."""
        at.mkdir()
        if folders:
            for folder in self.folders:
                (at / Path(folder).relative_to(self.where)).mkdir(parents=True, exist_ok=True)
        for path, body in state.items():
            if body is not None:
                file = at / Path(path).relative_to(self.where)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(body)

    def _touch(self, path: str, body: bytes | None) -> None:
        known = self.files.setdefault(path, File())
        known.now, known.touched = body, True
        known.last = max(known.last, body or b"", key=len)
        self.asked[path] = 0


def _told(body: bytes | None) -> str:
    return "absent" if body is None else f"{len(body)} bytes long"
