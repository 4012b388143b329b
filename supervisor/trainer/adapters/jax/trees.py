"""State in pytrees of JAX's libraries: flax's TrainState and nnx, optax, equinox, registered dataclasses.

The leaves are saved by their paths, and restored into the tree that the fresh process has there. Structure, functions and
settings come from that tree, and a checkpoint names no class. Lists, dicts and tuples are saved as they are.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from supervisor.trainer.errors import UnsupportedStateError
from supervisor.trainer.state import script_classes

if TYPE_CHECKING:
    from supervisor.trainer.adapters.port import StateAccess

TREE = "<jax.tree>"
_SINGLE = (jax.Array, np.ndarray, np.generic, bool, int, float, complex, str, bytes, type(None))
_SHOWN_MAX = 3


def state_access(value: Any) -> StateAccess | None:
    """Return (get, set) for an object whose state is, or may hold, pytrees; None if JAX knows no tree in it."""
    if any(kind.__module__.partition(".")[0] == "torch" for kind in type(value).__mro__):
        return None
    get, put = getattr(value, "state_dict", None), getattr(value, "load_state_dict", None)
    if callable(get) and callable(put):
        return (lambda: packed(get())), (lambda stored: put(unpacked(stored, get)))
    nnx = sys.modules.get("flax.nnx")
    if nnx is not None and nnx.graph.is_graph_node(value) and not isinstance(value, _CONTAINERS):
        return (lambda: packed(nnx.state(value))), (
            lambda stored: nnx.update(value, unpacked(stored, lambda: nnx.state(value)))
        )
    if not isinstance(value, _CONTAINERS) and _is_node(value):
        name = type(value).__name__
        raise UnsupportedStateError(
            name,
            "a pytree cannot be put back in place, because nothing in it can be changed",
            "attach an object with state_dict() and load_state_dict() that gives and takes it, or jax.tree.leaves(it)",
        )
    return None


def packed(value: Any) -> Any:
    """Return the state with each registered pytree replaced by its leaves by path."""
    if isinstance(value, _SINGLE):
        return value
    if type(value) in {dict, OrderedDict}:
        return type(value)((key, packed(each)) for key, each in value.items())
    if type(value) in {list, tuple}:
        return type(value)(map(packed, value))
    if script_classes.is_namedtuple(value):
        return tuple.__new__(type(value), map(packed, value))
    return {TREE: {path: leaf for path, leaf in _leaves(value) if _is_kept(leaf)}} if _is_node(value) else value


def unpacked(stored: Any, live: Any) -> Any:
    """Return the stored state with its trees rebuilt from those of ``live()``.

    ``live()`` is called only if there are any.
    """
    return _rebuild(stored, live(), "") if _holds_tree(stored) else stored


def _rebuild(stored: Any, twin: Any, path: str) -> Any:
    if type(stored) is dict and stored.keys() == {TREE}:
        return _rebuild_tree(stored[TREE], twin, path)
    if isinstance(stored, dict):
        inner = twin if isinstance(twin, dict) else {}
        return type(stored)((key, _rebuild(each, inner.get(key), f"{path}.{key}")) for key, each in stored.items())
    if isinstance(stored, list | tuple) and _holds_tree(stored):
        beside = twin if isinstance(twin, list | tuple) and len(twin) == len(stored) else [None] * len(stored)
        items = [_rebuild(each, beside[number], f"{path}.{number}") for number, each in enumerate(stored)]
        return tuple.__new__(type(stored), items) if isinstance(stored, tuple) else items
    return stored


def _rebuild_tree(leaves: dict[str, Any], twin: Any, path: str) -> Any:
    if not _is_node(twin) or isinstance(twin, _CONTAINERS):
        what = "nothing" if twin is None else f"a {type(twin).__name__}"
        raise ValueError(f"{path.removeprefix('.')} is a tree in it, and {what} here: make it before attach()")
    present = _leaves(twin)
    wanted = {name for name, leaf in present if _is_kept(leaf)}
    missing, extra = sorted(leaves.keys() - {name for name, _ in present}), sorted(wanted - leaves.keys())
    if missing or extra:
        which = f"it holds {_shortened(missing)}" if missing else f"it does not hold {_shortened(extra)}"
        raise ValueError(f"{path.removeprefix('.')}: {which}, unlike the tree here")
    return jax.tree.unflatten(jax.tree.structure(twin), [leaves.get(name, leaf) for name, leaf in present])


def _leaves(tree: Any) -> list[tuple[str, Any]]:
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]]


def _is_node(value: Any) -> bool:
    """Return whether JAX sees a tree in it."""
    return value is not None and not jax.tree_util.all_leaves([value])


def _is_kept(leaf: Any) -> bool:
    """Return whether a leaf is saved.

    Functions and classes are leaves of some trees; those come from the fresh process's tree.
    """
    return isinstance(leaf, _SINGLE) or not callable(leaf)


def _holds_tree(stored: Any) -> bool:
    if isinstance(stored, dict):
        return stored.keys() == {TREE} or any(map(_holds_tree, stored.values()))
    return isinstance(stored, list | tuple) and any(map(_holds_tree, stored))


def _shortened(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN_MAX]) + (f" and {len(names) - _SHOWN_MAX} more" if len(names) > _SHOWN_MAX else "")


_CONTAINERS = (dict, list, tuple)
