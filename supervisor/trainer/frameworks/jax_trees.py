"""State in pytrees as JAX's libraries have it: flax's TrainState and nnx, optax, equinox, registered dataclasses.

The leaves are kept by their paths, and put back into the tree that the fresh process has there: what it is made of, its
functions and settings, come from there, and no class is named in a checkpoint. Lists, dicts and tuples are kept as they are.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from supervisor.trainer import own_classes
from supervisor.trainer.refused import RefusedError

if TYPE_CHECKING:
    from supervisor.trainer.frameworks.framework import StateAccess

TREE = "<jax.tree>"
_SINGLE = (jax.Array, np.ndarray, np.generic, bool, int, float, complex, str, bytes, type(None))
_SHOWN_MAX = 3


def access(value: Any) -> StateAccess | None:
    """Return (get, set) for an object whose state is, or may hold, pytrees; None for what JAX knows nothing of."""
    if any(kind.__module__.partition(".")[0] == "torch" for kind in type(value).__mro__):
        return None
    get, put = getattr(value, "state_dict", None), getattr(value, "load_state_dict", None)
    if callable(get) and callable(put):
        return (lambda: packed(get())), (lambda kept: put(unpacked(kept, get)))
    nnx = sys.modules.get("flax.nnx")
    if nnx is not None and nnx.graph.is_graph_node(value) and not isinstance(value, _CONTAINERS):
        return (lambda: packed(nnx.state(value))), (
            lambda kept: nnx.update(value, unpacked(kept, lambda: nnx.state(value)))
        )
    if not isinstance(value, _CONTAINERS) and _is_node(value):
        name = type(value).__name__
        raise RefusedError(
            name,
            "a pytree cannot be put back in place, because nothing in it can be changed",
            "attach an object with state_dict() and load_state_dict() that gives and takes it, or jax.tree.leaves(it)",
        )
    return None


def packed(value: Any) -> Any:
    """Return the state with each tree of a class that JAX knows as its leaves by path."""
    if isinstance(value, _SINGLE):
        return value
    if type(value) in {dict, OrderedDict}:
        return type(value)((key, packed(each)) for key, each in value.items())
    if type(value) in {list, tuple}:
        return type(value)(map(packed, value))
    if own_classes.is_namedtuple(value):
        return tuple.__new__(type(value), map(packed, value))
    return {TREE: {path: leaf for path, leaf in _leaves(value) if _is_kept(leaf)}} if _is_node(value) else value


def unpacked(kept: Any, live: Any) -> Any:
    """Return the kept state with its trees made again by those of ``live()``, which is called if there are any."""
    return _made(kept, live(), "") if _holds_tree(kept) else kept


def _made(kept: Any, twin: Any, path: str) -> Any:
    if type(kept) is dict and kept.keys() == {TREE}:
        return _tree(kept[TREE], twin, path)
    if isinstance(kept, dict):
        inner = twin if isinstance(twin, dict) else {}
        return type(kept)((key, _made(each, inner.get(key), f"{path}.{key}")) for key, each in kept.items())
    if isinstance(kept, list | tuple) and _holds_tree(kept):
        beside = twin if isinstance(twin, list | tuple) and len(twin) == len(kept) else [None] * len(kept)
        items = [_made(each, beside[number], f"{path}.{number}") for number, each in enumerate(kept)]
        return tuple.__new__(type(kept), items) if isinstance(kept, tuple) else items
    return kept


def _tree(leaves: dict[str, Any], twin: Any, path: str) -> Any:
    if not _is_node(twin) or isinstance(twin, _CONTAINERS):
        what = "nothing" if twin is None else f"a {type(twin).__name__}"
        raise ValueError(f"{path.removeprefix('.')} is a tree in it, and {what} here: make it before attach()")
    here = _leaves(twin)
    wanted = {name for name, leaf in here if _is_kept(leaf)}
    missing, extra = sorted(leaves.keys() - {name for name, _ in here}), sorted(wanted - leaves.keys())
    if missing or extra:
        which = f"it holds {_some(missing)}" if missing else f"it does not hold {_some(extra)}"
        raise ValueError(f"{path.removeprefix('.')}: {which}, unlike the tree here")
    return jax.tree.unflatten(jax.tree.structure(twin), [leaves.get(name, leaf) for name, leaf in here])


def _leaves(tree: Any) -> list[tuple[str, Any]]:
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]]


def _is_node(value: Any) -> bool:
    """Say whether JAX sees a tree in it."""
    return value is not None and not jax.tree_util.all_leaves([value])


def _is_kept(leaf: Any) -> bool:
    """Functions and classes are among the leaves of some trees: those come from the fresh process's own tree."""
    return isinstance(leaf, _SINGLE) or not callable(leaf)


def _holds_tree(kept: Any) -> bool:
    if isinstance(kept, dict):
        return kept.keys() == {TREE} or any(map(_holds_tree, kept.values()))
    return isinstance(kept, list | tuple) and any(map(_holds_tree, kept))


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN_MAX]) + (f" and {len(names) - _SHOWN_MAX} more" if len(names) > _SHOWN_MAX else "")


_CONTAINERS = (dict, list, tuple)
