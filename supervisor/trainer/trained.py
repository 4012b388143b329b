"""The trained model of a checkpoint, for other programs: by its names, put into a fresh model, or as a file of its own.

``python -m supervisor.trainer.trained torch|safetensors FOLDER FILE`` writes the file.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.core import safetensors_file
from supervisor.core.errors import FAILED, FAILED_SETUP, UsageError, UserError
from supervisor.trainer import frameworks, typed_json
from supervisor.trainer.folder import open_folder, read
from supervisor.trainer.own_packages import make_xxhash_importable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from supervisor.trainer.typed_json import Node

DTYPES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32", "int16": "I16",
    "int8": "I8", "uint8": "U8", "uint16": "U16", "uint32": "U32", "uint64": "U64", "bool": "BOOL",
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
}  # fmt: skip  # from the names of the frameworks to those of safetensors


def load_model_state(path: str | Path, into: Any = None, *, name: str = "") -> Any:
    """Return the state of the model in a checkpoint's folder, as its ``state_dict()`` gave it, with tensors on the CPU.

    ``path``: the folder of ``checkpoints export``, or a checkpoint's folder. ``into``: a model that is built as in the
    script; it is given the state, too. ``name``: the word under which the model was attached; by default ``model``,
    else the only name that begins so.

    The keys are those of the framework: ``0.weight`` of a torch module, ``sequential/dense/kernel`` of a Keras model.
    """
    states = read(path)
    state = states[_named(name, list(states))]
    if into is not None:
        _put(into, state)
    return state


def _named(name: str, names: list[str]) -> str:
    likely = [name] if name else ["model"] if "model" in names else [each for each in names if each.startswith("model")]
    if len(likely) != 1 or likely[0] not in names:
        raise UsageError(
            f"the checkpoint has no object that is {name!r}"
            if name
            else "the checkpoint does not tell which is its model",
            f"give name=, one of: {', '.join(names)}",
        )
    return likely[0]


def _put(model: Any, state: Any) -> None:
    if hasattr(model, "load_state_dict"):
        model.load_state_dict(state)
        return
    for framework in frameworks.loaded():
        if (access := framework.access(model)) is not None:
            _, put = access
            put(state)
            return
    raise UsageError(
        f"a {type(model).__name__} has no load_state_dict(), and no framework here knows it",
        "leave out into=, and give it the state that load_model_state() returns",
    )


def main(arguments: Sequence[str]) -> int:
    """Write the model of a checkpoint's folder into a file; what goes wrong is said in two lines."""
    form, folder, file = arguments
    make_xxhash_importable(os.environ.get("SUPERVISOR_RUN_PACKAGES", ""))
    try:
        if form == "torch":
            write_torch(Path(folder), Path(file))
        else:
            write_safetensors(Path(folder), Path(file))
    except UserError as error:
        sys.stderr.write(f"{error.what}\n{error.hint}\n")
        return error.exit_code
    return 0


def write_torch(folder: Path, file: Path, name: str = "") -> None:
    """Write what plain ``torch.load(file, weights_only=True)`` gives back for ``model.load_state_dict()``."""
    try:
        torch = import_module("torch")
    except ImportError as error:
        raise UserError(
            "a file for torch is written by torch, which this Python does not have",
            "use a Python that has it, or --as safetensors, which needs nothing",
            FAILED_SETUP,
        ) from error
    state = load_model_state(folder, name=name)
    if not isinstance(state, Mapping) or not any(isinstance(each, torch.Tensor) for each in state.values()):
        raise UserError("the model of this checkpoint is no torch module", "use --as safetensors", FAILED)
    # Each tensor with memory of its own: what was read lies in one large piece, which would be written whole each time.
    torch.save({key: each.clone() if isinstance(each, torch.Tensor) else each for key, each in state.items()}, file)


def write_safetensors(folder: Path, file: Path, name: str = "") -> None:
    """Write the model's tensors as a safetensors file, under the model's own names; no framework is needed."""
    opened = open_folder(folder)
    nodes = opened.state["objects"]
    leaves = opened.leaves()
    entries, contents, begin = [], [], 0
    for key, node in _tensors(nodes[_named(name, list(nodes))]):
        if (dtype := DTYPES.get(str(node["dtype"]))) is None:
            raise UserError(f"{key} has the type {node['dtype']}, which safetensors lacks", "use --as torch", FAILED)
        content = leaves[node["leaf"]]
        entries.append(safetensors_file.Entry(key, dtype, tuple(node["shape"]), begin, len(content)))
        contents.append(content)
        begin += len(content)
    if not entries:
        raise UserError("the model of this checkpoint holds no tensors", "use supervisor.load_model_state()", FAILED)
    with file.open("wb") as out:
        out.write(safetensors_file.header(entries))
        out.writelines(contents)


def _tensors(node: Node, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and node of each tensor; what lies deeper has its names joined by dots."""
    if isinstance(node, dict) and {"leaf", "dtype", "shape"} <= node.keys():
        yield path, node
        return
    for key, child in typed_json.children(node) or []:
        yield from _tensors(child, f"{path}.{key}" if path else str(key))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
