"""The attached objects and the random generators: captured into nodes and leaves, and put back from a checkpoint."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from supervisor.core.values import dataclass
from supervisor.trainer import frameworks, rng
from supervisor.trainer.folder import Wanted
from supervisor.trainer.refused import RefusedError, first_lines
from supervisor.trainer.trace import ChangedError, Trace, as_json
from supervisor.trainer.tree import Capture, differences, same_but_devices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from supervisor.trainer.folder import Opened
    from supervisor.trainer.frameworks.framework import Framework, StateAccess
    from supervisor.trainer.leaf import Leaf
    from supervisor.trainer.own_classes import Kinds
    from supervisor.trainer.typed_json import Node

SHOWN_PATHS_MAX = 3


@dataclass(frozen=True, slots=True)
class Captured:
    """One moment of the state: ``values`` are the live tensors, in the order of ``leaves``.

    ``text()`` is the JSON of ``objects``; both are good until the next capture. Moments of equal ``structure`` differ in
    nothing but what the tensors hold, and in single numbers. ``late``: the numbers of the leaves that nothing but an
    optimizer's step changes.
    """

    objects: dict[str, Node]
    text: Callable[[], str]
    generators: rng.Taken
    leaves: dict[str, Leaf]
    values: list[Any]
    structure: int
    late: frozenset[int]


class State:
    """RefusedError at once for an object whose state cannot be read and put back."""

    def __init__(self, attached: Mapping[str, Any]) -> None:
        self.frameworks: list[Framework] = frameworks.loaded()
        self.attached = dict(attached)
        self._access = {name: self._access_of(name, value) for name, value in attached.items()}
        self._kept_rng: rng.Kept | None = None  # of the checkpoint that was restored
        self._rng_at_first = rng.NOTHING
        self._trace: Trace | None = None
        self._leaves: dict[str, Leaf] = {}
        self._late: frozenset[int] = frozenset()
        self._structure = 0

    def captured(self) -> Captured:
        """Walk the state; RefusedError names the first place that cannot be kept exactly."""
        known, self.frameworks = len(self.frameworks), frameworks.loaded()
        states = self._states(self._access)
        generators = rng.Taken(rng.taken(self.frameworks), self._rng_at_first)
        trace, self._trace = self._trace, None  # whatever is raised, nothing half followed is gone on with
        if trace is not None and len(self.frameworks) == known:
            try:
                values = trace.follow(states)
            except ChangedError:
                pass  # walk it anew
            else:
                self._trace = trace
                return self._captured(trace.nodes, trace.text, generators, values)
        self._structure += 1
        nodes, capture = self._walk(states)
        self._leaves, values = capture.leaves, list(capture.values.values())
        self._late = self._changed_by_updates(values)
        try:
            self._trace = Trace(states, nodes, capture)
        except ChangedError:
            return self._captured(nodes, lambda: as_json(nodes), generators, values)
        return self._captured(nodes, self._trace.text, generators, values)

    def materialise(self) -> None:
        """Give attached objects that were built without memory (torch's meta device) some, for a checkpoint to fill."""
        for value in self.attached.values():
            for framework in self.frameworks:
                framework.materialise(value)

    def restore(self, opened: Opened) -> list[str]:
        """Put the state of a checkpoint back into the objects; return words about what did not come back.

        Where an object's state shows its own memory, the files are read straight into it: after a DamagedError it
        holds bytes that mean nothing. The random generators are only read here: ``put_back_rng`` sets them when the
        loop begins.
        """
        with _without_collecting():
            return self._restore(opened)

    def _restore(self, opened: Opened) -> list[str]:
        nodes: dict[str, Node] = opened.state["objects"]
        self._refuse_other_names(set(nodes))
        kinds, own = self._aliased(nodes)
        wanted = {
            name: Wanted(node, kinds[name][1], kinds[name][0] != "whole", self._places_itself(name), own)
            for name, node in nodes.items()
        }
        trees = opened.load(wanted)
        loaded = [name for name in nodes if wanted[name].rebuilt]
        for name in loaded:
            self._load(name, trees.pop(name), opened.step)
        self._kept_rng = opened.rng
        found, _ = self._walk(self._states(name for name in loaded if kinds[name][0] == "no"))
        paths = [path for name in found for path in differences(nodes[name], found[name], name)]
        return [_not_restored(paths)] if paths else []

    def put_back_rng(self) -> list[str]:
        """Set the random generators to the checkpoint's; return words about those that have no place here.

        From now on it is known which of them were never drawn from in a loop of the run.
        """
        kept, self._kept_rng = self._kept_rng, None
        if kept is not None:
            self._rng_at_first = kept
            return rng.put_back(rng.states(kept))
        begins = rng.Taken(rng.taken(self.frameworks), rng.NOTHING).as_kept()
        self._rng_at_first = {**begins, "undrawn": list(begins["generators"])}
        return []

    def is_device_oom(self, error: BaseException) -> bool:
        """Say whether the error means that the accelerator's memory is used up."""
        return any(framework.is_device_oom(error) for framework in self.frameworks)

    def _captured(
        self, nodes: dict[str, Node], text: Callable[[], str], generators: rng.Taken, values: list[Any]
    ) -> Captured:
        return Captured(nodes, text, generators, self._leaves, values, self._structure, self._late)

    def _changed_by_updates(self, values: Sequence[Any]) -> frozenset[int]:
        late = {
            (framework.name, address)
            for framework in self.frameworks
            for owner in self.attached.values()
            for address in framework.changed_by_updates(owner)
        }
        return frozenset(
            number
            for number, (leaf, value) in enumerate(zip(self._leaves.values(), values, strict=True))
            if (leaf.framework.name, leaf.framework.address(value)) in late
        )

    def _states(self, names: Iterable[str]) -> dict[str, Any]:
        return {name: self._access[name][0]() for name in names}

    def _walk(self, states: Mapping[str, Any]) -> tuple[dict[str, Node], Capture]:
        capture = Capture(self.frameworks)
        return {name: capture.node(state, name) for name, state in states.items()}, capture

    def _aliased(self, nodes: Mapping[str, Node]) -> tuple[dict[str, tuple[str, Mapping[str, Any]]], Kinds]:
        """Say how each object is filled by reading into its own tensors, and give these; and the script's own classes.

        They must be exactly those of the checkpoint.
        """
        live, capture = self._walk(self._states(self._access))
        kinds: dict[str, tuple[str, Mapping[str, Any]]] = {}
        for name, node in nodes.items():
            owner = self.attached[name]
            kind = next((kind for each in self.frameworks if (kind := each.aliased(owner)) != "no"), "no")
            fits = kind != "no" and (node == live[name] or same_but_devices(node, live[name]))
            kinds[name] = (kind, capture.values) if fits else ("no", {})
        return kinds, capture.kinds

    def _places_itself(self, name: str) -> bool:
        return any(framework.places_itself(self.attached[name]) for framework in self.frameworks)

    def _load(self, name: str, state: Any, step: int) -> None:
        try:
            self._access[name][1](state)
        except Exception as error:
            raise RefusedError(
                name,
                f"the checkpoint of step {step} does not fit it: {first_lines(error, 2)}",
                "start the script as it was when the checkpoint was made, or start a new run under another --name",
            ) from error

    def _access_of(self, name: str, value: Any) -> StateAccess:
        for (
            framework
        ) in self.frameworks:  # first, because a Keras layer on torch has both, and its state_dict() is torch's
            access = framework.access(value)
            if access is not None:
                return access
        if callable(getattr(value, "state_dict", None)) and callable(getattr(value, "load_state_dict", None)):
            return value.state_dict, value.load_state_dict
        raise RefusedError(
            name,
            f"a {type(value).__name__} has no state_dict() and load_state_dict()",
            "give the class these two methods, or attach the object inside it that holds the state",
        )

    def _refuse_other_names(self, kept: set[str]) -> None:
        attached = set(self.attached)
        for name in sorted(kept - attached):
            raise RefusedError(
                name,
                "is in the checkpoint, but this script does not attach it",
                f"call supervisor.attach({name}=…) as before, or start a new run under another --name",
            )
        for name in sorted(attached - kept):
            raise RefusedError(
                name,
                f"is attached, but the checkpoint holds only {', '.join(sorted(kept)) or 'nothing'}",
                f"leave {name} out until this run has ended, or start a new run under another --name",
            )


@contextmanager
def _without_collecting() -> Iterator[None]:
    """Hold the garbage collector back: with ten thousand tensors it would look through all of them again and again."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _not_restored(paths: list[str]) -> str:
    shown = ", ".join(paths[:SHOWN_PATHS_MAX])
    more = f" and {len(paths) - SHOWN_PATHS_MAX} more" if len(paths) > SHOWN_PATHS_MAX else ""
    return f"load_state_dict() did not restore {shown}{more}: training may not go on exactly as before"
