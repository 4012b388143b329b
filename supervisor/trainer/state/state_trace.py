"""Follows a state tree that was walked once: it collects the tensors and builds nothing.

Between two saves, training changes the tensors' contents and a few numbers. So the nodes, their JSON and the layout of the
files are kept, and each tensor costs one comparison of its form. Any other change means that the whole tree is walked again.
"""

from __future__ import annotations

import json
from collections import Counter, OrderedDict, defaultdict, deque
from typing import TYPE_CHECKING, Any

from supervisor.trainer.state.script_classes import is_namedtuple
from supervisor.trainer.state.tree import TreeCapture
from supervisor.trainer.state.typed_json import TAG

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    from supervisor.trainer.adapters.port import FrameworkAdapter
    from supervisor.trainer.state.typed_json import Node

Visited = list[tuple["Hashable", Any]]  # address and live value of each place with a tensor


class ChangedError(Exception):
    """The tree's structure has changed."""


class StateTrace:
    """The walked trees of several objects by name. ChangedError if a tree cannot be followed."""

    def __init__(self, states: Mapping[str, Any], nodes: dict[str, Node], capture: TreeCapture) -> None:
        self.nodes = nodes
        self._texts: dict[tuple[str, str | None], str] = {}
        builder = _TraceBuilder(capture)
        self._roots = {name: builder.build(states[name], node, nodes, name, name) for name, node in nodes.items()}
        firsts = {leaf: number for number, leaf in reversed(list(enumerate(builder.leaves)))}
        if firsts.keys() != capture.leaves.keys():
            raise ChangedError  # a tensor in a place that is not followed, as in the key of a dict
        self._firsts = [firsts[leaf] for leaf in capture.leaves]
        self._addresses = [address for address, _ in self._walk(states)]
        self._shared_with = _shared_with(self._addresses)

    def follow(self, states: Mapping[str, Any]) -> list[Any]:
        """Return the live value of each leaf; ChangedError if the trees have changed."""
        seen = self._walk(states)
        addresses = [address for address, _ in seen]
        if addresses != self._addresses:
            if _shared_with(addresses) != self._shared_with:
                raise ChangedError
            self._addresses = addresses
        return [seen[number][1] for number in self._firsts]

    def text(self, names: Iterable[str]) -> str:
        """Return the JSON of these nodes by name; only changed parts are encoded again."""
        return "{" + ",".join(f"{json.dumps(name)}:{self._object(name)}" for name in names) + "}"

    def _walk(self, states: Mapping[str, Any]) -> Visited:
        seen: Visited = []
        for name, root in self._roots.items():
            if isinstance(root, _ContainerNode) and root.is_plain_dict:
                for key in root.changed_keys(states[name], seen):
                    self._texts.pop((name, key), None)
            elif root.follow(states[name], seen):
                self._texts.pop((name, None), None)
        return seen

    def _object(self, name: str) -> str:
        root, node = self._roots[name], self.nodes[name]
        if isinstance(root, _ContainerNode) and root.is_plain_dict:
            # Its entries are written apart, so that one number does not cost the whole text.
            return "{" + ",".join(f"{json.dumps(key)}:{self._text(name, key, node[key])}" for key in node) + "}"
        return self._text(name, None, node)

    def _text(self, name: str, key: str | None, node: Node) -> str:
        if (name, key) not in self._texts:
            self._texts[name, key] = as_json(node)
        return self._texts[name, key]


def as_json(node: Node) -> str:
    """Return a node in the form of the file."""
    return json.dumps(node, separators=(",", ":"), allow_nan=False)


def _shared_with(addresses: Sequence[Hashable]) -> list[int]:
    """Return for each tensor's place the first place with the same memory, mostly itself."""
    first: dict[Hashable, int] = {}
    return [
        number if address is None else first.setdefault(address, number) for number, address in enumerate(addresses)
    ]


