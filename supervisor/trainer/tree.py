"""A state tree and its two halves in a checkpoint: a typed JSON node, and the leaves that go into safetensors files."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from supervisor.core.errors import UserError
from supervisor.trainer import frameworks, own_classes, typed_json
from supervisor.trainer.frameworks.plain import INLINE_BYTES_MAX
from supervisor.trainer.refused import RefusedError, cannot_keep, first_lines
from supervisor.trainer.typed_json import TAG, Node

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from supervisor.trainer.frameworks.framework import Framework
    from supervisor.trainer.leaf import Leaf


@dataclass(slots=True)
class Capture:
    """Walks trees; nothing is copied but the numbers and strings in the nodes: ``values`` are the live tensors by leaf.

    ``kinds``: the classes of the script's own that were met, as ``own_classes`` names them.
    """

    frameworks: list[Framework]
    leaves: dict[str, Leaf] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    kinds: own_classes.Kinds = field(default_factory=dict)
    _names: dict[Hashable, str] = field(default_factory=dict)

    def node(self, value: Any, path: str) -> Node:
        """Return the node of the tree ``value``, which is called ``path`` in errors; RefusedError names what cannot be kept."""
        try:
            return typed_json.encode(value, path, self._other)
        except RecursionError:
            raise RefusedError(
                path, "the state holds itself, or is nested too deeply", "return a flat state_dict()"
            ) from None

    def single(self, value: Any, path: str) -> Node | None:
        """Return the node of a tree in which nothing is a leaf, else None."""
        alone = Capture(self.frameworks)
        node = alone.node(value, path)
        return None if alone.leaves else node

    def _other(self, value: Any, path: str) -> Node:
        if type(value) is bytes and len(value) <= INLINE_BYTES_MAX:
            return typed_json.encode_bytes(value)
        for framework in self.frameworks:
            kept = _kept(framework, value, path)
            if kept is not None:
                node, leaf = kept
                return node if leaf is None else node | {"leaf": self._named(leaf, value, path)}
        own = own_classes.keep(value, path, lambda item, at: typed_json.encode(item, at, self._other), self.kinds)
        if own is None:
            raise cannot_keep(path, value)
        return own

    def _named(self, leaf: Leaf, value: Any, path: str) -> str:
        if leaf.identity is not None and leaf.identity in self._names:
            return self._names[leaf.identity]
        name, count = path, 1
        while name in self.leaves:
            count += 1
            name = f"{path}~{count}"
        self.leaves[name] = leaf
        self.values[name] = value  # kept alive, so that no address is met twice in one walk
        if leaf.identity is not None:
            self._names[leaf.identity] = name
        return name


def _kept(framework: Framework, value: Any, path: str) -> tuple[dict[str, Any], Leaf | None] | None:
    try:
        return framework.keep(value, path)
    except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        name = f"{type(value).__module__}.{type(value).__qualname__}"
        why = f"a {name} cannot be kept in a checkpoint: {framework.name} says {first_lines(error, 1)}"
        raise RefusedError(
            path, why, "return a plain tensor or array with the same values from state_dict()"
        ) from error


def leaf_nodes(node: Node) -> list[dict[str, Any]]:
    """Return the nodes under ``node`` whose values lie in files, in the order in which ``rebuild`` asks for them."""
    found: list[dict[str, Any]] = []
    typed_json.decode(node, lambda other: found.append(other) if "leaf" in other else None)
    return found


def rebuild(
    node: Node, value_of: Callable[[dict[str, Any]], Any], kinds: Mapping[tuple[str, ...], type] | None = None
) -> Any:
    """Return the tree of a node; ``value_of(node)`` gives the value of one that has a leaf.

    ``kinds``: the classes of the script's own that the live state holds.
    """

    def other(found: dict[str, Any]) -> Any:
        if "leaf" in found:
            return value_of(found)
        if "." in found[TAG]:
            return framework_of(found).give(found)
        try:
            return own_classes.give(found, kinds or {})
        except KeyError:
            raise _unknown(found[TAG]) from None

    return typed_json.decode(node, other)


def value_of_bytes(node: dict[str, Any], content: bytes | bytearray) -> Any:
    """Return the value on the host of a node whose leaf has these bytes."""
    target = framework_of(node).target(node, len(content), None, on_host=True)
    if content:
        target.room(0, len(content))[:] = content
        target.took(0, len(content))
    return target.value()


def framework_of(node: dict[str, Any]) -> Framework:
    """Return the framework of a node; UserError if it is not known, or cannot be imported here."""
    tag = node[TAG]
    name = tag.partition(".")[0]
    try:
        return frameworks.named(name)
    except KeyError:
        raise _unknown(tag) from None
    except ImportError as error:
        raise UserError(f"the checkpoint needs {name} to be read: {error}", f"install {name} and try again") from error


def _unknown(tag: str) -> UserError:
    return UserError(f"the checkpoint holds values of a kind not known here: {tag}", "use a newer version")


def shared_containers(states: Mapping[str, Any]) -> list[str]:
    """Return words on each list, dict, set or deque that stands in two places of the states: it comes back as two."""
    seen: dict[int, str] = {}
    words: list[str] = []
    waiting = list(states.items())
    while waiting:
        path, value = waiting.pop()
        kind = type(value)
        if kind not in _MUTABLE and kind is not tuple:
            continue
        if kind in _MUTABLE and (first := seen.setdefault(id(value), path)) != path:
            words.append(f"{first} and {path} are one {kind.__name__}, and come back as two: keep it under one name")
            continue
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        waiting += [(f"{path}.{key}", item) for key, item in pairs]
    return words


_MUTABLE = {list, dict, set, deque, OrderedDict, Counter, defaultdict}


def differences(kept: Node, found: Node, path: str, *, strides: bool = True) -> list[str]:
    """Return the paths at which two nodes are not the same; tensors by dtype, shape and strides, not by value."""
    ours, theirs = typed_json.children(kept), typed_json.children(found)
    if ours is None or theirs is None or _kind(kept) != _kind(found):
        return [] if _comparable(kept, strides=strides) == _comparable(found, strides=strides) else [path]
    left, right = dict(ours), dict(theirs)
    paths = [f"{path}.{key}" for key in left.keys() ^ right.keys()]
    if typed_json.own(kept) != typed_json.own(found):
        paths.append(path)  # as the length that a deque may have
    for key in left.keys() & right.keys():
        paths += differences(left[key], right[key], f"{path}.{key}", strides=strides)
    return sorted(paths)


def same_but_devices(one: Node, other: Node) -> bool:
    """Say whether two nodes are equal, and share their leaves in the same way, whatever devices they name."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(
            key == "device" or same_but_devices(value, other[key]) for key, value in one.items()
        )
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_but_devices, one, other))
    return type(one) is type(other) and one == other


def _kind(node: Node) -> Any:
    return node.get(TAG) if isinstance(node, dict) else type(node)


def _comparable(node: Node, *, strides: bool) -> Any:
    """A node without what may change from machine to machine, or says nothing about the value."""
    if isinstance(node, dict):
        left_out = {"leaf", "device"} if strides else {"leaf", "device", "strides"}
        return {key: value for key, value in node.items() if key not in left_out}
    return type(node), node, str(node)  # str tells 0.0 from -0.0
