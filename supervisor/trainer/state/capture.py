"""Captures the state of the attached objects and random generators, and restores it from a checkpoint.

Theory of operation. A checkpoint must hold one moment of all attached objects, exactly, and the training loop must not pay
for it. So a capture copies nothing: it returns JSON nodes that describe the state, and the live tensors by leaf.

1. Access. At attach(), each object gets a pair (get, set). The first adapter that knows the object decides; else
   ``state_dict()`` and ``load_state_dict()`` are used. An object without either is refused at once, not hours later.
2. First capture. ``TreeCapture`` walks the trees. Each value becomes a JSON node that keeps its Python type, and each tensor a
   leaf with a name, a dtype and a shape. Tensors that share their memory share one leaf.
3. Later captures. ``StateTrace`` follows the walked tree without building anything: one comparison for each tensor. If the tree
   differs in any way, it raises ``ChangedError``, and the whole tree is walked again. ``structure`` counts these walks, so that
   the saver knows when its layout is outdated.
4. Extra state. A torch module has flags and open gradients that its ``state_dict()`` lacks. The adapter's ``extra_state`` has
   them; they stand under the object's name with the suffix ``BESIDE``.
5. Restore. ``in_place_mode`` of the adapter chooses one of three ways. "whole": the files are read straight into the object's own
   tensors. "state": the same, then ``load_state_dict()`` is called, which copies nothing. "no": new tensors are read and
   loaded. The first two are used only if the live nodes equal those of the checkpoint.
6. Verification. An object that was loaded by its own method is walked again. Each path that differs from the checkpoint is
   reported, because such a training would not continue exactly.
7. Random generators are read at the restore, and set when the loop begins (``restore_rng``). The script may draw from them in
   between, for example for a split. The states at the loop's begin also show which generators were never drawn from.
8. Failure. A damaged file raises ``DamagedError`` and may leave tensors half filled. The caller restores another checkpoint
   into them or ends; it never trains with them.
"""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from supervisor.core.frozen import dataclass
from supervisor.trainer import adapters
from supervisor.trainer.errors import UnsupportedStateError, first_lines
from supervisor.trainer.save.checkpoint_folder import LoadRequest
from supervisor.trainer.state import rng
from supervisor.trainer.state.state_trace import ChangedError, StateTrace, as_json
from supervisor.trainer.state.tree import TreeCapture, differences, same_but_devices, shared_containers
from supervisor.trainer.steps.data_position import DataPosition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from supervisor.trainer.adapters.port import FrameworkAdapter, LeafSpec, Skeleton, StateAccess
    from supervisor.trainer.save.checkpoint_folder import OpenCheckpoint
    from supervisor.trainer.state.script_classes import ScriptClasses
    from supervisor.trainer.state.typed_json import Node

SHOWN_PATHS_MAX = 3
SHARING_CHECKS = 2  # walks: at attach(), and once the state has all it will have
BESIDE = "/beside"  # behind a name: what the object has beside its state


@dataclass(frozen=True, slots=True)
class StateCapture:
    """One moment of the state. ``values`` are the live tensors, in the order of ``leaves``.

    ``text()`` is the JSON of ``objects``; ``beside()`` is the JSON of their extra state. Both are valid until the next capture.
    Captures of equal ``structure`` differ only in the tensors' contents and in single numbers. ``updated_by_optimizer``: the
    numbers of the leaves that only an optimizer's step changes.
    """

    objects: dict[str, Node]
    text: Callable[[], str]
    beside: Callable[[], str]
    generators: rng.RngStates
    leaves: dict[str, LeafSpec]
    values: list[Any]
    structure: int
    updated_by_optimizer: frozenset[int]


