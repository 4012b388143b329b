"""A checkpoint's folder: what its files are called, how they are made, and how they are verified and read back."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.core import fields, shapes
from supervisor.core.content import (
    CONTENT_FILE,
    FORMAT,
    LOG_FILE,
    STATE_FILE,
    VERSION,
    Content,
    ContentError,
    NewerContent,
    parse,
    sealed,
)
from supervisor.core.errors import UserError
from supervisor.core.values import dataclass
from supervisor.trainer import reading, rng, tree, writer
from supervisor.trainer.frameworks.framework import HostTarget
from supervisor.trainer.reading import DamageError, File
from supervisor.trainer.writer import NewFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from supervisor.trainer.companions import Companions
    from supervisor.trainer.frameworks.framework import Target
    from supervisor.trainer.reading import Extent
    from supervisor.trainer.typed_json import Node

RNG_FILE = "rng.json"
SMALL_SUFFIXES = {".json", ".jsonl"}  # the rest are tensors, and the script's own files, which the supervisor puts back


@dataclass(frozen=True, slots=True)
class Draft:
    """All of a checkpoint but its tensors; ``objects()`` gives the nodes by attached name, as JSON.

    So does ``beside()`` for what they have beside their state: flags, gradients that no optimizer has used.
    """

    step: int
    total_steps: int | None
    epoch_of_data: float | None
    objects: Callable[[], str]
    generators: rng.Taken
    rows: Sequence[Mapping[str, Any]]
    metrics: Mapping[str, Any]
    made_by: Mapping[str, str]
    split: Mapping[str, list[str]]
    beside: Callable[[], str] = lambda: "{}"
    companions: Companions | None = None


@dataclass(frozen=True, slots=True)
class _State:
    """What ``state.json`` says: nodes by attached name, and which names in the files make up a leaf."""

    objects: Mapping[str, Any]
    split: Mapping[str, tuple[str, ...]]
    beside: Mapping[str, Any] = field(default_factory=dict)


class DamagedError(UserError):
    """A file of a checkpoint is missing, or is not what was written."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One attached state to read: its node, and the live values by leaf that are to be filled instead of making new ones.

    ``rebuilt``: its tree is wanted too. ``kinds``: the classes of the script's own that the live state holds.
    """

    node: Node
    live: Mapping[str, Any]
    rebuilt: bool = True
    on_host: bool = True
    kinds: Mapping[tuple[str, ...], type] = field(default_factory=dict)


def read(path: str | Path) -> dict[str, Any]:
    """Return the states in a checkpoint's folder by attached name (``read(path)["model"]``), tensors on the CPU.

    Every file is verified against its digest on the way. DamagedError says what is wrong.
    """
    opened = open_folder(path)
    return opened.load({name: Wanted(node, {}) for name, node in opened.state["objects"].items()})


def open_folder(path: str | Path) -> Opened:
    """Return what a checkpoint's folder holds, its small files verified; DamagedError, or UserError for a newer format."""
    folder = Path(path)
    manifest = _manifest(folder)
    files = [File(fields.into(folder, name), size, digest) for name, (size, digest) in manifest.files.items()]
    with _damage_of(folder):
        small = {file.path.name: reading.content(file) for file in files if file.path.suffix in SMALL_SUFFIXES}
        state = _state_of(small.get(STATE_FILE, b""))
        pieces = tuple(filter(_is_piece, files))
        places = reading.located(pieces, state["split"])
        kept = rng.parsed(small[RNG_FILE]) if RNG_FILE in small else rng.NOTHING
    return Opened(folder, manifest, state, kept, pieces, places)


