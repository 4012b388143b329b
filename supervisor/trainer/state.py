"""The attached objects and the random generators: captured into nodes and leaves, and put back from a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from supervisor.core.values import dataclass
from supervisor.trainer import frameworks, rng
from supervisor.trainer.refused import RefusedError
from supervisor.trainer.tree import Capture, differences

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor.trainer.folder import Opened
    from supervisor.trainer.frameworks.framework import Framework, StateAccess
    from supervisor.trainer.leaf import Leaf
    from supervisor.trainer.typed_json import Node

SHOWN_PATHS_MAX = 3


@dataclass(frozen=True, slots=True)
class Captured:
    """One moment of the state; ``leaves`` still point at the live tensors."""

    objects: dict[str, Node]
    rng: rng.Kept
    leaves: dict[str, Leaf]


class State:
    """RefusedError at once for an object whose state cannot be read and put back."""

    def __init__(self, attached: Mapping[str, Any]) -> None:
        self.frameworks: list[Framework] = frameworks.loaded()
        self._attached = dict(attached)
        self._access = {name: self._access_of(name, value) for name, value in attached.items()}
        self._generators: dict[str, Any] = {}

    def captured(self) -> Captured:
        """Walk the state; RefusedError names the first place that cannot be kept exactly."""
        self.frameworks = frameworks.loaded()
        capture = Capture(self.frameworks)
        objects = {name: capture.node(get(), name) for name, (get, _) in self._access.items()}
        return Captured(objects, rng.captured(self.frameworks), capture.leaves)

    def restore(self, opened: Opened) -> list[str]:
        """Put the state of a checkpoint back into the objects; return words about what did not come back.

        The random generators are only read here: ``put_back_rng`` sets them when the loop begins.
        """
        nodes: dict[str, Node] = opened.state["objects"]
        self._refuse_other_names(set(nodes))
        for name, node in nodes.items():
            on_host = any(framework.places_itself(self._attached[name]) for framework in self.frameworks)
            try:
                self._access[name][1](opened.tree(node, on_host=on_host))
            except Exception as error:
                raise RefusedError(
                    name,
                    f"the checkpoint of step {opened.step} does not fit it: {_first_line(error)}",
                    "start the script as it was when the checkpoint was made, or start a new run under another --name",
                ) from error
        self._generators = rng.states(opened.rng)
        found = self.captured().objects
        paths = [path for name, node in nodes.items() for path in differences(node, found[name], name)]
        return [_not_restored(paths)] if paths else []

    def put_back_rng(self) -> list[str]:
        """Set the random generators to the checkpoint's; return words about those that have no place here."""
        generators, self._generators = self._generators, {}
        return rng.put_back(generators)

    def is_device_oom(self, error: BaseException) -> bool:
        """Say whether the error means that the accelerator's memory is used up."""
        return any(framework.is_device_oom(error) for framework in self.frameworks)

    def _access_of(self, name: str, value: Any) -> StateAccess:
        if callable(getattr(value, "state_dict", None)) and callable(getattr(value, "load_state_dict", None)):
            return value.state_dict, value.load_state_dict
        for framework in self.frameworks:
            access = framework.access(value)
            if access is not None:
                return access
        raise RefusedError(
            name,
            f"a {type(value).__name__} has no state_dict() and load_state_dict()",
            "give the class these two methods, or attach the object inside it that holds the state",
        )

    def _refuse_other_names(self, kept: set[str]) -> None:
        attached = set(self._attached)
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


def _not_restored(paths: list[str]) -> str:
    shown = ", ".join(paths[:SHOWN_PATHS_MAX])
    more = f" and {len(paths) - SHOWN_PATHS_MAX} more" if len(paths) > SHOWN_PATHS_MAX else ""
    return f"load_state_dict() did not restore {shown}{more}: training may not go on exactly as before"


def _first_line(error: Exception) -> str:
    """Return what went wrong without torch's list of every tensor that does not fit."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
