"""``python -m supervisor.trainer.compare A B``: are two checkpoints the same state, and if not, where do they differ.

Prints one JSON object: ``{"step": [a, b], "attached": [names], "generators": [names], "differ": [paths], "ahead": [paths]}``. Nothing but
the bytes decides: no framework is needed, and no value is taken for equal because it is close. ``ahead``: what cannot be decided
so, because threads had read ahead in the data, here more and there less; what the steps took from it shows in all else.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from supervisor.core.errors import UserError
from supervisor.trainer import rng, typed_json
from supervisor.trainer.folder import Opened, open_folder
from supervisor.trainer.frameworks.plain import READ_AHEAD
from supervisor.trainer.own_packages import make_xxhash_importable
from supervisor.trainer.typed_json import TAG, Node

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Leaves = Mapping[str, bytes]
Told = tuple[Any, bytes]  # what describes a value, and its bytes: equal only for equal values


def main(arguments: Sequence[str]) -> int:
    """Compare the folders A and B."""
    make_xxhash_importable(os.environ.get("SUPERVISOR_RUN_PACKAGES", ""))
    try:
        one, other = (open_folder(path) for path in arguments)
    except UserError as error:
        sys.stderr.write(f"error: {error.what}\n  try: {error.hint}\n")
        return error.exit_code
    found = {
        "step": [one.step, other.step],
        "attached": sorted(one.state["objects"]),
        "generators": sorted(_spoken(name) for name in _telling(one.rng, other.rng)),
        "differ": [*differing(one, other), *differing_generators(one.rng, other.rng)],
        "ahead": _read_ahead(other),
    }
    print(json.dumps(found, ensure_ascii=False))
    return 0


def differing(one: Opened, other: Opened) -> list[str]:
    """Return the paths of the attached state at which the two are not the same, bit for bit."""
    left, right = _trees(one), _trees(other)
    ours, theirs = one.leaves(), other.leaves()
    paths = sorted(left.keys() ^ right.keys())
    for name in sorted(left.keys() & right.keys()):
        paths += _walk((ours, left[name]), (theirs, right[name]), name)
    return paths


def values(opened: Opened) -> dict[str, Told]:
    """Return all of the attached state that can be compared, by its path: single values, and of containers kind and keys."""
    leaves = opened.leaves()
    return {path: _container(node) or _single(leaves, node) for path, node in _nodes(opened) if not _is_ahead(node)}


def differing_generators(one: Any, other: Any) -> list[str]:
    """Return the names of the random generators that are not in the same state, and matter: one of the two was drawn from."""
    names = sorted({*one["generators"], *other["generators"]})
    return [
        f"rng.{_spoken(name)}"
        for name in names
        if rng.of(name, one) != rng.of(name, other) and not _idle(name, one, other)
    ]


def _telling(one: Any, other: Any) -> list[str]:
    """Return the generators that the comparison says something about: not those that nobody seeded, and nobody used."""
    there = [name for name, state in one["generators"].items() if state is not None]
    return [name for name in there if rng.of(name, one) == rng.of(name, other) or not _idle(name, one, other)]


def _read_ahead(opened: Opened) -> list[str]:
    return [path for path, node in _nodes(opened) if _is_ahead(node)]


def _nodes(opened: Opened) -> Iterator[tuple[str, Node]]:
    """Yield path and node of each value, a container before what it holds."""
    waiting = list(reversed(_trees(opened).items()))
    while waiting:
        path, node = waiting.pop()
        yield path, node
        waiting += [(f"{path}.{key}", child) for key, child in reversed(typed_json.children(node) or [])]


def _trees(opened: Opened) -> dict[str, Node]:
    """Return the nodes by attached name, then what the objects have beside their state."""
    objects: dict[str, Node] = opened.state["objects"]
    beside = opened.state.get("beside", {})  # versions before did not keep it
    return objects | {f"{name}/beside": node for name, node in beside.items()}


def _idle(name: str, one: Any, other: Any) -> bool:
    return name in rng.undrawn(one) and name in rng.undrawn(other)


def _spoken(name: str) -> str:
    return "python" if name == "plain" else name


def _walk(one: tuple[Leaves, Node], other: tuple[Leaves, Node], path: str) -> list[str]:
    ours, theirs = typed_json.children(one[1]), typed_json.children(other[1])
    if ours is None or theirs is None or _kind(one[1]) != _kind(other[1]):
        same = _single(*one) == _single(*other) or (_is_ahead(one[1]) and _is_ahead(other[1]))
        return [] if same else [path]
    left, right = dict(ours), dict(theirs)
    paths = [path] if typed_json.own(one[1]) != typed_json.own(other[1]) else []
    paths += [f"{path}.{key}" for key in left if key not in right] + [
        f"{path}.{key}" for key in right if key not in left
    ]
    for key, node in left.items():
        if key in right:
            paths += _walk((one[0], node), (other[0], right[key]), f"{path}.{key}")
    return paths


def _kind(node: Node) -> Any:
    return node.get(TAG) if isinstance(node, dict) else type(node)


def _is_ahead(node: Node) -> bool:
    return isinstance(node, dict) and node.get(TAG) == READ_AHEAD


def _container(node: Node) -> Told | None:
    """Return what a container is beside what it holds: its kind, what its kind keeps, and the keys in their order."""
    below = typed_json.children(node)
    if below is None:
        return None
    tagged = isinstance(node, dict) and TAG in node
    own = {key: value for key, value in node.items() if key != "items"} if tagged else type(node)
    return (own, [key for key, _ in below]), b""


def _single(leaves: Leaves, node: Node) -> Told:
    """Return a single value as something that is equal only to itself; a tensor with its bytes."""
    if not isinstance(node, dict):
        return (type(node), node, str(node)), b""  # str tells 0.0 from -0.0
    described = {key: value for key, value in node.items() if key not in {"leaf", "device"}}
    return described, leaves[node["leaf"]] if "leaf" in node else b""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
