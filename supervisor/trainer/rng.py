"""The states of the random generators, in a JSON of their own, beside the files of the attached state.

A generator that nobody seeded differs from run to run; kept apart, it leaves equal states in equal files.
"""

from __future__ import annotations

import binascii
from typing import TYPE_CHECKING, Any

from supervisor.trainer import frameworks
from supervisor.trainer.tree import Capture, rebuild

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor.trainer.frameworks.framework import Framework

Kept = dict[str, Any]


def captured(loaded: list[Framework]) -> Kept:
    """Return the states of all generators of these frameworks, as JSON."""
    capture = Capture(loaded)
    generators = {framework.name: capture.node(framework.rng_state(), framework.name) for framework in loaded}
    contents = {}
    for name, leaf in capture.leaves.items():
        content = bytearray(leaf.bytes)
        leaf.copy_items(memoryview(content), 0)
        contents[name] = binascii.b2a_base64(content, newline=False).decode()
    return {"generators": generators, "bytes": contents}


def states(kept: Mapping[str, Any]) -> dict[str, Any]:
    """Return the states by framework, as ``put_back`` takes them."""
    contents = {name: bytearray(binascii.a2b_base64(text)) for name, text in kept["bytes"].items()}
    return {
        name: rebuild(node, lambda leaf: [memoryview(contents[leaf])], on_host=True)
        for name, node in kept["generators"].items()
    }


def put_back(found: Mapping[str, Any]) -> list[str]:
    """Set the generators; return words about those that have no place on this machine."""
    words = [frameworks.named(name).set_rng_state(state) for name, state in found.items() if state is not None]
    return [word for word in words if word]
