"""A state tree that was walked once is followed again without building anything: its tensors are collected, nothing else.

What training changes between two saves is what the tensors hold, and a few numbers. So the nodes, their JSON and the layout
of the files are kept; a tensor costs one comparison of its form. Anything unforeseen means: walk the whole tree again.
"""

from __future__ import annotations

import json
from collections import Counter, OrderedDict, defaultdict, deque
from typing import TYPE_CHECKING, Any

from supervisor.trainer.own_classes import is_namedtuple
from supervisor.trainer.tree import Capture
from supervisor.trainer.typed_json import TAG

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    from supervisor.trainer.frameworks.framework import Framework
    from supervisor.trainer.typed_json import Node

Seen = list[tuple["Hashable", Any]]  # address and live value of each place with a tensor


class ChangedError(Exception):
    """The tree is not built any more as it was."""


class Trace:
    """The walked trees of several objects by name. ChangedError if they are of a kind that cannot be followed."""

    def __init__(self, states: Mapping[str, Any], nodes: dict[str, Node], capture: Capture) -> None:
        self.nodes = nodes
        self._texts: dict[tuple[str, str | None], str] = {}
        maker = _Maker(capture)
        self._roots = {name: maker.place(states[name], node, nodes, name, name) for name, node in nodes.items()}
        firsts = {leaf: number for number, leaf in reversed(list(enumerate(maker.leaves)))}
        if firsts.keys() != capture.leaves.keys():
            raise ChangedError  # a tensor in a place that is not followed, as in the key of a dict
        self._firsts = [firsts[leaf] for leaf in capture.leaves]
        self._addresses = [address for address, _ in self._walk(states)]
        self._shared = _shared(self._addresses)

    def follow(self, states: Mapping[str, Any]) -> list[Any]:
        """Return the live value of each leaf; ChangedError if the trees are not what they were."""
        seen = self._walk(states)
        addresses = [address for address, _ in seen]
        if addresses != self._addresses:
            if _shared(addresses) != self._shared:
                raise ChangedError
            self._addresses = addresses
        return [seen[number][1] for number in self._firsts]

    def text(self, names: Iterable[str]) -> str:
        """Return the JSON of these nodes by name; only what has changed since the last call is written anew."""
        return "{" + ",".join(f"{json.dumps(name)}:{self._object(name)}" for name in names) + "}"

    def _walk(self, states: Mapping[str, Any]) -> Seen:
        seen: Seen = []
        for name, root in self._roots.items():
            if isinstance(root, _Branch) and root.is_plain_dict:
                for key in root.followed(states[name], seen):
                    self._texts.pop((name, key), None)
            elif root.follow(states[name], seen):
                self._texts.pop((name, None), None)
        return seen

    def _object(self, name: str) -> str:
        root, node = self._roots[name], self.nodes[name]
        if isinstance(root, _Branch) and root.is_plain_dict:
            # Its entries are written apart, so that one number does not cost the whole text.
            return "{" + ",".join(f"{json.dumps(key)}:{self._text(name, key, node[key])}" for key in node) + "}"
        return self._text(name, None, node)

    def _text(self, name: str, key: str | None, node: Node) -> str:
        if (name, key) not in self._texts:
            self._texts[name, key] = as_json(node)
        return self._texts[name, key]


def as_json(node: Node) -> str:
    """Return a node as it stands in a file."""
    return json.dumps(node, separators=(",", ":"), allow_nan=False)


def _shared(addresses: Sequence[Hashable]) -> list[int]:
    """Return for each place the first one with the same memory: itself, mostly."""
    first: dict[Hashable, int] = {}
    return [
        number if address is None else first.setdefault(address, number) for number, address in enumerate(addresses)
    ]


