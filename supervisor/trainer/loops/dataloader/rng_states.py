"""Two kinds of random states that an epoch of a DataLoader depends on.

``EpochRngStates`` belongs to a loader: all global generators, and the generators and samplers that the loader holds. It decides
an epoch's order. ``LoaderRngStates`` is a value: the three generators that samples and collators use while batches are read.
Their stored forms differ, and checkpoints of earlier versions have both.
"""

from __future__ import annotations

import random
from copy import deepcopy
from typing import Any, NamedTuple

import torch

from supervisor.trainer import adapters
from supervisor.trainer.state import rng

PYTHON_RNG_VERSION = 3  # of random.getstate()
GENERATORS = (torch.Generator, random.Random)


def is_stateful(owner: Any) -> bool:
    """Return whether the object can save and load its state."""
    return all(callable(getattr(owner, name, None)) for name in ("state_dict", "load_state_dict"))


class EpochRngStates:
    """Everything that an epoch's order may be drawn from.

    The global generators, and those of the loader and its samplers.
    """

    def __init__(self, owners: tuple[Any, ...]) -> None:
        held = [value for owner in owners for value in getattr(owner, "__dict__", {}).values()]
        unique = {id(value): value for value in held if isinstance(value, GENERATORS)}
        self._generators = list(unique.values())
        self._stateful = list({id(owner): owner for owner in owners[1:] if is_stateful(owner)}.values())

    def capture(self) -> dict[str, Any]:
        """Return copies of all states."""
        return {"global": rng.current_states(adapters.loaded()), "own": self.held_states()}

    def held_states(self) -> list[Any]:
        """Return copies of the states that the loader and its samplers hold."""
        generators = [_state(generator) for generator in self._generators]
        return [*generators, *(deepcopy(owner.state_dict()) for owner in self._stateful)]

    def restore(self, states: dict[str, Any]) -> None:
        """Set all states to copies of these."""
        rng.set_states(states["global"])
        self.restore_held(states["own"])

    def restore_held(self, states: list[Any]) -> None:
        """Set the states that the loader and its samplers hold."""
        owners = [*self._generators, *self._stateful]
        for owner, state in zip(owners, states, strict=True):
            if isinstance(owner, torch.Generator):
                owner.set_state(state)
            elif isinstance(owner, random.Random):
                owner.setstate(state)
            else:
                owner.load_state_dict(deepcopy(state))


class LoaderRngStates(NamedTuple):
    """The states of the generators that samples and collators use in this process."""

    python: Any
    numpy: Any
    torch: torch.Tensor

    @classmethod
    def capture(cls) -> LoaderRngStates:
        """Return copies of the current states."""
        import numpy as np  # only where the framework has imported it

        return cls(random.getstate(), np.random.get_state(), torch.get_rng_state())  # noqa: NPY002  # the global one is what collators use

    def restore(self) -> None:
        """Set the generators."""
        import numpy as np  # only where the framework has imported it

        random.setstate(self.python)
        np.random.set_state(self.numpy)  # noqa: NPY002  # as above
        torch.set_rng_state(self.torch)

    def to_stored(self) -> dict[str, Any]:
        """Return the stored form."""
        import numpy as np  # only where the framework has imported it

        _, numbers, gauss = self.python
        name, key, position, has_gauss, cached = self.numpy
        return {
            "python": {"numbers": np.array(numbers, dtype=np.uint32), "gauss": gauss},
            "numpy": {"name": name, "key": key, "position": position, "has_gauss": has_gauss, "cached": cached},
            "torch": self.torch,
        }

    @classmethod
    def from_stored(cls, stored: dict[str, Any]) -> LoaderRngStates:
        """Return the states that ``to_stored`` stored."""
        python = (PYTHON_RNG_VERSION, tuple(stored["python"]["numbers"].tolist()), stored["python"]["gauss"])
        return cls(python, tuple(stored["numpy"].values()), stored["torch"])


def _state(generator: Any) -> Any:
    return generator.get_state() if isinstance(generator, torch.Generator) else generator.getstate()
