"""No module imports itself by way of others; imports under TYPE_CHECKING and inside functions count.

Two modules in a circle can only be read, tested and moved together.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tests.architecture.source_tree import PACKAGE, imports

if TYPE_CHECKING:
    from pathlib import Path

# The circles that are left, by the modules in them, and why. This list only gets shorter.
CIRCLES = {
    "the package and its command line": (
        {"supervisor", "supervisor.cli", "supervisor.cli.notebook.magics"},
        "`%load_ext supervisor` looks for its function in the package; the command line reads the version there",
    ),
    "options and the words for mistyped ones": (
        {"supervisor.cli.options", "supervisor.cli.script_target", "supervisor.cli.suggestions"},
        "a parser suggests options, and a suggestion is parsed again to see whether it fits",
    ),
    "which run is meant": (
        {"supervisor.cli.default_run", "supervisor.cli.run_lookup", "supervisor.cli.verbs.checkpoints"},
        "the error for a wrong run name knows the words of `checkpoints`, which looks runs up",
    ),
    "trainer context and its listeners": (
        {
            "supervisor.trainer.context",
            "supervisor.trainer.hooks.error_guard",
            "supervisor.trainer.hooks.save_tracker",
            "supervisor.trainer.hooks.unmodified_script",
            "supervisor.trainer.process.script_end",
            "supervisor.trainer.run",
            "supervisor.trainer.steps.progress",
            "supervisor.trainer.steps.step_boundary",
        },
        "the context holds the run or the unmodified script, and each of them sends through the context",
    ),
    "Keras on TensorFlow": (
        {
            "supervisor.trainer.adapters.keras.attributes",
            "supervisor.trainer.adapters.keras.callbacks",
            "supervisor.trainer.adapters.keras.state",
            "supervisor.trainer.adapters.tensorflow.graph",
            "supervisor.trainer.adapters.tensorflow.objects",
        },
        "Keras objects hold TensorFlow objects, and TensorFlow objects hold Keras objects",
    ),
    "hooks and the callbacks of frameworks": (
        {
            "supervisor.trainer.hooks.auto_attach",
            "supervisor.trainer.hooks.keras",
            "supervisor.trainer.hooks.lightning",
            "supervisor.trainer.loops.keras.callback",
            "supervisor.trainer.loops.keras.data_position",
            "supervisor.trainer.loops.lightning.callback",
            "supervisor.trainer.loops.lightning.loop_hooks",
        },
        "a hook makes the public callback for a script, and the callback reads what the hook knows of the loop",
    ),
}


def circles(package: Path) -> list[set[str]]:
    """Return the sets of modules that import each other in a circle (strongly connected components by Kosaraju)."""
    used = imports(package)
    users: dict[str, set[str]] = {name: set() for name in used}
    for name, others in used.items():
        for other in others:
            users[other].add(name)
    order: list[str] = []
    seen: set[str] = set()
    for name in used:
        _walk(name, used, seen, order)
    found, seen = [], set()
    for name in reversed(order):
        members: list[str] = []
        _walk(name, users, seen, members)
        if len(members) > 1:
            found.append(set(members))
    return found


def _walk(start: str, edges: dict[str, set[str]], seen: set[str], after: list[str]) -> None:
    """Append each module that is reached and was not seen before, after all that it leads to."""
    if start in seen:
        return
    seen.add(start)
    stack = [(start, iter(sorted(edges[start])))]
    while stack:
        _, others = stack[-1]
        other = next((each for each in others if each not in seen), None)
        if other is None:
            after.append(stack.pop()[0])
        else:
            seen.add(other)
            stack.append((other, iter(sorted(edges[other]))))


def test_there_is_no_new_circle_and_none_has_grown() -> None:
    listed = [modules for modules, _ in CIRCLES.values()]
    assert [sorted(found) for found in circles(PACKAGE) if not any(found <= modules for modules in listed)] == []


@pytest.mark.parametrize("name", CIRCLES)
def test_a_circle_that_is_gone_or_smaller_leaves_the_list(name: str) -> None:
    modules, reason = CIRCLES[name]
    assert modules in circles(PACKAGE), "write down what is left of it, or remove the row"
    assert len(reason.split()) > 3


def test_a_circle_is_found_wherever_its_imports_stand(tmp_path: Path) -> None:
    root = tmp_path / "ring"
    root.mkdir()
    (root / "__init__.py").touch()
    for name, other in pairwise(("one", "two", "three", "one")):
        (root / f"{name}.py").write_text(f"def late():\n    from ring import {other}\n")
    (root / "three.py").write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ring.one import X\n")
    (root / "user.py").write_text("from ring import one, two")
    assert circles(root) == [{"ring.one", "ring.two", "ring.three"}]
