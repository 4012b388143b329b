"""What Lightning resets while fit begins, and what is therefore put back right before the first step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from operator import attrgetter
from sys import modules
from typing import Any

import torch
from torchmetrics import Metric  # type: ignore[import-not-found,unused-ignore]  # Lightning brings it

META = (
    "fx", "name", "prog_bar", "logger", "on_step", "on_epoch", "enable_graph", "add_dataloader_idx", "dataloader_idx",
    "metric_attribute",
)  # fmt: skip
SHOWN = ("_callback_metrics", "_logged_metrics", "_progress_bar_metrics")
PLACE = ("_current_fx", "_first_loop_iter")
_REDUCTIONS = {f"torch.{name}": getattr(torch, name) for name in ("mean", "sum", "max", "min")} | {
    "sum": sum, "max": max, "min": min,
}  # fmt: skip
COUNTED = ("_update_count", "_computed", "_forward_cache")


class Late(ABC):
    """Attached: until ``put_back`` its state is what was loaded."""

    def __init__(self) -> None:
        self._waiting: Any = None

    def state_dict(self) -> Any:
        """Return what is to be put back still, else the present state."""
        return self.read() if self._waiting is None else self._waiting

    def load_state_dict(self, tree: Any) -> None:
        """Keep it until it can be put back."""
        self._waiting = tree

    def put_back(self) -> None:
        """Put back what was loaded, if anything was."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self.write(waiting)

    @abstractmethod
    def read(self) -> Any:
        """Return the present state."""

    @abstractmethod
    def write(self, tree: Any) -> None:
        """Put a state in place."""


class Gradients(Late):
    """Gradients between two steps: with manual optimization a script may collect them over batches."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self._module = module

    def read(self) -> Any:
        if self._module.automatic_optimization:
            return {}  # they were used: Lightning resets them before the next backward
        return {name: value.grad for name, value in self._module.named_parameters() if value.grad is not None}

    def write(self, tree: Any) -> None:
        for name, value in self._module.named_parameters():
            value.grad = tree.get(name)


class Metrics(Late):
    """The means of an epoch so far (``self.log(..., on_epoch=True)``), the last values, and torchmetrics' own states."""

    def __init__(self, trainer: Any) -> None:
        super().__init__()
        self._trainer = trainer

    def read(self) -> Any:
        connector = self._trainer._logger_connector  # noqa: SLF001  # there is no public one
        results = self._trainer.fit_loop.epoch_loop._results  # noqa: SLF001  # there is no public one
        return {
            "shown": {name: dict(getattr(connector, name)) for name in SHOWN},
            "place": {name: getattr(connector, name) for name in PLACE},
            "results": {key: _result(value) for key, value in results.items()},
            "torchmetrics": {name: _accumulated(metric) for name, metric in self._torchmetrics()},
        }

    def write(self, tree: Any) -> None:
        connector = self._trainer._logger_connector  # noqa: SLF001  # there is no public one
        results = self._trainer.fit_loop.epoch_loop._results  # noqa: SLF001  # there is no public one
        for name, value in {**tree["shown"], **tree["place"]}.items():
            setattr(connector, name, value)
        for name, metric in self._torchmetrics():
            for field, value in tree["torchmetrics"].get(name, {}).items():
                setattr(metric, field, value)
        results.clear()
        for key, kept in tree["results"].items():
            results[key] = self._rebuilt(modules[type(results).__module__], kept)

    def _torchmetrics(self) -> list[tuple[str, Any]]:
        named = self._trainer.lightning_module.named_modules()
        return [(name, module) for name, module in named if isinstance(module, Metric)]

    def _rebuilt(self, lightning: Any, kept: dict[str, Any]) -> Any:
        meta = lightning._Metadata(**kept["meta"], reduce_fx=_REDUCTIONS[kept["reduce_fx"]])  # noqa: SLF001
        meta.sync = lightning._Sync(  # noqa: SLF001  # as LightningModule.log() makes them
            _should=kept["sync"]["should"],
            fn=self._trainer.strategy.reduce,
            rank_zero_only=kept["sync"]["rank_zero_only"],
        )
        metric = lightning._ResultMetric(meta, kept["is_tensor"])  # noqa: SLF001  # as LightningModule.log() makes them
        for name, value in kept["state"].items():
            setattr(metric, name, value)
        metric._defaults.update(kept["defaults"])  # noqa: SLF001  # what it is reset to has the precision of training_step
        if not kept["is_tensor"]:
            metric.value = attrgetter(kept["meta"]["metric_attribute"])(self._trainer.lightning_module)
        return metric


def _result(metric: Any) -> dict[str, Any]:
    fields = ("has_reset", *COUNTED, *(metric._defaults if metric.is_tensor else ()))  # noqa: SLF001  # see Metrics
    return {
        "meta": {name: getattr(metric.meta, name) for name in META},
        "reduce_fx": next(name for name, each in _REDUCTIONS.items() if each is metric.meta.reduce_fx),
        "sync": {"should": metric.meta.sync.should, "rank_zero_only": metric.meta.sync.rank_zero_only},
        "is_tensor": metric.is_tensor,
        "defaults": dict(metric._defaults),  # noqa: SLF001  # see Metrics
        "state": {name: getattr(metric, name) for name in fields},
    }


def _accumulated(metric: Any) -> dict[str, Any]:
    # state_dict() has only states that were declared persistent, and nearly none is.
    return {name: getattr(metric, name) for name in (*metric._defaults, *COUNTED)}  # noqa: SLF001
