"""A store on paper: files in a dictionary, read thousands of times a second, with an own judge of what in it is still whole."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from supervisor.core import checkpoint as cp
from supervisor.core.digest import digest_of
from supervisor.core.ports import Entry, Measured, Missing, Traits
from supervisor.engine import checkpoints
from tests.faults.world import RUN, World, demand

if TYPE_CHECKING:
    import random
    from collections.abc import Hashable, Mapping, Sequence

    from supervisor.core.ports import Store

K = TypeVar("K", bound="Hashable")


class Paper:
    """What a machine reads that begins with these files; nothing can be written."""

    def __init__(self, files: Mapping[str, bytes], traits: Traits) -> None:
        self.traits, self._files = traits, files
        self._folders: dict[str, dict[str, Entry]] = {}
        for path, body in files.items():
            inside, entry = path, _entry(path.rpartition("/")[2], len(body))
            while inside:
                inside = inside.rpartition("/")[0]
                names = self._folders.setdefault(inside, {})
                known = entry.name in names
                names[entry.name] = entry
                if known:
                    break
                entry = _entry(inside.rpartition("/")[2], None)

    def list(self, folder: str) -> Sequence[Entry]:
        return tuple(self._folders.get(folder, {}).values())

    def read(self, path: str) -> bytes:
        if path not in self._files:
            raise Missing(path)
        return self._files[path]

    def pull(self, path: str, local: str, algorithm: str, *, link: bool = False) -> Measured:
        body = self.read(path)
        Path(local).unlink(missing_ok=True)
        Path(local).write_bytes(body)
        return Measured(len(body), digest_of((body,), algorithm))


@cache
def _entry(name: str, length: int | None) -> Entry:
    return Entry(name, length is None, length)


class Judge:
    """Knows the store of a world as it was, and what a machine has to make of one that was harmed."""

    def __init__(self, world: World, traits: Traits | None = None) -> None:
        top = Path(world.where)
        self.world, self.into = world, world.root / "brought"
        self.traits = traits or world.store().traits
        self.whole = {
            path.relative_to(top).as_posix(): path.read_bytes() for path in sorted(top.rglob("*")) if path.is_file()
        }
        self.files: dict[cp.CheckpointId, list[str]] = {}
        for found in checkpoints.find(world.store(), RUN):
            manifest = checkpoints.read_manifest(world.store(), found).manifest
            assert manifest is not None
            self.files[found.id] = [found.path, *(f"{RUN.name}/{entry.path}" for entry in manifest.all_files())]

    def judge(self, files: Mapping[str, bytes]) -> None:
        """Begin with these files and compare the choice with what it must be."""
        store: Store = Paper(files, self.traits)  # type: ignore[assignment]
        brought = checkpoints.newest_whole(store, RUN, (), self.into)
        answer, passed_over = brought.answer, brought.passed_over
        expected = max((id_ for id_, paths in self.files.items() if self._same(paths, files)), default=None)
        seen = [id_ for id_, paths in self.files.items() if paths[0] in files and (expected is None or id_ > expected)]
        if expected is None:
            self._asks_or_begins_anew(answer, files, seen)
            return
        demand(isinstance(answer, cp.ResumeFrom), f"{expected} is whole, but: {answer!r}")
        assert isinstance(answer, cp.ResumeFrom)
        demand(answer.found.id == expected, f"{expected} is the newest whole, it took {answer.found.id}")
        for name, body in self.world.content(expected.step).items():
            demand((self.into / name).read_bytes() == body, f"{name} of {expected} is not what was saved")
        said = {each.id for each in (*answer.skipped, *passed_over)}
        demand(said >= set(seen), f"{set(seen) - said} was skipped without a word")

    def _asks_or_begins_anew(self, answer: object, files: Mapping[str, bytes], seen: Sequence[cp.CheckpointId]) -> None:
        told = bool(self.world.safe) and any(
            path.rpartition("/")[2].startswith("journal-") and self._same([path], files) for path in self.whole
        )
        manifests = [self.files[id_][0] for id_ in seen]
        published = any(self._same([path], files) for path in manifests)
        cut_short = all(self.whole[path].startswith(files[path]) for path in manifests)
        if told or published or (manifests and self.traits.evidence == "fsync"):
            demand(isinstance(answer, cp.AskUser), f"there are signs of work, but: {answer!r}")
        elif cut_short:
            demand(isinstance(answer, cp.StartAfresh), f"nothing was ever published, but: {answer!r}")
        demand(not isinstance(answer, cp.ResumeFrom), f"nothing is whole, but: {answer!r}")

    def _same(self, paths: Sequence[str], files: Mapping[str, bytes]) -> bool:
        return all(files.get(path) == self.whole[path] for path in paths)


def harm(files: dict[K, bytes], chance: random.Random, among: Sequence[K], others: Sequence[K]) -> None:
    """Harm one to eight files, those ``among`` which the choice is made rather than others."""
    for path in chance.sample(among, chance.randint(1, min(5, len(among)))) + chance.sample(
        others, chance.randint(0, 3)
    ):
        body = bytearray(files.get(path, b""))
        match chance.choice(("flip", "cut", "gone", "swapped", "longer", "zeros")):
            case "flip" if body:
                body[chance.randrange(len(body))] ^= 1 << chance.randrange(8)
            case "cut":
                del body[chance.randrange(len(body) + 1) :]
            case "gone":
                files.pop(path, None)
                continue
            case "swapped":
                other = chance.choice(others)
                if other in files and path in files:
                    files[path], files[other] = files[other], files[path]
                continue
            case "longer":
                body += b"\x00garbage"
            case _:
                body = bytearray(len(body))
        files[path] = bytes(body)