class _TraceBuilder:
    """Builds the places of a tree from its values and nodes; ``leaves`` names the leaf of each tensor's place."""

    def __init__(self, capture: TreeCapture) -> None:
        self.leaves: list[str] = []
        self._of_leaves = capture.leaves
        self._value_capture = TreeCapture(capture.frameworks)  # not the one that holds the tensors: places live long

    def build(
        self, value: Any, node: Node, holder: Any, key: Any, path: str
    ) -> _TensorNode | _ValueNode | _ContainerNode:
        """Return the place of ``value``, whose node is ``holder[key]``."""
        if isinstance(node, dict) and TAG in node and "leaf" in node:
            self.leaves.append(node["leaf"])
            return _TensorNode(value, self._of_leaves[node["leaf"]].framework)
        kind = type(value)
        if kind is list:
            return _ContainerNode(
                value, [self.build(each, node[i], node, i, f"{path}.{i}") for i, each in enumerate(value)]
            )
        if kind in {tuple, deque} or is_namedtuple(value):
            items = node["items"]
            return _ContainerNode(
                value, [self.build(each, items[i], items, i, f"{path}.{i}") for i, each in enumerate(value)]
            )
        if kind is dict and TAG not in node:
            places = [self.build(each, node[k], node, k, f"{path}.{k}") for k, each in value.items()]
            return _ContainerNode(value, places, is_plain_dict=True)
        if kind in {dict, OrderedDict, Counter, defaultdict}:
            pairs = zip(value.items(), node["items"], strict=True)
            return _ContainerNode(
                value, [self.build(each, pair[1], pair, 1, f"{path}.{k}") for (k, each), pair in pairs]
            )
        return _ValueNode(value, holder, key, path, self._value_capture)


class _TensorNode:
    """The place of a tensor."""

    __slots__ = ("_address_of", "_signature", "_signature_of")

    def __init__(self, value: Any, framework: FrameworkAdapter) -> None:
        self._signature_of, self._address_of = framework.signature, framework.address
        self._signature = framework.signature(value)

    def follow(self, value: Any, seen: Visited) -> bool:
        if self._signature_of(value) != self._signature:
            raise ChangedError
        seen.append((self._address_of(value), value))
        return False


class _ValueNode:
    """The place of a number, a string or another value without tensors."""

    __slots__ = ("_capture", "_holder", "_key", "_old", "_path")

    def __init__(self, value: Any, holder: Any, key: Any, path: str, capture: TreeCapture) -> None:
        self._old, self._holder, self._key, self._path, self._capture = value, holder, key, path, capture

    def follow(self, value: Any, _seen: Visited) -> bool:
        if value is self._old and type(value) in _IMMUTABLE:
            return False
        node, before = self._capture.node_without_leaves(value, self._path), self._holder[self._key]
        if node is None and value is not None:
            raise ChangedError
        self._old = value
        if type(node) is type(before) and str(node) == str(before):  # str tells 0.0 from -0.0, True from 1
            return False
        self._holder[self._key] = node
        return True


class _ContainerNode:
    """The place of a container."""

    __slots__ = ("_children", "_exact_keys", "_extras", "_keys", "_kind", "is_plain_dict")

    def __init__(self, value: Any, children: list[Any], *, is_plain_dict: bool = False) -> None:
        self.is_plain_dict = is_plain_dict
        self._kind, self._children = type(value), children
        self._keys = list(value) if isinstance(value, dict) else None
        self._exact_keys = [] if self._keys is None or set(map(type, value)) <= {str} else _exact_keys(value)
        self._extras = _container_extras(value)

    def follow(self, value: Any, seen: Visited) -> bool:
        changed = False
        for child, item in zip(self._children, self._items(value)):  # noqa: B905  # as many: _items has looked
            changed |= child.follow(item, seen)
        return changed

    def changed_keys(self, value: Any, seen: Visited) -> list[Any]:
        """Follow a dict; return the keys whose values have changed."""
        items = self._items(value)
        return [key for key, child, item in zip(value, self._children, items, strict=True) if child.follow(item, seen)]

    def _items(self, value: Any) -> Any:
        if (
            type(value) is not self._kind
            or len(value) != len(self._children)
            or _container_extras(value) != self._extras
        ):
            raise ChangedError
        if self._keys is None:
            return value
        if list(value) != self._keys or (self._exact_keys and _exact_keys(value) != self._exact_keys):
            raise ChangedError
        return value.values()


def _container_extras(value: Any) -> Any:
    """Return a container's attributes beside its items."""
    kind = type(value)
    if kind in {dict, list, tuple}:
        return None
    if kind is OrderedDict:
        return repr(getattr(value, "_metadata", None))
    return value.maxlen if kind is deque else getattr(value, "default_factory", None)


def _exact_keys(value: dict[Any, Any]) -> list[Any]:
    """Return the keys with their types: 1 and True, 0.0 and -0.0 differ."""
    return [key if type(key) is str else (type(key), repr(key)) for key in value]


_IMMUTABLE = {type(None), bool, int, float, str, bytes}
