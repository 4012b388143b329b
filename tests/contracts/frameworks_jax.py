"""The row of JAX: arrays and keys; a training state in a class of the script's own, as JAX has no such objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from tests.contracts.frameworks import INTS, ML_FLOATS, Arrays

if TYPE_CHECKING:
    from collections.abc import Callable

seen_by_jax: list[type] = []


class Mean(NamedTuple):
    """As optax has its states."""

    count: Any
    sums: dict[str, Any]


@dataclass(frozen=True)
class Train:
    """As flax has its TrainState: leaves, and functions that belong to the tree."""

    step: Any
    mean: Mean
    function: Callable[..., Any]


class Held:
    """Parameters and their momentum; how a script that uses JAX gives them to attach()."""

    def __init__(self, seed: int) -> None:
        import jax

        if not seen_by_jax:
            jax.tree_util.register_dataclass(Train, data_fields=["step", "mean"], meta_fields=["function"])
            seen_by_jax.append(Train)
        self.key = jax.random.key(seed)
        self.tree = {"w": jax.random.normal(self.key, (3, 4)), "m": [jax.numpy.zeros((3, 4))]}
        self.train = Train(0, Mean(jax.numpy.zeros(()), {"sum": jax.numpy.zeros(2)}), max)

    def state_dict(self) -> dict[str, Any]:
        return {"key": self.key, "tree": self.tree, "train": self.train, "mean": (self.train.mean, ())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.key, self.tree, self.train = state["key"], state["tree"], state["train"]
        assert (type(self.train), type(state["mean"][0])) == (Train, Mean)

    def step(self) -> None:
        import jax

        self.key, drawn = jax.random.split(self.key)
        x = jax.random.normal(drawn, (2, 3))
        gradient = jax.grad(lambda w: ((x @ w) ** 2).sum())(self.tree["w"])
        moved = 0.9 * self.tree["m"][0] + gradient
        self.tree = {"w": self.tree["w"] - 0.1 * moved, "m": [moved]}
        count, sums = self.train.mean
        mean = Mean(count + 1, {"sum": sums["sum"] + moved[:2, 0]})
        self.train = Train(self.train.step + 1, mean, self.train.function)


class Jax(Arrays):
    row, needs = "jax", "jax"
    environ: ClassVar[dict[str, str]] = {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "JAX_ENABLE_X64": "1",
    }
    dtypes = (*INTS, "float16", "float32", "float64", *ML_FLOATS, "bool", "complex64", "complex128", "int4", "uint4")

    def made(self, of: np.ndarray[Any, Any]) -> Any:
        import jax

        return jax.device_put(of)

    def raw(self, value: Any) -> np.ndarray[Any, Any]:
        import jax

        is_key = jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(value) if is_key else value)

    def values(self) -> dict[str, Any]:
        import jax

        other = jax.devices()[1]
        over = jax.sharding.NamedSharding(jax.make_mesh((2,), ("x",)), jax.sharding.PartitionSpec("x"))
        return super().values() | {
            "weak": jax.numpy.asarray(2.0),
            "key": jax.random.key(3),
            "keys": jax.random.split(jax.random.key(3, impl="rbg"), 4),
            "there": jax.device_put(np.arange(3.0), other),
            "spread": jax.device_put(np.arange(8.0), over),
        }

    def form(self, value: Any) -> list[Any]:
        return [str(value.dtype), list(value.shape), bool(getattr(value, "weak_type", False))]

    def pair(self) -> tuple[Any, Callable[[], None]] | None:
        return None

    def refused(self) -> dict[str, Any]:
        import jax

        gone = jax.numpy.ones(3)
        gone.delete()
        seen = []
        jax.jit(lambda x: seen.append(x) or x)(1.0)
        return {"gone": gone, "traced": seen[0]}

    def objects(self, seed: int) -> dict[str, Any]:
        return {"state": Held(seed)}

    def use(self, objects: dict[str, Any]) -> str:
        for _ in range(3):
            objects["state"].step()
        train = objects["state"].train
        held = [objects["state"].tree["w"], train.mean.count, train.mean.sums["sum"]]
        return "".join(self.bits(each).hex() for each in held) + f" {train.step} {train.function is max}"

    def draw(self) -> str:
        return ""
