"""A checkpoint's folder: what its files are called, how they are made, and how they are verified and read back."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.core.content import CONTENT_FILE, FORMAT, LOG_FILE, VERSION, Content, ContentError, NewerContent, parse
from supervisor.core.errors import UserError
from supervisor.core.values import dataclass
from supervisor.trainer import safetensors_file, tree, writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from supervisor.trainer.snapshot import Piece
    from supervisor.trainer.typed_json import Node

STATE_FILE = "state.json"
RNG_FILE = "rng.json"
SLICE_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Draft:
    """All of a checkpoint but its tensors: nodes by attached name, states of random generators, rows and numbers."""

    step: int
    total_steps: int | None
    epoch_of_data: float | None
    objects: Mapping[str, Node]
    rng: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    metrics: Mapping[str, Any]
    made_by: Mapping[str, str]
    split: Mapping[str, list[str]]


class DamagedError(UserError):
    """A file of a checkpoint is missing, or is not what was written."""


def read(path: str | Path) -> dict[str, Any]:
    """Return the states in a checkpoint's folder by attached name (``read(path)["model"]``), tensors on the CPU.

    Every file is verified against its digest on the way. DamagedError says what is wrong.
    """
    return open_folder(path).states(on_host=True)


def open_folder(path: str | Path) -> Opened:
    """Return the verified content of a checkpoint's folder, held in memory; DamagedError, or UserError for a newer format."""
    folder = Path(path)
    manifest = _manifest(folder)
    contents = {name: _verified(folder, name, *promised) for name, promised in manifest.files.items()}
    state = _state_of(folder, bytes(contents.get(STATE_FILE, b"")))
    rng = json.loads(bytes(contents.get(RNG_FILE, b'{"generators":{},"bytes":{}}')))
    tensors: dict[str, memoryview] = {}
    for name, content in contents.items():
        if name.endswith(".safetensors"):
            try:
                tensors |= safetensors_file.tensors(memoryview(content))
            except (ValueError, KeyError, TypeError) as error:
                raise _damaged(folder, f"{name} cannot be read: {error}") from error
    return Opened(folder, manifest, state, rng, tensors)


@dataclass(frozen=True, slots=True)
class Opened:
    """A verified checkpoint in memory."""

    folder: Path
    manifest: Content
    state: dict[str, Any]
    rng: dict[str, Any]
    tensors: dict[str, memoryview]

    @property
    def step(self) -> int:
        """Steps that were done when it was made."""
        return self.manifest.step

    def states(self, *, on_host: bool) -> dict[str, Any]:
        """Return every attached state by name."""
        return {name: self.tree(node, on_host=on_host) for name, node in self.state["objects"].items()}

    def tree(self, node: Node, *, on_host: bool) -> Any:
        """Return the state tree of one of its nodes."""
        return tree.rebuild(node, self._parts, on_host=on_host)

    def _parts(self, name: str) -> list[memoryview]:
        try:
            return [self.tensors[part] for part in self.state["split"].get(name, [name])]
        except KeyError as error:
            raise _damaged(self.folder, f"tensor {error} is in none of its files") from error


def write(
    staging: Path, name: str, draft: Draft, pieces: Sequence[Piece], chunks: Callable[[Piece], Iterable[memoryview]]
) -> int:
    """Write the folder ``staging/name``; return its bytes. ``chunks`` gives a piece's bytes. OSError leaves no trace."""
    files: list[tuple[str, writer.Chunks]] = [(piece.name, lambda piece=piece: chunks(piece)) for piece in pieces]  # type: ignore[misc]
    files.append((STATE_FILE, lambda: [memoryview(_state(draft))]))
    files.append((RNG_FILE, lambda: [memoryview(_rng(draft))]))
    files.append((LOG_FILE, lambda: [memoryview("".join(map(_row, draft.rows)).encode())]))
    return writer.write_folder(staging, name, files, lambda records: (CONTENT_FILE, _seal(draft, records)))


def _state(draft: Draft) -> bytes:
    body = {
        "format": FORMAT,
        "version": VERSION,
        "objects": dict(draft.objects),
        "split": dict(draft.split),
    }
    return json.dumps(body, separators=(",", ":"), allow_nan=False).encode()


def _rng(draft: Draft) -> bytes:
    return json.dumps(draft.rng, separators=(",", ":"), allow_nan=False).encode()


def _row(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


def _seal(draft: Draft, records: list[dict[str, Any]]) -> bytes:
    body = {
        "format": FORMAT,
        "version": VERSION,
        "step": draft.step,
        "total_steps": draft.total_steps,
        "epoch_of_data": draft.epoch_of_data,
        "metrics": dict(draft.metrics),
        "made_by": dict(draft.made_by),
        "files": records,
    }
    return json.dumps(body, indent=1, ensure_ascii=False, allow_nan=False).encode()


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


def _state_of(folder: Path, text: bytes) -> dict[str, Any]:
    try:
        state = json.loads(text)
        if isinstance(state["objects"], dict) and isinstance(state["split"], dict):
            return dict(state)
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(folder, f"{STATE_FILE} cannot be read: {error}") from error
    raise _damaged(folder, f"{STATE_FILE} does not hold states by name")


def _verified(folder: Path, name: str, size: int, promised: str) -> bytearray:
    """Return a file's bytes, read in slices into one buffer while hashing."""
    content, digest, begin = bytearray(size), hashlib.sha256(), 0
    view = memoryview(content)
    try:
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise _damaged(folder, f"{name} is missing") from error
    try:
        while count := os.readv(descriptor, [view[begin : begin + SLICE_BYTES]]):
            digest.update(view[begin : begin + count])
            begin += count
        longer = os.read(descriptor, 1)
    finally:
        os.close(descriptor)
    if begin != size or longer:
        raise _damaged(folder, f"{name} is not {size} bytes long")
    if f"sha256:{digest.hexdigest()}" != promised:
        raise _damaged(folder, f"{name} is not what was written: its digest differs")
    return content


def _damaged(folder: Path, what: str) -> DamagedError:
    return DamagedError(f"checkpoint {folder} is damaged: {what}", "use an older checkpoint; this one is left as it is")
