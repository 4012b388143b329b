"""A checkpoint's folder: the names of its files, and how they are written, verified and read."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.core.checkpoint.checkpoint_json import (
    CONTENT_FILE,
    FORMAT,
    LOG_FILE,
    STATE_FILE,
    VERSION,
    CheckpointInfo,
    CheckpointInfoError,
    NewerCheckpointInfo,
    parse,
    to_bytes,
)
from supervisor.core.errors import UserError
from supervisor.core.frozen import dataclass
from supervisor.core.wire import fields, shapes
from supervisor.trainer.adapters.port import HostTarget
from supervisor.trainer.save import reader, writer
from supervisor.trainer.save.reader import DamageError, TensorFile
from supervisor.trainer.save.writer import NewFile
from supervisor.trainer.state import rng, tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from supervisor.trainer.adapters.port import RestoreTarget
    from supervisor.trainer.save.companion_files import Companions
    from supervisor.trainer.save.reader import Extent
    from supervisor.trainer.state.typed_json import Node

RNG_FILE = "rng.json"
SMALL_SUFFIXES = {".json", ".jsonl"}  # the rest are tensors, and the script's files, which the supervisor restores


@dataclass(frozen=True, slots=True)
class CheckpointDraft:
    """A checkpoint without its tensors.

    ``objects()`` and ``beside()`` return JSON: the nodes by attached name, and the extra state.
    """

    step: int
    total_steps: int | None
    epoch_of_data: float | None
    objects: Callable[[], str]
    generators: rng.RngStates
    rows: Sequence[Mapping[str, Any]]
    metrics: Mapping[str, Any]
    made_by: Mapping[str, str]
    split: Mapping[str, list[str]]
    beside: Callable[[], str] = lambda: "{}"
    companions: Companions | None = None


@dataclass(frozen=True, slots=True)
class _State:
    """The content of ``state.json``: nodes by attached name, and the parts of each split leaf."""

    objects: Mapping[str, Any]
    split: Mapping[str, tuple[str, ...]]
    beside: Mapping[str, Any] = field(default_factory=dict)


class DamagedError(UserError):
    """A file of a checkpoint is missing, or has other content than recorded."""


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """One attached state to read: its node, and the live values by leaf to fill in place.

    ``wants_tree``: its tree is wanted too. ``on_host``: new values are made on the host. ``kinds``: the script's own classes in
    the live state.
    """

    node: Node
    live: Mapping[str, Any]
    wants_tree: bool = True
    on_host: bool = True
    kinds: Mapping[tuple[str, ...], type] = field(default_factory=dict)


def read(path: str | Path) -> dict[str, Any]:
    """Return the states in a checkpoint's folder by attached name, with tensors on the CPU.

    ``read(path)["model"]`` is the state of the object that was attached as ``model``.

    Args:
        path: the checkpoint's folder.

    Raises:
        DamagedError: a file is missing or does not match its digest.
    """
    opened = open_folder(path)
    return opened.load({name: LoadRequest(node, {}) for name, node in opened.state["objects"].items()})


def open_folder(path: str | Path) -> OpenCheckpoint:
    """Open a checkpoint's folder and verify its small files.

    Args:
        path: the checkpoint's folder.

    Returns:
        The checkpoint, with its tensors still on the disk.

    Raises:
        DamagedError: a file is missing or damaged.
        UserError: a newer version wrote it.
    """
    folder = Path(path)
    manifest = _manifest(folder)
    files = [TensorFile(fields.into(folder, name), size, digest) for name, (size, digest) in manifest.files.items()]
    with _as_damaged(folder):
        small_files = {file.path.name: reader.read_small(file) for file in files if file.path.suffix in SMALL_SUFFIXES}
        state = _parse_state(small_files.get(STATE_FILE, b""))
        pieces = tuple(filter(_is_piece, files))
        places = reader.locate(pieces, state["split"])
        stored = rng.parse(small_files[RNG_FILE]) if RNG_FILE in small_files else rng.EMPTY
    return OpenCheckpoint(folder, manifest, state, stored, pieces, places)


@dataclass(frozen=True, slots=True)
class OpenCheckpoint:
    """A checkpoint whose tensors are still on the disk, unverified; ``places`` has the extents of each leaf."""

    folder: Path
    manifest: CheckpointInfo
    state: dict[str, Any]
    rng: dict[str, Any]
    pieces: tuple[TensorFile, ...]
    places: Mapping[str, list[Extent]]

    @property
    def step(self) -> int:
        """Steps that were done when it was made."""
        return self.manifest.step

    def load(self, requests: Mapping[str, LoadRequest]) -> dict[str, Any]:
        """Read the tensors; return the requested trees by name.

        Args:
            wanted: the requests by attached name.

        Raises:
            DamagedError: a file is damaged. Live values then hold meaningless bytes.
        """
        targets: dict[int, RestoreTarget] = {}  # by the identity of the node, which lives as long as the state
        reads: list[tuple[Extent, RestoreTarget]] = []
        with _as_damaged(self.folder):
            for request in requests.values():
                by_leaf: dict[str, list[tuple[dict[str, Any], RestoreTarget]]] = {}
                for node in tree.leaf_nodes(request.node):
                    twins = by_leaf.setdefault(node["leaf"], [])
                    target = next((target for twin, target in twins if twin == node), None)
                    if target is None:
                        target = self._target(node, request)
                        twins.append((node, target))
                        reads += [(extent, target) for extent in self.places[node["leaf"]]]
                    targets[id(node)] = target
            reader.read_into(self.pieces, reads)
            values = {target: target.value() for target in targets.values()}
            return {
                name: tree.rebuild(request.node, lambda node: values[targets[id(node)]], request.kinds)
                for name, request in requests.items()
                if request.wants_tree
            }

    def leaves(self) -> dict[str, bytes]:
        """Return the verified bytes of every leaf."""
        reads, found = [], {}
        for leaf, extents in self.places.items():
            found[leaf] = bytearray(sum(extent.bytes for extent in extents))
            target = HostTarget(memoryview(found[leaf]), lambda: None)
            reads += [(extent, target) for extent in extents]
        with _as_damaged(self.folder):
            reader.read_into(self.pieces, reads)
        return {leaf: bytes(content) for leaf, content in found.items()}

    def _target(self, node: dict[str, Any], request: LoadRequest) -> RestoreTarget:
        leaf = node["leaf"]
        if leaf not in self.places:
            raise DamageError(f"tensor {leaf} is in none of its files")
        size = sum(extent.bytes for extent in self.places[leaf])
        try:
            return tree.adapter_of(node).restore_target(node, size, request.live.get(leaf), on_host=request.on_host)
        except ValueError as error:
            raise DamageError(f"tensor {leaf} is not as {STATE_FILE} describes it: {error}") from error


def write(staging: Path, name: str, draft: CheckpointDraft, pieces: Sequence[NewFile]) -> dict[str, tuple[int, str]]:
    """Write the folder ``staging/name``; return length and digest of each file. OSError leaves no partial folder."""

    def small_files() -> list[NewFile]:
        texts = {
            STATE_FILE: _state(draft),
            RNG_FILE: json.dumps(draft.generators.to_stored(), separators=(",", ":"), allow_nan=False),
            LOG_FILE: "".join(map(_row, draft.rows)),
        }
        return [NewFile(file, [memoryview(text.encode())]) for file, text in texts.items()]

    if draft.companions is not None:
        pieces = [*pieces, *draft.companions.files()]
    return writer.write_folder(
        staging, name, pieces, lambda records: (CONTENT_FILE, _checkpoint_json(draft, records)), small_files
    )


def _state(draft: CheckpointDraft) -> str:
    split = json.dumps(dict(draft.split), separators=(",", ":"))
    head = f'"format":"{FORMAT}","version":{VERSION}'
    return f'{{{head},"objects":{draft.objects()},"beside":{draft.beside()},"split":{split}}}'


def _row(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


def _checkpoint_json(draft: CheckpointDraft, records: Mapping[str, tuple[int, str]]) -> bytes:
    return to_bytes(
        {
            "step": draft.step,
            "total_steps": draft.total_steps,
            "epoch_of_data": draft.epoch_of_data,
            "metrics": dict(draft.metrics),
            "made_by": dict(draft.made_by),
            "files": [{"name": name, "bytes": size, "digest": digest} for name, (size, digest) in records.items()],
        }
    )


def _manifest(folder: Path) -> CheckpointInfo:
    try:
        return parse((folder / CONTENT_FILE).read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _damaged(folder, f"{CONTENT_FILE} is missing") from error
    except NewerCheckpointInfo as error:
        raise UserError(
            f"{folder} was written by a newer version: {error}", "update training-supervisor; nothing was changed"
        ) from error
    except CheckpointInfoError as error:
        raise _damaged(folder, str(error)) from error


def _parse_state(text: bytes) -> dict[str, Any]:
    try:
        state = dict(fields.document(text, len(text), None))  # no smaller limit: the recorded length bounds it
        parsed_state = shapes.convert(_State, state)
    except ValueError as error:
        raise DamageError(f"{STATE_FILE} cannot be read: {error}") from error
    return {**state, "beside": parsed_state.beside}


def _is_piece(file: TensorFile) -> bool:
    return file.path.suffix == ".safetensors"


@contextmanager
def _as_damaged(folder: Path) -> Iterator[None]:
    try:
        yield
    except DamageError as error:
        raise _damaged(folder, str(error)) from error
    except (*rng.DECODE_ERRORS, RecursionError) as error:
        raise _damaged(folder, f"what it says of its state cannot be ({type(error).__name__}: {error})") from error


def _damaged(folder: Path, what: str) -> DamagedError:
    return DamagedError(f"checkpoint {folder} is damaged: {what}", "use an older checkpoint; this one is left as it is")
