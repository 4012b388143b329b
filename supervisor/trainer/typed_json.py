"""JSON that keeps Python's types: what goes in comes back equal, with the same types, and no code runs on the way.

Plain JSON where JSON is exact (None, bool, str, lists, finite floats, ints up to 2**53, dicts with str keys); else an
object with the key ``!`` that names the type. Values of other types are handed to the caller; so is the end of decoding a
value whose class the script defines, its items decoded already.
"""

from __future__ import annotations

import binascii
import json
import math
import struct
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any

Node = Any  # what the json module takes: None, bool, int, float, str, list, dict with str keys
TAG = "!"
EXACT_INT_MAX = 2**53
FACTORIES: dict[str, Any] = {
    kind.__name__: kind
    for kind in (list, dict, set, int, float, str, bool, tuple, bytes, frozenset, deque, Counter, OrderedDict)
}
_PAIRS = frozenset({"dict", "OrderedDict", "Counter", "defaultdict"})
_SEQUENCES = frozenset({"tuple", "deque", "namedtuple"})
_SETS = frozenset({"set", "frozenset"})

EncodeOther = Callable[[Any, str], Node]
DecodeOther = Callable[[dict[str, Any]], Any]


def encode(value: Any, path: str, other: EncodeOther) -> Node:
    """Return the node of ``value``; ``other(value, path)`` gives the node of a type not known here, or raises."""
    kind = type(value)
    if kind in _EXACT and _EXACT[kind](value):
        return value
    if kind is list:
        return [encode(item, f"{path}.{index}", other) for index, item in enumerate(value)]
    if kind is dict and all(type(key) is str and key != TAG and not _has_surrogates(key) for key in value):
        return {key: encode(item, f"{path}.{key}", other) for key, item in value.items()}
    if kind in _ENCODERS:
        return _ENCODERS[kind](value, path, other)
    return other(value, path)


def decode(node: Node, other: DecodeOther) -> Any:
    """Return the value of ``node``; ``other(node)`` gives the value of a tag not known here, or raises."""
    if isinstance(node, list):
        return [decode(item, other) for item in node]
    if not isinstance(node, dict):
        return node
    tag = node.get(TAG)
    if tag is None:
        return {key: decode(item, other) for key, item in node.items()}
    if tag in _DECODERS:
        return _DECODERS[tag](node, other)
    return other(node)


def encode_bytes(value: bytes) -> Node:
    """Return the node of bytes few enough to stand in the JSON."""
    return {TAG: "bytes", "base64": binascii.b2a_base64(value, newline=False).decode()}


def children(node: Node) -> list[tuple[Any, Node]] | None:
    """Return the (key, child) pairs of a container's node, or None for the node of a single value."""
    if not isinstance(node, dict):
        return list(enumerate(node)) if isinstance(node, list) else None
    tag = node.get(TAG)
    if tag is None:
        return list(node.items())
    if tag in _SEQUENCES:
        return list(enumerate(node["items"]))
    if tag in _PAIRS:
        return [(repr(key) if isinstance(key, dict) else key, item) for key, item in node["items"]]
    if tag in _SETS:  # equal sets may be iterated in another order
        return sorted((json.dumps(item, sort_keys=True), item) for item in node["items"])
    return None


def own(node: Node) -> dict[str, Any]:
    """Return what a container's node says of it beside what it holds."""
    tagged = isinstance(node, dict) and TAG in node
    return {key: value for key, value in node.items() if key not in {"items", "metadata"}} if tagged else {}


def _has_surrogates(text: str) -> bool:
    # Two lone surrogates in a row would be read back as one character, because JSON writes characters that way.
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def _encode_pairs(value: Any, path: str, other: EncodeOther) -> Node:
    node = {
        TAG: type(value).__name__,
        "items": [
            [encode(key, f"{path}.<key>", other), encode(item, f"{path}.{key}", other)] for key, item in value.items()
        ],
    }
    metadata = getattr(value, "_metadata", None)  # torch keeps the layers' versions there, and reads them on loading
    if metadata is not None:
        node["metadata"] = encode(metadata, f"{path}._metadata", other)
    return node


