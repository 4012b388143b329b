"""Splits a state tree into its two halves in a checkpoint: a typed JSON node, and leaves for safetensors files."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from supervisor.core.errors import UserError
from supervisor.trainer import adapters
from supervisor.trainer.adapters.plain import INLINE_BYTES_MAX
from supervisor.trainer.errors import UnsupportedStateError, first_lines, unsupported
from supervisor.trainer.state import script_classes, typed_json
from supervisor.trainer.state.typed_json import TAG, Node

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from supervisor.trainer.adapters.port import FrameworkAdapter, LeafSpec


@dataclass(slots=True)
class TreeCapture:
    """Walks trees. Only numbers and strings are copied, into the nodes; ``values`` are the live tensors by leaf.

    ``kinds``: the script's own classes that were found.
    """

    frameworks: list[FrameworkAdapter]
    leaves: dict[str, LeafSpec] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    kinds: script_classes.ScriptClasses = field(default_factory=dict)
    _names: dict[Hashable, str] = field(default_factory=dict)

    def node(self, value: Any, path: str) -> Node:
        """Return the node of the tree ``value``. ``path`` names it in errors.

        Raises:
            UnsupportedStateError: names the first path that cannot be saved exactly.
        """
        try:
            return typed_json.encode(value, path, self._encode_other)
        except RecursionError:
            raise UnsupportedStateError(
                path, "the state holds itself, or is nested too deeply", "return a flat state_dict()"
            ) from None

    def node_without_leaves(self, value: Any, path: str) -> Node | None:
        """Return the node of a tree without leaves, else None."""
        inner = TreeCapture(self.frameworks)
        node = inner.node(value, path)
        return None if inner.leaves else node

    def _encode_other(self, value: Any, path: str) -> Node:
        if type(value) is bytes and len(value) <= INLINE_BYTES_MAX:
            return typed_json.encode_bytes(value)
        for framework in self.frameworks:
            encoded = _encode_with(framework, value, path)
            if encoded is not None:
                node, leaf = encoded
                return node if leaf is None else node | {"leaf": self._leaf_name(leaf, value, path)}
        script_value = script_classes.encode(
            value, path, lambda item, at: typed_json.encode(item, at, self._encode_other), self.kinds
        )
        if script_value is None:
            raise unsupported(path, value)
        return script_value

    def _leaf_name(self, leaf: LeafSpec, value: Any, path: str) -> str:
        if leaf.identity is not None and leaf.identity in self._names:
            return self._names[leaf.identity]
        name, count = path, 1
        while name in self.leaves:
            count += 1
            name = f"{path}~{count}"
        self.leaves[name] = leaf
        self.values[name] = value  # kept alive, so that no address occurs twice in one walk
        if leaf.identity is not None:
            self._names[leaf.identity] = name
        return name


def _encode_with(framework: FrameworkAdapter, value: Any, path: str) -> tuple[dict[str, Any], LeafSpec | None] | None:
    try:
        return framework.encode(value, path)
    except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        name = f"{type(value).__module__}.{type(value).__qualname__}"
        why = f"a {name} cannot be kept in a checkpoint: {framework.name} says {first_lines(error, 1)}"
        raise UnsupportedStateError(
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
    """Return the tree of a node.

    Args:
        node: the typed JSON node.
        value_of: returns the value of a node with a leaf.
        kinds: the script's own classes in the live state.
    """

    def other(found: dict[str, Any]) -> Any:
        if "leaf" in found:
            return value_of(found)
        if "." in found[TAG]:
            return adapter_of(found).decode(found)
        try:
            return script_classes.decode(found, kinds or {})
        except KeyError:
            raise _unknown(found[TAG]) from None

    return typed_json.decode(node, other)


def value_of_bytes(node: dict[str, Any], content: bytes | bytearray) -> Any:
    """Return the value on the host of a node whose leaf has these bytes."""
    target = adapter_of(node).restore_target(node, len(content), None, on_host=True)
    if content:
        target.buffer(0, len(content))[:] = content
        target.filled(0, len(content))
    return target.value()


def adapter_of(node: dict[str, Any]) -> FrameworkAdapter:
    """Return the adapter of a node; UserError if it is unknown, or cannot be imported here."""
    tag = node[TAG]
    name = tag.partition(".")[0]
    try:
        return adapters.named(name)
    except KeyError:
        raise _unknown(tag) from None
    except ImportError as error:
        raise UserError(f"the checkpoint needs {name} to be read: {error}", f"install {name} and try again") from error


def _unknown(tag: str) -> UserError:
    return UserError(f"the checkpoint holds values of a kind not known here: {tag}", "use a newer version")


def shared_containers(states: Mapping[str, Any]) -> list[str]:
    """Return a message for each list, dict, set or deque with two places in the states: it comes back as two."""
    seen: dict[int, str] = {}
    message: list[str] = []
    waiting = list(states.items())
    while waiting:
        path, value = waiting.pop()
        kind = type(value)
        if kind not in _MUTABLE and kind is not tuple:
            continue
        if kind in _MUTABLE and (first := seen.setdefault(id(value), path)) != path:
            message.append(f"{first} and {path} are one {kind.__name__}, and come back as two: keep it under one name")
            continue
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        waiting += [(f"{path}.{key}", item) for key, item in pairs]
    return message


_MUTABLE = {list, dict, set, deque, OrderedDict, Counter, defaultdict}


def differences(encoded: Node, found: Node, path: str, *, strides: bool = True) -> list[str]:
    """Return the paths at which two nodes differ; tensors by dtype, shape and strides, not by value."""
    ours, theirs = typed_json.children(encoded), typed_json.children(found)
    if ours is None or theirs is None or _kind(encoded) != _kind(found):
        return [] if _comparable(encoded, strides=strides) == _comparable(found, strides=strides) else [path]
    left, right = dict(ours), dict(theirs)
    paths = [f"{path}.{key}" for key in left.keys() ^ right.keys()]
    if typed_json.container_attributes(encoded) != typed_json.container_attributes(found):
        paths.append(path)  # as the length that a deque may have
    for key in left.keys() & right.keys():
        paths += differences(left[key], right[key], f"{path}.{key}", strides=strides)
    return sorted(paths)


def same_but_devices(one: Node, other: Node) -> bool:
    """Return whether two nodes are equal and share their leaves in the same way, apart from devices."""
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
    """Return a node without the fields that may differ between machines, or do not describe the value."""
    if isinstance(node, dict):
        left_out = {"leaf", "device"} if strides else {"leaf", "device", "strides"}
        return {key: value for key, value in node.items() if key not in left_out}
    return type(node), node, str(node)  # str tells 0.0 from -0.0
