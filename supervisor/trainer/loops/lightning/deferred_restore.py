"""State that Lightning resets while fit begins, and that is therefore restored right before the first step."""

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


class LightningDeferredRestore(ABC):
    """Attached. Until ``restore`` its state is the loaded one."""

    def __init__(self) -> None:
        self._pending: Any = None

    def state_dict(self) -> Any:
        """Return the state that is still to be restored, else the current one."""
        return self.read() if self._pending is None else self._pending

    def load_state_dict(self, tree: Any) -> None:
        """Keep the state until it can be restored."""
        self._pending = tree

    def restore(self) -> None:
        """Restore the loaded state, if there is one."""
        pending, self._pending = self._pending, None
        if pending is not None:
            self.write(pending)

    @abstractmethod
    def read(self) -> Any:
        """Return the current state."""

    @abstractmethod
    def write(self, tree: Any) -> None:
        """Set a state."""


class Gradients(LightningDeferredRestore):
    """Gradients between two steps: with manual optimization, a script may accumulate them over batches."""

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


class LightningMetrics(LightningDeferredRestore):
    """The epoch's means so far (``self.log(..., on_epoch=True)``), the last values, and torchmetrics' states."""

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
        for key, stored in tree["results"].items():
            results[key] = self._rebuilt(modules[type(results).__module__], stored)

    def _torchmetrics(self) -> list[tuple[str, Any]]:
        named = self._trainer.lightning_module.named_modules()
        return [(name, module) for name, module in named if isinstance(module, Metric)]

    def _rebuilt(self, lightning: Any, stored: dict[str, Any]) -> Any:
        meta = lightning._Metadata(**stored["meta"], reduce_fx=_REDUCTIONS[stored["reduce_fx"]])  # noqa: SLF001
        meta.sync = lightning._Sync(  # noqa: SLF001  # as LightningModule.log() makes them
            _should=stored["sync"]["should"],
            fn=self._trainer.strategy.reduce,
            rank_zero_only=stored["sync"]["rank_zero_only"],
        )
        metric = lightning._ResultMetric(meta, stored["is_tensor"])  # noqa: SLF001  # as LightningModule.log() makes them
        for name, value in stored["state"].items():
            setattr(metric, name, value)
        metric._defaults.update(stored["defaults"])  # noqa: SLF001  # what it is reset to has the precision of training_step
        if not stored["is_tensor"]:
            metric.value = attrgetter(stored["meta"]["metric_attribute"])(self._trainer.lightning_module)
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