def _decode_pairs(node: dict[str, Any], other: DecodeOther) -> Any:
    pairs = [(decode(key, other), decode(item, other)) for key, item in node["items"]]
    if node[TAG] == "dict":
        return dict(pairs)
    if node[TAG] == "Counter":
        return Counter(dict(pairs))
    if node[TAG] == "defaultdict":
        return defaultdict(None if node["factory"] is None else FACTORIES[node["factory"]], pairs)
    ordered = OrderedDict(pairs)
    if "metadata" in node:
        ordered._metadata = decode(node["metadata"], other)  # type: ignore[attr-defined]  # noqa: SLF001  # as torch does
    return ordered


def _encode_defaultdict(value: Any, path: str, other: EncodeOther) -> Node:
    factory = value.default_factory
    name = getattr(factory, "__name__", "")
    if factory is not None and FACTORIES.get(name) is not factory:
        return other(value, path)
    return _encode_pairs(value, path, other) | {"factory": None if factory is None else name}


def _encode_items(value: Any, path: str, other: EncodeOther) -> Node:
    items = [encode(item, f"{path}.{index}", other) for index, item in enumerate(value)]
    return {TAG: type(value).__name__, "items": items}


def _encode_set(value: Any, path: str, other: EncodeOther) -> Node:
    return {TAG: type(value).__name__, "items": [encode(item, f"{path}.<item>", other) for item in value]}


def _encode_bounds(value: Any, path: str, other: EncodeOther) -> Node:
    return {TAG: type(value).__name__, "of": encode([value.start, value.stop, value.step], path, other)}


def _decoded_items(node: dict[str, Any], other: DecodeOther) -> list[Any]:
    return [decode(item, other) for item in node["items"]]


def _float_bits(value: float) -> str:
    return struct.pack(">d", value).hex()


def _bits_float(bits: str) -> float:
    number: float = struct.unpack(">d", bytes.fromhex(bits))[0]
    return number


_EXACT: dict[type, Callable[[Any], bool]] = {
    type(None): lambda _value: True,
    bool: lambda _value: True,
    float: math.isfinite,
    int: lambda value: -EXACT_INT_MAX <= value <= EXACT_INT_MAX,
    str: lambda value: not _has_surrogates(value),
}
_ENCODERS: dict[type, Callable[[Any, str, EncodeOther], Node]] = {
    float: lambda value, _path, _other: {TAG: "float", "bits": _float_bits(value)},
    int: lambda value, _path, _other: {TAG: "int", "hex": hex(value)},
    str: lambda value, _path, _other: {TAG: "str", "utf8": value.encode("utf-8", "surrogatepass").hex()},
    complex: lambda value, _path, _other: {TAG: "complex", "bits": [_float_bits(value.real), _float_bits(value.imag)]},
    tuple: _encode_items,
    dict: _encode_pairs,
    OrderedDict: _encode_pairs,
    Counter: _encode_pairs,
    defaultdict: _encode_defaultdict,
    deque: lambda value, path, other: _encode_items(value, path, other) | {"maxlen": value.maxlen},
    set: _encode_set,
    frozenset: _encode_set,
    range: _encode_bounds,
    slice: _encode_bounds,
}
_DECODERS: dict[str, Callable[[dict[str, Any], DecodeOther], Any]] = {
    "float": lambda node, _other: _bits_float(node["bits"]),
    "int": lambda node, _other: int(node["hex"], 16),
    "str": lambda node, _other: bytes.fromhex(node["utf8"]).decode("utf-8", "surrogatepass"),
    "complex": lambda node, _other: complex(*map(_bits_float, node["bits"])),
    "bytes": lambda node, _other: binascii.a2b_base64(node["base64"]),
    "tuple": lambda node, other: tuple(_decoded_items(node, other)),
    "dict": _decode_pairs,
    "OrderedDict": _decode_pairs,
    "Counter": _decode_pairs,
    "defaultdict": _decode_pairs,
    "deque": lambda node, other: deque(_decoded_items(node, other), node["maxlen"]),
    "set": lambda node, other: set(_decoded_items(node, other)),
    "frozenset": lambda node, other: frozenset(_decoded_items(node, other)),
    "range": lambda node, other: range(*decode(node["of"], other)),
    "slice": lambda node, other: slice(*decode(node["of"], other)),
    "namedtuple": lambda node, other: other({**node, "items": _decoded_items(node, other)}),
    "enum": lambda node, other: other({**node, "value": decode(node["value"], other)}),
}
