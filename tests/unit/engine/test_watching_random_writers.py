"""Whatever a script does to its files and in which order: a snapshot holds only what it had finished writing."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, BinaryIO

import pytest

from tests.unit.engine.files import Folder, tree

if TYPE_CHECKING:
    from pathlib import Path


class Writer:
    """Writes, appends, renames, deletes and links at random; ``whole`` has every content that each path ever had finished."""

    def __init__(self, root: Path, chance: random.Random) -> None:
        self.root, self.chance = root, chance
        self.whole: dict[str, set[bytes]] = {}
        self.lines = b""
        self._open: list[tuple[str, BinaryIO, bytes]] = []
        self._number = 0

    def act(self) -> None:
        acts = (
            self.create,
            self.begin,
            self.begin,
            self.end,
            self.end,
            self.log,
            self.move,
            self.delete,
            self.link,
            self.rename_over,
        )
        self.chance.choice(acts)()

    def create(self) -> None:
        path, body = self._name(), self._body()
        if any(path == each for each, _, _ in self._open):
            return
        (self.root / path).write_bytes(body)
        self._finished(path, body)

    def begin(self) -> None:
        """Write a part, in place or anew, and leave the file open."""
        path, body = self._name(), self._body()
        if any(path == each for each, _, _ in self._open):
            return
        file = (self.root / path).open("wb")
        file.write(body[: len(body) // 2])
        file.flush()
        self._open.append((path, file, body))

    def end(self) -> None:
        if self._open:
            path, file, body = self._open.pop(self.chance.randrange(len(self._open)))
            file.write(body[len(body) // 2 :])
            file.close()
            self._finished(path, body)

    def log(self) -> None:
        line = b"line %d\n" % self._number
        with (self.root / "train.log").open("ab") as file:
            file.write(line)
        self.lines += line

    def rename_over(self) -> None:
        path, body = self._name(), self._body()
        if any(path == each for each, _, _ in self._open):
            return
        beside = self.root / f"{path}.tmp"
        beside.write_bytes(body)
        beside.rename(self.root / path)
        self._finished(path, body)

    def move(self) -> None:
        free = self._free()
        if free:
            old, new = self.chance.choice(free), self._name()
            if any(new == each for each, _, _ in self._open):
                return
            self.whole.setdefault(new, set()).update(self.whole[old])
            (self.root / old).rename(self.root / new)

    def delete(self) -> None:
        free = self._free()
        if free:
            (self.root / self.chance.choice(free)).unlink()

    def link(self) -> None:
        name = self.root / f"link-{self.chance.randrange(3)}"
        name.unlink(missing_ok=True)
        name.symlink_to(self._name())

    def finish(self) -> None:
        while self._open:
            self.end()

    def _free(self) -> list[str]:
        busy = {path for path, _, _ in self._open}
        return sorted(path for path in self.whole if path not in busy and (self.root / path).is_file())

    def _name(self) -> str:
        return f"file {self.chance.randrange(6)}.bin"

    def _body(self) -> bytes:
        self._number += 1
        return b"%06d" % self._number * self.chance.choice((1, 20, 50_000))

    def _finished(self, path: str, body: bytes) -> None:
        self.whole.setdefault(path, set()).add(body)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_each_snapshot_holds_only_what_was_finished(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    folder = Folder(tmp_path)
    writer = Writer(folder.root, chance)
    seen = 0
    for _ in range(120):
        for _ in range(chance.choice((0, 0, 1, 3))):
            writer.act()
        folder.after(chance.choice((0.1, 0.7, 2.5, 11.0)))
        if len(folder.staged) > seen:
            seen = len(folder.staged)
            folder.put_back(tmp_path / "again")
            for path, content in tree(tmp_path / "again").items():
                if path == "train.log":
                    assert isinstance(content, bytes)
                    assert writer.lines.startswith(content)
                elif isinstance(content, bytes):
                    assert content in writer.whole[path], f"{path} was never finished so"
    assert seen > 1
    writer.finish()
    folder.watcher.end(trusted=True)
    folder.put_back(tmp_path / "again")
    assert tree(tmp_path / "again") == tree(folder.root)
    steps = [each.step for each in folder.staged]
    assert steps == sorted(set(steps))
