"""A state tree and its two halves in a checkpoint: a typed JSON node, and the leaves that go into safetensors files."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from supervisor.core.errors import UserError
from supervisor.trainer import frameworks, typed_json
from supervisor.trainer.frameworks.plain import INLINE_BYTES_MAX
from supervisor.trainer.refused import RefusedError, cannot_keep
from supervisor.trainer.typed_json import TAG, Node

if TYPE_CHECKING:
    from supervisor.trainer.frameworks.framework import Framework
    from supervisor.trainer.leaf import Leaf

PartsOf = Callable[[str], Sequence[memoryview]]


@dataclass(slots=True)
class Capture:
    """Walks trees; nothing is copied but the numbers and strings in the nodes: ``leaves`` point at live tensors."""

    frameworks: list[Framework]
    leaves: dict[str, Leaf] = field(default_factory=dict)
    _names: dict[Hashable, str] = field(default_factory=dict)

    def node(self, value: Any, path: str) -> Node:
        """Return the node of the tree ``value``, which is called ``path`` in errors; RefusedError names what cannot be kept."""
        try:
            return typed_json.encode(value, path, self._other)
        except RecursionError:
            raise RefusedError(
                path, "the state holds itself, or is nested too deeply", "return a flat state_dict()"
            ) from None

    def _other(self, value: Any, path: str) -> Node:
        if type(value) is bytes and len(value) <= INLINE_BYTES_MAX:
            return typed_json.encode_bytes(value)
        for framework in self.frameworks:
            kept = framework.keep(value, path)
            if kept is not None:
                node, leaf = kept
                return node if leaf is None else node | {"leaf": self._named(leaf, path)}
        raise cannot_keep(path, value)

    def _named(self, leaf: Leaf, path: str) -> str:
        if leaf.identity is not None and leaf.identity in self._names:
            return self._names[leaf.identity]
        name, count = path, 1
        while name in self.leaves:
            count += 1
            name = f"{path}~{count}"
        self.leaves[name] = leaf
        if leaf.identity is not None:
            self._names[leaf.identity] = name
        return name


def rebuild(node: Node, parts_of: PartsOf, *, on_host: bool) -> Any:
    """Return the tree of a node; leaves that were one tensor are one tensor again.

    ``parts_of(name)`` gives a leaf's bytes; ``on_host`` leaves tensors on the CPU, for an owner that places them itself.
    """
    given: dict[tuple[str, str], Any] = {}

    def other(found: dict[str, Any]) -> Any:
        framework = _framework_of(found[TAG])
        name = found.get("leaf")
        if name is None:
            return framework.give(found, (), on_host=on_host)
        key = (name, repr(found))
        if key not in given:
            given[key] = framework.give(found, parts_of(name), on_host=on_host)
        return given[key]

    return typed_json.decode(node, other)


def differences(kept: Node, found: Node, path: str) -> list[str]:
    """Return the paths at which two nodes are not the same; tensors by dtype, shape and strides, not by value."""
    ours, theirs = typed_json.children(kept), typed_json.children(found)
    if ours is None or theirs is None or _kind(kept) != _kind(found):
        return [] if _comparable(kept) == _comparable(found) else [path]
    left, right = dict(ours), dict(theirs)
    paths = [f"{path}.{key}" for key in left.keys() ^ right.keys()]
    for key in left.keys() & right.keys():
        paths += differences(left[key], right[key], f"{path}.{key}")
    return sorted(paths)


def _framework_of(tag: str) -> Framework:
    name = tag.partition(".")[0]
    try:
        return frameworks.named(name)
    except KeyError:
        raise UserError(f"the checkpoint holds values of a kind not known here: {tag}", "use a newer version") from None
    except ImportError as error:
        raise UserError(f"the checkpoint needs {name} to be read: {error}", f"install {name} and try again") from error


def _kind(node: Node) -> Any:
    return node.get(TAG) if isinstance(node, dict) else type(node)


def _comparable(node: Node) -> Any:
    """A node without what may change from machine to machine, or says nothing about the value."""
    if isinstance(node, dict):
        return {key: value for key, value in node.items() if key not in {"leaf", "device"}}
    return type(node), node, str(node)  # str tells 0.0 from -0.0
