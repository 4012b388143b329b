"""The states of the random generators, in a JSON of their own, beside the files of the attached state.

A generator that nobody seeded differs from run to run; kept apart, it leaves equal states in equal files. Those that nobody has
drawn from since the run's first loop began are named, because whoever compares two runs need not mind them.
"""

from __future__ import annotations

import binascii
import hashlib
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from supervisor.core import fields, shapes
from supervisor.core.errors import UserError
from supervisor.core.values import dataclass
from supervisor.trainer import frameworks
from supervisor.trainer.tree import Capture, rebuild, value_of_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from supervisor.trainer.frameworks.framework import Framework

Kept = dict[str, Any]
NOTHING: Kept = {"generators": {}, "bytes": {}, "undrawn": []}


# what a state that no program wrote makes the code raise that reads it
IMPOSSIBLE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, NotImplementedError)


@dataclass(frozen=True, slots=True)
class _Kept:
    """What ``rng.json`` says: nodes by framework, the bytes of their leaves, and which nobody has drawn from."""

    generators: Mapping[str, Any]
    bytes: Mapping[str, str]
    undrawn: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Taken:
    """Copies of the states of all generators at one moment, by framework.

    ``at_first`` is what was kept of them when the run's first loop began, of those that were never drawn from.
    """

    states: Mapping[str, Any]
    at_first: Kept

    def as_kept(self) -> Kept:
        """Return what stands in a checkpoint for these states."""
        kept = as_json(self.states)
        return {
            **kept,
            "undrawn": [name for name in undrawn(self.at_first) if of(name, kept) == of(name, self.at_first)],
        }


def as_json(states: Mapping[str, Any]) -> Kept:
    """Return states of generators as they stand in a file."""
    capture = Capture([frameworks.named(name) for name in states])
    generators = {name: capture.node(state, name) for name, state in states.items()}
    contents = {}
    for name, leaf in capture.leaves.items():
        content = bytearray(leaf.bytes)
        leaf.framework.read(capture.values[name], 0, memoryview(content))
        contents[name] = binascii.b2a_base64(content, newline=False).decode()
    return {"generators": generators, "bytes": contents}


def taken(loaded: list[Framework]) -> dict[str, Any]:
    """Return copies of the states of all generators of these frameworks, by framework."""
    return {framework.name: framework.rng_state() for framework in loaded}


def undrawn(kept: Mapping[str, Any]) -> list[str]:
    """Return the names of the generators that nobody has drawn from since the run's first loop began."""
    return list(kept.get("undrawn", []))  # versions before did not say


def of(name: str, kept: Mapping[str, Any]) -> tuple[Any, dict[str, str]]:
    """Return what is kept of one framework's generators: equal states are equal in it."""
    contents = {leaf: content for leaf, content in kept["bytes"].items() if leaf.partition(".")[0] == name}
    return kept["generators"].get(name), contents


def parsed(body: bytes) -> Kept:
    """Return what is kept in ``rng.json``. Raises ValueError."""
    told = dict(fields.document(body, fields.LISTING_BYTES_MAX))
    shapes.of(_Kept, told)
    return told


def states(kept: Mapping[str, Any]) -> dict[str, Any]:
    """Return the states by framework, as ``put_back`` takes them."""

    def value_of(node: dict[str, Any]) -> Any:
        return value_of_bytes(node, binascii.a2b_base64(kept["bytes"][node["leaf"]]))

    with _damage():
        return {name: rebuild(node, value_of) for name, node in kept["generators"].items()}


def put_back(found: Mapping[str, Any]) -> list[str]:
    """Set the generators; return words about those that have no place on this machine."""
    with _damage():
        words = [frameworks.named(name).set_rng_state(state) for name, state in found.items() if state is not None]
    return [word for word in words if word]


@contextmanager
def _damage() -> Iterator[None]:
    try:
        yield
    except IMPOSSIBLE as error:
        raise UserError(
            f"the states of random generators in the checkpoint cannot be ({type(error).__name__}: {error!s:.200})",
            "use an older checkpoint; this one is left as it is",
        ) from error


def digests(loaded: Iterable[Framework]) -> dict[str, str]:
    """Return a digest of the present state of each framework's global generator; of torch's, the one on the CPU."""
    found = {}
    for framework in loaded:
        state = framework.rng_state()
        if framework.name == "torch":
            state = {"cpu": state["cpu"]}
        if framework.name in {"plain", "numpy", "torch"}:
            kept = as_json({framework.name: state})
            found[framework.name] = hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]
    return found


def drawn_otherwise(before: str, digests: Mapping[str, str]) -> str:
    """Return words for a script that has drawn other random numbers before attach() than at the run's beginning; "" if not.

    ``before``: what ``as_word`` made of the digests there.
    """
    known = dict(each.partition(":")[::2] for each in before.split())
    names = [name for name in digests if known.get(name, digests[name]) != digests[name]]
    if not names:
        return ""
    spoken = ", ".join("python" if name == "plain" else name for name in names)
    words = f"random numbers were drawn before attach() otherwise than when the run began ({spoken})"
    return f"{words}: a split or an order made there may be another; seed right before making it"


def as_word(digests: Mapping[str, str]) -> str:
    """Return the digests as a text."""
    return " ".join(f"{name}:{digest}" for name, digest in digests.items())