@dataclass(frozen=True, slots=True)
class Opened:
    """A checkpoint whose tensors are still on the disk, unverified; ``places`` says where each leaf lies."""

    folder: Path
    manifest: Content
    state: dict[str, Any]
    rng: dict[str, Any]
    pieces: tuple[File, ...]
    places: Mapping[str, list[Extent]]

    @property
    def step(self) -> int:
        """Steps that were done when it was made."""
        return self.manifest.step

    def load(self, wanted: Mapping[str, Wanted]) -> dict[str, Any]:
        """Read the tensors and return the trees that are wanted, by name.

        DamagedError leaves live values with bytes that mean nothing.
        """
        targets: dict[int, Target] = {}  # by the identity of the node, which lives as long as the state
        into: list[tuple[Extent, Target]] = []
        with _damage_of(self.folder):
            for want in wanted.values():
                same: dict[str, list[tuple[dict[str, Any], Target]]] = {}
                for node in tree.leaf_nodes(want.node):
                    twins = same.setdefault(node["leaf"], [])
                    target = next((target for twin, target in twins if twin == node), None)
                    if target is None:
                        target = self._target(node, want)
                        twins.append((node, target))
                        into += [(extent, target) for extent in self.places[node["leaf"]]]
                    targets[id(node)] = target
            reading.fill(self.pieces, into)
            values = {target: target.value() for target in targets.values()}
            return {
                name: tree.rebuild(want.node, lambda node: values[targets[id(node)]], want.kinds)
                for name, want in wanted.items()
                if want.rebuilt
            }

    def leaves(self) -> dict[str, bytes]:
        """Return the bytes of every leaf, verified."""
        into, found = [], {}
        for leaf, extents in self.places.items():
            found[leaf] = bytearray(sum(extent.bytes for extent in extents))
            target = HostTarget(memoryview(found[leaf]), lambda: None)
            into += [(extent, target) for extent in extents]
        with _damage_of(self.folder):
            reading.fill(self.pieces, into)
        return {leaf: bytes(content) for leaf, content in found.items()}

    def _target(self, node: dict[str, Any], want: Wanted) -> Target:
        leaf = node["leaf"]
        if leaf not in self.places:
            raise DamageError(f"tensor {leaf} is in none of its files")
        size = sum(extent.bytes for extent in self.places[leaf])
        try:
            return tree.framework_of(node).target(node, size, want.live.get(leaf), on_host=want.on_host)
        except ValueError as error:
            raise DamageError(f"tensor {leaf} is not as {STATE_FILE} describes it: {error}") from error


def write(staging: Path, name: str, draft: Draft, pieces: Sequence[NewFile]) -> dict[str, tuple[int, str]]:
    """Write the folder ``staging/name``; return the length and digest of each file. OSError leaves no trace."""

    def small() -> list[NewFile]:
        texts = {
            STATE_FILE: _state(draft),
            RNG_FILE: json.dumps(draft.generators.as_kept(), separators=(",", ":"), allow_nan=False),
            LOG_FILE: "".join(map(_row, draft.rows)),
        }
        return [NewFile(file, [memoryview(text.encode())]) for file, text in texts.items()]

    if draft.companions is not None:
        pieces = [*pieces, *draft.companions.files()]
    return writer.write_folder(staging, name, pieces, lambda records: (CONTENT_FILE, _seal(draft, records)), small)


def _state(draft: Draft) -> str:
    split = json.dumps(dict(draft.split), separators=(",", ":"))
    head = f'"format":"{FORMAT}","version":{VERSION}'
    return f'{{{head},"objects":{draft.objects()},"beside":{draft.beside()},"split":{split}}}'


def _row(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


def _seal(draft: Draft, records: Mapping[str, tuple[int, str]]) -> bytes:
    return sealed(
        {
            "step": draft.step,
            "total_steps": draft.total_steps,
            "epoch_of_data": draft.epoch_of_data,
            "metrics": dict(draft.metrics),
            "made_by": dict(draft.made_by),
            "files": [{"name": name, "bytes": size, "digest": digest} for name, (size, digest) in records.items()],
        }
    )


def _manifest(folder: Path) -> Content:
    try:
        return parse((folder / CONTENT_FILE).read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _damaged(folder, f"{CONTENT_FILE} is missing") from error
    except NewerContent as error:
        raise UserError(
            f"{folder} was written by a newer version: {error}", "update training-supervisor; nothing was changed"
        ) from error
    except ContentError as error:
        raise _damaged(folder, str(error)) from error


def _state_of(text: bytes) -> dict[str, Any]:
    try:
        state = dict(
            fields.document(text, len(text), None)
        )  # as long as its state is: its length is told beside its digest
        told = shapes.of(_State, state)
    except ValueError as error:
        raise DamageError(f"{STATE_FILE} cannot be read: {error}") from error
    return {**state, "beside": told.beside}


def _is_piece(file: File) -> bool:
    return file.path.suffix == ".safetensors"


@contextmanager
def _damage_of(folder: Path) -> Iterator[None]:
    try:
        yield
    except DamageError as error:
        raise _damaged(folder, str(error)) from error
    except (*rng.IMPOSSIBLE, RecursionError) as error:
        raise _damaged(folder, f"what it says of its state cannot be ({type(error).__name__}: {error})") from error


def _damaged(folder: Path, what: str) -> DamagedError:
    return DamagedError(f"checkpoint {folder} is damaged: {what}", "use an older checkpoint; this one is left as it is")
