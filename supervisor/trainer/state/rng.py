"""The states of the random generators, in a JSON file of their own.

An unseeded generator differs from run to run. In a file of its own, it leaves equal states in equal files. Generators that
were never drawn from since the run's first loop began are listed, so that a comparison of two runs can ignore them.
"""

from __future__ import annotations

import binascii
import hashlib
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from supervisor.core.errors import UserError
from supervisor.core.frozen import dataclass
from supervisor.core.wire import fields, shapes
from supervisor.trainer import adapters
from supervisor.trainer.state.tree import TreeCapture, rebuild, value_of_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from supervisor.trainer.adapters.port import FrameworkAdapter

StoredRng = dict[str, Any]
EMPTY: StoredRng = {"generators": {}, "bytes": {}, "undrawn": []}


# what a state that no program wrote makes the code raise that reads it
DECODE_ERRORS = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, NotImplementedError)


@dataclass(frozen=True, slots=True)
class _RngFile:
    """The content of ``rng.json``.

    Nodes by framework, the bytes of their leaves, and the generators never drawn from.
    """

    generators: Mapping[str, Any]
    bytes: Mapping[str, str]
    undrawn: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RngStates:
    """Copies of the states of all generators at one moment, by framework.

    ``at_start``: the stored states at the begin of the run's first loop, of generators that were never drawn from.
    """

    states: Mapping[str, Any]
    at_start: StoredRng

    def to_stored(self) -> StoredRng:
        """Return the stored form of these states."""
        stored = as_json(self.states)
        return {
            **stored,
            "undrawn": [
                name
                for name in undrawn(self.at_start)
                if stored_states(name, stored) == stored_states(name, self.at_start)
            ],
        }


def as_json(states: Mapping[str, Any]) -> StoredRng:
    """Return states of generators in the form of the file."""
    capture = TreeCapture([adapters.named(name) for name in states])
    generators = {name: capture.node(state, name) for name, state in states.items()}
    contents = {}
    for name, leaf in capture.leaves.items():
        content = bytearray(leaf.bytes)
        leaf.framework.read(capture.values[name], 0, memoryview(content))
        contents[name] = binascii.b2a_base64(content, newline=False).decode()
    return {"generators": generators, "bytes": contents}


def current_states(loaded: list[FrameworkAdapter]) -> dict[str, Any]:
    """Return copies of the states of all generators of these frameworks, by framework."""
    return {framework.name: framework.rng_state() for framework in loaded}


def undrawn(stored: Mapping[str, Any]) -> list[str]:
    """Return the generators that were never drawn from since the run's first loop began."""
    return list(stored.get("undrawn", []))  # earlier versions did not store it


def stored_states(name: str, stored: Mapping[str, Any]) -> tuple[Any, dict[str, str]]:
    """Return the stored states of one framework's generators. Equal states give equal values."""
    contents = {leaf: content for leaf, content in stored["bytes"].items() if leaf.partition(".")[0] == name}
    return stored["generators"].get(name), contents


def parse(body: bytes) -> StoredRng:
    """Return the content of ``rng.json``. Raises ValueError."""
    document = dict(fields.document(body, fields.LISTING_BYTES_MAX))
    shapes.convert(_RngFile, document)
    return document


def decode_states(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the states by framework, as ``set_states`` takes them."""

    def value_of(node: dict[str, Any]) -> Any:
        return value_of_bytes(node, binascii.a2b_base64(stored["bytes"][node["leaf"]]))

    with _damage():
        return {name: rebuild(node, value_of) for name, node in stored["generators"].items()}


def set_states(found: Mapping[str, Any]) -> list[str]:
    """Set the generators; return messages about those without a place on this machine."""
    with _damage():
        warnings = [adapters.named(name).set_rng_state(state) for name, state in found.items() if state is not None]
    return [word for word in warnings if word]


@contextmanager
def _damage() -> Iterator[None]:
    try:
        yield
    except DECODE_ERRORS as error:
        raise UserError(
            f"the states of random generators in the checkpoint cannot be ({type(error).__name__}: {error!s:.200})",
            "use an older checkpoint; this one is left as it is",
        ) from error


def digests(loaded: Iterable[FrameworkAdapter]) -> dict[str, str]:
    """Return a digest of the current state of each framework's global generator; of torch's, the one on the CPU."""
    found = {}
    for framework in loaded:
        state = framework.rng_state()
        if framework.name == "torch":
            state = {"cpu": state["cpu"]}
        if framework.name in {"plain", "numpy", "torch"}:
            stored = as_json({framework.name: state})
            found[framework.name] = hashlib.sha256(json.dumps(stored, sort_keys=True).encode()).hexdigest()[:16]
    return found


def draw_difference(before: str, digests: Mapping[str, str]) -> str:
    """Return a warning if the script has drawn other random numbers before attach() than at the run's beginning; "" if not.

    ``before``: the text that ``digests_text`` made there.
    """
    known = dict(each.partition(":")[::2] for each in before.split())
    names = [name for name in digests if known.get(name, digests[name]) != digests[name]]
    if not names:
        return ""
    shown = ", ".join("python" if name == "plain" else name for name in names)
    warnings = f"random numbers were drawn before attach() otherwise than when the run began ({shown})"
    return f"{warnings}: a split or an order made there may be another; seed right before making it"


def digests_text(digests: Mapping[str, str]) -> str:
    """Return the digests as a text."""
    return " ".join(f"{name}:{digest}" for name, digest in digests.items())