class _Maker:
    """Makes the places of a tree from its values and nodes; ``leaves`` names the leaf of each place with a tensor."""

    def __init__(self, capture: Capture) -> None:
        self.leaves: list[str] = []
        self._of_leaves = capture.leaves
        self._singly = Capture(capture.frameworks)  # not the one that holds the tensors: places live long

    def place(self, value: Any, node: Node, holder: Any, key: Any, path: str) -> _Tensor | _Single | _Branch:
        """Return the place of ``value``, whose node is ``holder[key]``."""
        if isinstance(node, dict) and TAG in node and "leaf" in node:
            self.leaves.append(node["leaf"])
            return _Tensor(value, self._of_leaves[node["leaf"]].framework)
        kind = type(value)
        if kind is list:
            return _Branch(value, [self.place(each, node[i], node, i, f"{path}.{i}") for i, each in enumerate(value)])
        if kind in {tuple, deque} or is_namedtuple(value):
            items = node["items"]
            return _Branch(value, [self.place(each, items[i], items, i, f"{path}.{i}") for i, each in enumerate(value)])
        if kind is dict and TAG not in node:
            places = [self.place(each, node[k], node, k, f"{path}.{k}") for k, each in value.items()]
            return _Branch(value, places, is_plain_dict=True)
        if kind in {dict, OrderedDict, Counter, defaultdict}:
            pairs = zip(value.items(), node["items"], strict=True)
            return _Branch(value, [self.place(each, pair[1], pair, 1, f"{path}.{k}") for (k, each), pair in pairs])
        return _Single(value, holder, key, path, self._singly)


class _Tensor:
    """A place where a tensor was."""

    __slots__ = ("_address_of", "_token", "_token_of")

    def __init__(self, value: Any, framework: Framework) -> None:
        self._token_of, self._address_of = framework.token, framework.address
        self._token = framework.token(value)

    def follow(self, value: Any, seen: Seen) -> bool:
        if self._token_of(value) != self._token:
            raise ChangedError
        seen.append((self._address_of(value), value))
        return False


class _Single:
    """A place where a number, a word or something else without tensors was."""

    __slots__ = ("_capture", "_holder", "_key", "_old", "_path")

    def __init__(self, value: Any, holder: Any, key: Any, path: str, capture: Capture) -> None:
        self._old, self._holder, self._key, self._path, self._capture = value, holder, key, path, capture

    def follow(self, value: Any, _seen: Seen) -> bool:
        if value is self._old and type(value) in _FIXED:
            return False
        node, before = self._capture.single(value, self._path), self._holder[self._key]
        if node is None and value is not None:
            raise ChangedError
        self._old = value
        if type(node) is type(before) and str(node) == str(before):  # str tells 0.0 from -0.0, True from 1
            return False
        self._holder[self._key] = node
        return True


class _Branch:
    """A place where a container was."""

    __slots__ = ("_beside", "_children", "_exact_keys", "_keys", "_kind", "is_plain_dict")

    def __init__(self, value: Any, children: list[Any], *, is_plain_dict: bool = False) -> None:
        self.is_plain_dict = is_plain_dict
        self._kind, self._children = type(value), children
        self._keys = list(value) if isinstance(value, dict) else None
        self._exact_keys = [] if self._keys is None or set(map(type, value)) <= {str} else _exact_keys(value)
        self._beside = _beside(value)

    def follow(self, value: Any, seen: Seen) -> bool:
        changed = False
        for child, item in zip(self._children, self._items(value)):  # noqa: B905  # as many: _items has looked
            changed |= child.follow(item, seen)
        return changed

    def followed(self, value: Any, seen: Seen) -> list[Any]:
        """Follow a dict; return the keys under which something has changed."""
        items = self._items(value)
        return [key for key, child, item in zip(value, self._children, items, strict=True) if child.follow(item, seen)]

    def _items(self, value: Any) -> Any:
        if type(value) is not self._kind or len(value) != len(self._children) or _beside(value) != self._beside:
            raise ChangedError
        if self._keys is None:
            return value
        if list(value) != self._keys or (self._exact_keys and _exact_keys(value) != self._exact_keys):
            raise ChangedError
        return value.values()


def _beside(value: Any) -> Any:
    """Return what a container keeps beside its items."""
    kind = type(value)
    if kind in {dict, list, tuple}:
        return None
    if kind is OrderedDict:
        return repr(getattr(value, "_metadata", None))
    return value.maxlen if kind is deque else getattr(value, "default_factory", None)


def _exact_keys(value: dict[Any, Any]) -> list[Any]:
    """Return the keys, as something that is equal only for keys of the same types: 1 and True, 0.0 and -0.0 differ."""
    return [key if type(key) is str else (type(key), repr(key)) for key in value]


_FIXED = {type(None), bool, int, float, str, bytes}
