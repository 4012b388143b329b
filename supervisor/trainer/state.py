"""The attached objects and the random generators: captured into nodes and leaves, and put back from a checkpoint."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from supervisor.core.values import dataclass
from supervisor.trainer import frameworks, rng
from supervisor.trainer.folder import Wanted
from supervisor.trainer.place import Place
from supervisor.trainer.refused import RefusedError, first_lines
from supervisor.trainer.trace import ChangedError, Trace, as_json
from supervisor.trainer.tree import Capture, differences, same_but_devices, shared_containers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from supervisor.trainer.folder import Opened
    from supervisor.trainer.frameworks.framework import Framework, Skeleton, StateAccess
    from supervisor.trainer.leaf import Leaf
    from supervisor.trainer.own_classes import Kinds
    from supervisor.trainer.typed_json import Node

SHOWN_PATHS_MAX = 3
SHARING_LOOKED_FOR = 2  # walks: at attach(), and once the state has all it will have
BESIDE = "/beside"  # behind a name: what the object has beside its state


@dataclass(frozen=True, slots=True)
class Captured:
    """One moment of the state: ``values`` are the live tensors, in the order of ``leaves``.

    ``text()`` is the JSON of ``objects``, ``beside()`` that of what these have beside their state; all are good until the
    next capture. Moments of equal ``structure`` differ in
    nothing but what the tensors hold, and in single numbers. ``late``: the numbers of the leaves that nothing but an
    optimizer's step changes.
    """

    objects: dict[str, Node]
    text: Callable[[], str]
    beside: Callable[[], str]
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
        self.notices: list[tuple[str, str]] = []  # level and words, for whoever asked for the last capture to say
        self._besides: dict[str, Framework] = {}
        self._access = {name: self._access_of(name, value) for name, value in attached.items()}
        self._skeletons = self._built()
        self._kept_beside: dict[str, Any] = {}  # of the checkpoint that was restored
        self._outgrown: set[str] = set()
        self._flags_before: dict[str, Any] = {}  # as the checkpoint had them, until the first capture after it
        self._watches_data = False
        for framework in self.frameworks:
            framework.watch_unattached()
        self._shared_said: set[str] = set()
        self._kept_rng: rng.Kept | None = None  # of the checkpoint that was restored
        self._rng_at_first = rng.NOTHING
        self._trace: Trace | None = None
        self._leaves: dict[str, Leaf] = {}
        self._late: frozenset[int] = frozenset()
        self._structure = 0

    def captured(self) -> Captured:
        """Walk the state; RefusedError names the first place that cannot be kept exactly."""
        known, self.frameworks = len(self.frameworks), frameworks.loaded()
        self._compare_flags()
        self._notice_data()
        states = self._states(self._access) | self._beside()
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
        self._notice(states)
        try:
            self._trace = Trace(states, nodes, capture)
        except ChangedError:
            return self._captured(
                nodes, lambda names: as_json({name: nodes[name] for name in names}), generators, values
            )
        return self._captured(nodes, self._trace.text, generators, values)

    def _beside(self) -> dict[str, Any]:
        owners = self.attached.values()
        return {f"{name}{BESIDE}": each.beside(self.attached[name], owners) for name, each in self._besides.items()}

    @property
    def places(self) -> list[Place]:
        """The places in loaders that are attached."""
        owners = (getattr(get, "__self__", None) for get, _ in self._access.values())
        return [owner for owner in owners if isinstance(owner, Place)]

    def watch_data(self) -> None:
        """The script has a loop of its own: notice data that it iterates and has not attached."""
        self._watches_data = True

    def _notice_data(self) -> None:
        words = [each.unattached(self.attached.values()) for each in self.frameworks] if self._watches_data else []
        if any(words):
            self._watches_data = False
            self.notices += [("warning", each) for each in words if each]

    def _compare_flags(self) -> None:
        """Notice once, after the first step since a resume, what trains and was frozen, or the other way round."""
        before, self._flags_before = self._flags_before, {}
        for name, tree in before.items():
            names = self._besides[name].differing_flags(self.attached[name], tree) if name in self._besides else []
            if names:
                words = (
                    f"{name}: requires_grad of {_few(names)} is not as in the checkpoint: the script has set it since"
                )
                self.notices.append(("warning", f"{words}; if that was not meant, set it before run.steps() only"))

    def _built(self) -> dict[str, Skeleton]:
        return {
            name: skeleton
            for name, value in self.attached.items()
            for framework in self.frameworks
            if (skeleton := framework.skeleton(value)) is not None
        }

    def _notice(self, states: Mapping[str, Any]) -> None:
        """The structure has changed: notice what a fresh process will not have, and what will not come back as one."""
        for name, skeleton in self._skeletons.items():
            if name not in self._outgrown and (words := skeleton.outgrown(self.attached[name])):
                self._outgrown.add(name)
                self.notices.append(("warning", f"{name}: {words}; {_UNLOADABLE}"))
        if self._structure <= SHARING_LOOKED_FOR:
            self.notices += [
                ("warning", words) for words in shared_containers(states) if words not in self._shared_said
            ]
            self._shared_said.update(words for _, words in self.notices)

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
        kinds, own, live = self._aliased(nodes)
        if any(kind == "no" and self._kind_of(name) != "no" for name, (kind, _) in kinds.items()):
            for name, node in nodes.items():
                for framework in self.frameworks:
                    framework.fit(self.attached[name], node)
            kinds, own, live = self._aliased(nodes)
        wanted = {
            name: Wanted(node, kinds[name][1], kinds[name][0] != "whole", self._places_itself(name), own)
            for name, node in nodes.items()
        }
        beside = {f"{name}{BESIDE}": node for name, node in opened.state.get("beside", {}).items()}
        wanted |= {name: Wanted(node, {}, on_host=False) for name, node in beside.items()}
        trees = opened.load(wanted)
        self._kept_beside = {name.removesuffix(BESIDE): trees.pop(name) for name in beside}
        loaded = [name for name in nodes if wanted[name].rebuilt]
        for name in loaded:
            self._load(name, trees.pop(name), opened.step)
        self._kept_rng = opened.rng
        found, _ = self._walk(self._states(name for name in loaded if kinds[name][0] == "no"))
        cautions = [(name, each.caution(self.attached[name])) for name in nodes for each in self.frameworks]
        self.notices += [("warning", f"{name}: {words}") for name, words in cautions if words]
        return [words for name in found for words in self._not_back(name, nodes[name], found[name], live[name])]

    def _not_back(self, name: str, kept: Node, found: Node, fresh: Node) -> list[str]:
        """Return words on what the object does not show as the checkpoint has it."""
        paths = differences(kept, found, name)
        if not paths:
            return []
        if hasattr(self.attached[name], "__iter__") and not differences(fresh, found, name):
            self.notices.append(
                ("info", f"{name} goes to its place when it is iterated next; before that it cannot be compared")
            )
            return []
        only_strides = set(paths) - set(differences(kept, found, name, strides=False))
        others = [path for path in paths if path not in only_strides]
        return [
            *([_not_restored(others)] if others else []),
            *([_other_strides(sorted(only_strides))] if only_strides else []),
        ]

    def put_back_rng(self) -> list[str]:
        """Set random generators, flags and open gradients to the checkpoint's; return words about what has no place here.

        From now on it is known which of them were never drawn from in a loop of the run.
        """
        kept, self._kept_rng = self._kept_rng, None
        for name, tree in self._kept_beside.items():
            if name in self._besides:
                self._besides[name].put_back_beside(self.attached[name], tree)
        self._flags_before, self._kept_beside = self._kept_beside, {}
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
        self, nodes: dict[str, Node], text: Callable[[Iterable[str]], str], generators: rng.Taken, values: list[Any]
    ) -> Captured:
        objects = {name: nodes[name] for name in self.attached}
        besides = [f"{name}{BESIDE}" for name in self._besides]

        def beside() -> str:
            return text(besides).replace(f'{BESIDE}":', '":') if besides else "{}"

        return Captured(
            objects, lambda: text(objects), beside, generators, self._leaves, values, self._structure, self._late
        )

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

    def _aliased(
        self, nodes: Mapping[str, Node]
    ) -> tuple[dict[str, tuple[str, Mapping[str, Any]]], Kinds, dict[str, Node]]:
        """Say how each object is filled by reading into its own tensors, and give these; the script's own classes; the nodes.

        They must be exactly those of the checkpoint.
        """
        live, capture = self._walk(self._states(self._access))
        kinds: dict[str, tuple[str, Mapping[str, Any]]] = {}
        for name, node in nodes.items():
            kind = self._kind_of(name)
            fits = kind != "no" and (node == live[name] or same_but_devices(node, live[name]))
            kinds[name] = (kind, capture.values) if fits else ("no", {})
        return kinds, capture.kinds, live

    def _kind_of(self, name: str) -> str:
        owner = self.attached[name]
        return next((kind for each in self.frameworks if (kind := each.aliased(owner)) != "no"), "no")

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
            keeper = next((each for each in self.frameworks if each.beside(value, ()) is not None), None)
            if keeper is not None:
                self._besides[name] = keeper
            return value.state_dict, value.load_state_dict
        for framework in self.frameworks:
            if (advice := framework.advice(value)) is not None:
                raise RefusedError(name, *advice)
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


_UNLOADABLE = (
    "a fresh process that builds it as at the start cannot load the checkpoints from now on: have the script build it "
    "as it is now where supervisor.resume_step() is past this step"
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
    return f"load_state_dict() did not restore {_few(paths)}: training may not go on exactly as before"


def _other_strides(paths: list[str]) -> str:
    return f"{_few(paths)}: the values are back, but not the strides in memory, so sums may differ in their last bits"


def _few(paths: list[str]) -> str:
    more = f" and {len(paths) - SHOWN_PATHS_MAX} more" if len(paths) > SHOWN_PATHS_MAX else ""
    return f"{', '.join(paths[:SHOWN_PATHS_MAX])}{more}"
