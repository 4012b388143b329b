"""All that the order of an epoch may be drawn with: the global random generators, and what a loader and its samplers hold."""

from __future__ import annotations

import random
from copy import deepcopy
from typing import Any

import torch

from supervisor.trainer import frameworks, rng

GENERATORS = (torch.Generator, random.Random)


def is_stateful(owner: Any) -> bool:
    """Say whether it gives its state and takes it back."""
    return all(callable(getattr(owner, name, None)) for name in ("state_dict", "load_state_dict"))


class Chance:
    """All that an order may be drawn with: the global generators, and what the loader and its samplers hold themselves."""

    def __init__(self, owners: tuple[Any, ...]) -> None:
        held = [value for owner in owners for value in getattr(owner, "__dict__", {}).values()]
        unique = {id(value): value for value in held if isinstance(value, GENERATORS)}
        self._generators = list(unique.values())
        self._stateful = list({id(owner): owner for owner in owners[1:] if is_stateful(owner)}.values())

    def states(self) -> dict[str, Any]:
        """Return copies of all states."""
        return {"global": rng.taken(frameworks.loaded()), "own": self.own()}

    def own(self) -> list[Any]:
        """Return copies of the states of what the loader and its samplers hold."""
        generators = [_state(generator) for generator in self._generators]
        return [*generators, *(deepcopy(owner.state_dict()) for owner in self._stateful)]

    def set(self, states: dict[str, Any]) -> None:
        """Set all to copies of such states."""
        rng.put_back(states["global"])
        self.set_own(states["own"])

    def set_own(self, states: list[Any]) -> None:
        """Set what the loader and its samplers hold."""
        owners = [*self._generators, *self._stateful]
        for owner, state in zip(owners, states, strict=True):
            if isinstance(owner, torch.Generator):
                owner.set_state(state)
            elif isinstance(owner, random.Random):
                owner.setstate(state)
            else:
                owner.load_state_dict(deepcopy(state))


def _state(generator: Any) -> Any:
    return generator.get_state() if isinstance(generator, torch.Generator) else generator.getstate()