class AttachedState:
    """The attached objects with their adapters.

    UnsupportedStateError for an object that cannot be saved and restored.
    """

    def __init__(self, attached: Mapping[str, Any]) -> None:
        self.frameworks: list[FrameworkAdapter] = adapters.loaded()
        self.attached = dict(attached)
        self.notices: list[tuple[str, str]] = []  # level and message, sent by the caller of the last capture
        self._extra_adapters: dict[str, FrameworkAdapter] = {}
        self._state_accesses = {name: self._state_access(name, value) for name, value in attached.items()}
        self._skeletons = self._build_skeletons()
        self._restored_extra: dict[str, Any] = {}  # of the checkpoint that was restored
        self._outgrown_reported: set[str] = set()
        self._restored_flags: dict[str, Any] = {}  # the checkpoint's flags, until the first capture after the restore
        self._checks_data = False
        for framework in self.frameworks:
            framework.watch_unattached_data()
        self._sharing_reported: set[str] = set()
        self._restored_rng: rng.StoredRng | None = None  # of the checkpoint that was restored
        self._rng_at_start = rng.EMPTY
        self._trace: StateTrace | None = None
        self._leaves: dict[str, LeafSpec] = {}
        self._updated_by_optimizer: frozenset[int] = frozenset()
        self._structure = 0

    def capture(self) -> StateCapture:
        """Return the state of this moment.

        Raises:
            UnsupportedStateError: names the first path that cannot be saved exactly.
        """
        known, self.frameworks = len(self.frameworks), adapters.loaded()
        self._compare_flags()
        self._notice_unattached_data()
        states = self._states(self._state_accesses) | self._extra_states()
        generators = rng.RngStates(rng.current_states(self.frameworks), self._rng_at_start)
        trace, self._trace = self._trace, None  # after an error, a partly followed trace is not used again
        if trace is not None and len(self.frameworks) == known:
            try:
                values = trace.follow(states)
            except ChangedError:
                pass  # walk the tree again
            else:
                self._trace = trace
                return self._build_capture(trace.nodes, trace.text, generators, values)
        self._structure += 1
        nodes, capture = self._walk(states)
        self._leaves, values = capture.leaves, list(capture.values.values())
        self._updated_by_optimizer = self._optimizer_updated_leaves(values)
        self._notice_structure(states)
        try:
            self._trace = StateTrace(states, nodes, capture)
        except ChangedError:
            return self._build_capture(
                nodes, lambda names: as_json({name: nodes[name] for name in names}), generators, values
            )
        return self._build_capture(nodes, self._trace.text, generators, values)

    def _extra_states(self) -> dict[str, Any]:
        owners = self.attached.values()
        return {
            f"{name}{BESIDE}": each.extra_state(self.attached[name], owners)
            for name, each in self._extra_adapters.items()
        }

    @property
    def data_positions(self) -> list[DataPosition]:
        """The attached positions in loaders."""
        owners = (getattr(get, "__self__", None) for get, _ in self._state_accesses.values())
        return [owner for owner in owners if isinstance(owner, DataPosition)]

    def watch_unattached_data(self) -> None:
        """Report iterated data that is not attached: the script has a loop of its own."""
        self._checks_data = True

    def _notice_unattached_data(self) -> None:
        message = (
            [each.unattached_data_warning(self.attached.values()) for each in self.frameworks]
            if self._checks_data
            else []
        )
        if any(message):
            self._checks_data = False
            self.notices += [("warning", each) for each in message if each]

    def _compare_flags(self) -> None:
        """Report once, after the first step since a resume, changed ``requires_grad`` flags."""
        before, self._restored_flags = self._restored_flags, {}
        for name, tree in before.items():
            names = (
                self._extra_adapters[name].differing_flags(self.attached[name], tree)
                if name in self._extra_adapters
                else []
            )
            if names:
                message = f"{name}: requires_grad of {_shortened(names)} is not as in the checkpoint: the script has set it since"
                self.notices.append(("warning", f"{message}; if that was not meant, set it before run.steps() only"))

    def _build_skeletons(self) -> dict[str, Skeleton]:
        return {
            name: skeleton
            for name, value in self.attached.items()
            for framework in self.frameworks
            if (skeleton := framework.skeleton(value)) is not None
        }

    def _notice_structure(self, states: Mapping[str, Any]) -> None:
        """Report what a fresh process will not have, and containers that will not come back as one."""
        for name, skeleton in self._skeletons.items():
            if name not in self._outgrown_reported and (message := skeleton.changes(self.attached[name])):
                self._outgrown_reported.add(name)
                self.notices.append(("warning", f"{name}: {message}; {_UNLOADABLE}"))
        if self._structure <= SHARING_CHECKS:
            self.notices += [
                ("warning", message) for message in shared_containers(states) if message not in self._sharing_reported
            ]
            self._sharing_reported.update(message for _, message in self.notices)

    def materialise(self) -> None:
        """Allocate memory for attached objects on torch's meta device, for a checkpoint to fill."""
        for value in self.attached.values():
            for framework in self.frameworks:
                framework.materialise(value)

    def restore(self, opened: OpenCheckpoint) -> list[str]:
        """Restore the objects from a checkpoint; return messages about paths that did not come back.

        Files are read straight into an object's own memory where its state shows that memory. The random generators are only
        read
        here; ``restore_rng`` sets them when the loop begins.

        Args:
            opened: the checkpoint, whose tensors are still unverified.

        Raises:
            DamagedError: a file is damaged. Filled memory then holds meaningless bytes.
            UnsupportedStateError: the attached names or an object do not fit the checkpoint.
        """
        with _gc_paused():
            return self._restore(opened)

    def _restore(self, opened: OpenCheckpoint) -> list[str]:
        nodes: dict[str, Node] = opened.state["objects"]
        self._refuse_other_names(set(nodes))
        kinds, own, live = self._in_place_targets(nodes)
        if any(kind == "no" and self._in_place_mode(name) != "no" for name, (kind, _) in kinds.items()):
            for name, node in nodes.items():
                for framework in self.frameworks:
                    framework.adapt_structure(self.attached[name], node)
            kinds, own, live = self._in_place_targets(nodes)
        wanted = {
            name: LoadRequest(node, kinds[name][1], kinds[name][0] != "whole", self._loads_itself(name), own)
            for name, node in nodes.items()
        }
        beside = {f"{name}{BESIDE}": node for name, node in opened.state.get("beside", {}).items()}
        wanted |= {name: LoadRequest(node, {}, on_host=False) for name, node in beside.items()}
        trees = opened.load(wanted)
        self._restored_extra = {name.removesuffix(BESIDE): trees.pop(name) for name in beside}
        loaded = [name for name in nodes if wanted[name].wants_tree]
        for name in loaded:
            self._load(name, trees.pop(name), opened.step)
        self._restored_rng = opened.rng
        found, _ = self._walk(self._states(name for name in loaded if kinds[name][0] == "no"))
        cautions = [(name, each.restore_warning(self.attached[name])) for name in nodes for each in self.frameworks]
        self.notices += [("warning", f"{name}: {message}") for name, message in cautions if message]
        return [
            message
            for name in found
            for message in self._restore_differences(name, nodes[name], found[name], live[name])
        ]

    def _restore_differences(self, name: str, stored: Node, found: Node, fresh: Node) -> list[str]:
        """Return messages on paths at which the object differs from the checkpoint."""
        paths = differences(stored, found, name)
        if not paths:
            return []
        if hasattr(self.attached[name], "__iter__") and not differences(fresh, found, name):
            self.notices.append(
                ("info", f"{name} goes to its place when it is iterated next; before that it cannot be compared")
            )
            return []
        only_strides = set(paths) - set(differences(stored, found, name, strides=False))
        others = [path for path in paths if path not in only_strides]
        return [
            *([_not_restored(others)] if others else []),
            *([_other_strides(sorted(only_strides))] if only_strides else []),
        ]

    def restore_rng(self) -> list[str]:
        """Set random generators, flags and open gradients to the checkpoint's; return messages about those without a place here.

        From now on, the generators that a loop of the run has never drawn from are known.
        """
        stored, self._restored_rng = self._restored_rng, None
        for name, tree in self._restored_extra.items():
            if name in self._extra_adapters:
                self._extra_adapters[name].restore_extra_state(self.attached[name], tree)
        self._restored_flags, self._restored_extra = self._restored_extra, {}
        if stored is not None:
            self._rng_at_start = stored
            return rng.set_states(rng.decode_states(stored))
        begins = rng.RngStates(rng.current_states(self.frameworks), rng.EMPTY).to_stored()
        self._rng_at_start = {**begins, "undrawn": list(begins["generators"])}
        return []

    def is_device_oom(self, error: BaseException) -> bool:
        """Return whether the error means that the accelerator's memory is used up."""
        return any(framework.is_device_oom(error) for framework in self.frameworks)

    def _build_capture(
        self, nodes: dict[str, Node], text: Callable[[Iterable[str]], str], generators: rng.RngStates, values: list[Any]
    ) -> StateCapture:
        objects = {name: nodes[name] for name in self.attached}
        besides = [f"{name}{BESIDE}" for name in self._extra_adapters]

        def beside() -> str:
            return text(besides).replace(f'{BESIDE}":', '":') if besides else "{}"

        return StateCapture(
            objects,
            lambda: text(objects),
            beside,
            generators,
            self._leaves,
            values,
            self._structure,
            self._updated_by_optimizer,
        )

    def _optimizer_updated_leaves(self, values: Sequence[Any]) -> frozenset[int]:
        updated_by_optimizer = {
            (framework.name, address)
            for framework in self.frameworks
            for owner in self.attached.values()
            for address in framework.optimizer_updated(owner)
        }
        return frozenset(
            number
            for number, (leaf, value) in enumerate(zip(self._leaves.values(), values, strict=True))
            if (leaf.framework.name, leaf.framework.address(value)) in updated_by_optimizer
        )

    def _states(self, names: Iterable[str]) -> dict[str, Any]:
        return {name: self._state_accesses[name][0]() for name in names}

    def _walk(self, states: Mapping[str, Any]) -> tuple[dict[str, Node], TreeCapture]:
        capture = TreeCapture(self.frameworks)
        return {name: capture.node(state, name) for name, state in states.items()}, capture

    def _in_place_targets(
        self, nodes: Mapping[str, Node]
    ) -> tuple[dict[str, tuple[str, Mapping[str, Any]]], ScriptClasses, dict[str, Node]]:
        """Return for each object its in-place mode and targets; then the script's classes, and the live nodes.

        An object is filled in place only if its live nodes equal those of the checkpoint.
        """
        live, capture = self._walk(self._states(self._state_accesses))
        kinds: dict[str, tuple[str, Mapping[str, Any]]] = {}
        for name, node in nodes.items():
            kind = self._in_place_mode(name)
            fits = kind != "no" and (node == live[name] or same_but_devices(node, live[name]))
            kinds[name] = (kind, capture.values) if fits else ("no", {})
        return kinds, capture.kinds, live

    def _in_place_mode(self, name: str) -> str:
        owner = self.attached[name]
        return next((kind for each in self.frameworks if (kind := each.in_place_mode(owner)) != "no"), "no")

    def _loads_itself(self, name: str) -> bool:
        return any(framework.loads_itself(self.attached[name]) for framework in self.frameworks)

    def _load(self, name: str, state: Any, step: int) -> None:
        try:
            self._state_accesses[name][1](state)
        except Exception as error:
            raise UnsupportedStateError(
                name,
                f"the checkpoint of step {step} does not fit it: {first_lines(error, 2)}",
                "start the script as it was when the checkpoint was made, or start a new run under another --name",
            ) from error

    def _state_access(self, name: str, value: Any) -> StateAccess:
        for framework in self.frameworks:  # first, because a Keras layer on torch has both
            state_access = framework.state_access(value)
            if state_access is not None:
                return state_access
        if callable(getattr(value, "state_dict", None)) and callable(getattr(value, "load_state_dict", None)):
            keeper = next((each for each in self.frameworks if each.extra_state(value, ()) is not None), None)
            if keeper is not None:
                self._extra_adapters[name] = keeper
            return value.state_dict, value.load_state_dict
        for framework in self.frameworks:
            if (advice := framework.attach_advice(value)) is not None:
                raise UnsupportedStateError(name, *advice)
        raise UnsupportedStateError(
            name,
            f"a {type(value).__name__} has no state_dict() and load_state_dict()",
            "give the class these two methods, or attach the object inside it that holds the state",
        )

    def _refuse_other_names(self, stored: set[str]) -> None:
        attached = set(self.attached)
        for name in sorted(stored - attached):
            raise UnsupportedStateError(
                name,
                "is in the checkpoint, but this script does not attach it",
                f"call supervisor.attach({name}=…) as before, or start a new run under another --name",
            )
        for name in sorted(attached - stored):
            raise UnsupportedStateError(
                name,
                f"is attached, but the checkpoint holds only {', '.join(sorted(stored)) or 'nothing'}",
                f"leave {name} out until this run has ended, or start a new run under another --name",
            )


_UNLOADABLE = (
    "a fresh process that builds it as at the start cannot load the checkpoints from now on: have the script build it "
    "as it is now where supervisor.resume_step() is past this step"
)


@contextmanager
def _gc_paused() -> Iterator[None]:
    """Pause the garbage collector: with ten thousand tensors it would scan all of them again and again."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _not_restored(paths: list[str]) -> str:
    return f"load_state_dict() did not restore {_shortened(paths)}: training may not go on exactly as before"


def _other_strides(paths: list[str]) -> str:
    return f"{_shortened(paths)}: the values are back, but not the strides in memory, so sums may differ in their last bits"


def _shortened(paths: list[str]) -> str:
    more = f" and {len(paths) - SHOWN_PATHS_MAX} more" if len(paths) > SHOWN_PATHS_MAX else ""
    return f"{', '.join(paths[:SHOWN_PATHS_MAX])}{more}"
