"""Lightning: one callback saves and restores a whole fit; ``Trainer(callbacks=[supervisor.LightningCallback()])``."""

from __future__ import annotations

import signal
import sys
import threading
from importlib import import_module
from typing import TYPE_CHECKING, Any

from supervisor.core.errors import UsageError
from supervisor.core.wire.messages import TrainerNote
from supervisor.trainer import context as trainer_context
from supervisor.trainer.attach import attach
from supervisor.trainer.hooks.lightning import ended_short_message
from supervisor.trainer.loops import best_files
from supervisor.trainer.loops.lightning import loop_hooks as lightning_loop_hooks
from supervisor.trainer.loops.lightning.data_position import LightningDataPosition
from supervisor.trainer.loops.lightning.deferred_restore import Gradients, LightningMetrics
from supervisor.trainer.loops.lightning.state import StateDump

if TYPE_CHECKING:
    from supervisor.trainer.loops.lightning.loop_hooks import LoopPatches
    from supervisor.trainer.run import Run

PACKAGES = ("lightning.pytorch", "pytorch_lightning")
SECOND_FIT = "supervisor.LightningCallback keeps one fit of a script, and this is its second"


def _package() -> Any:
    """Return Lightning under the name by which the script has imported it."""
    return import_module(next((name for name in PACKAGES if name in sys.modules), PACKAGES[0]))


class LightningCallback(_package().Callback):  # type: ignore[misc]  # Lightning may be absent where types are checked
    """Restores when fit begins, and has a boundary after every optimizer step, with validation and the epoch's end.

    With manual optimization, a step is a batch. One process and one fit.
    """

    def __init__(self) -> None:
        self._run: Run | None = None
        self._patches: LoopPatches | None = None
        self._deferred: tuple[LightningMetrics, Gradients] | None = None
        self._handler: Any = None
        self._loss: Any = None
        self._last_metrics: dict[str, Any] = {}

    @property
    def state_key(self) -> str:
        """A key that is the same under both package names of Lightning."""
        return "supervisor.LightningCallback"

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:  # noqa: ARG002  # Lightning's signature
        if stage == "fit":
            require_supported(trainer)
            if self._run is not None:
                raise UsageError(SECOND_FIT, "give each fit() a script of its own; validate, test and predict are free")

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        dump = StateDump(trainer)
        metrics, gradients = LightningMetrics(trainer), Gradients(pl_module)
        data = LightningDataPosition(trainer, lambda: self._patches is not None and self._patches.mid_epoch)
        self._deferred = metrics, gradients
        # The model comes last, because the last part triggers the restore, and its name stands in the error.
        parts = {"metrics": metrics, "data": data, "gradients": gradients, **dump.parts}
        self._run = attach(**parts)
        self._run.companions.add(lambda: best_files.of_lightning(trainer))
        self._handler = signal.getsignal(signal.SIGTERM)
        self._patches = lightning_loop_hooks.LoopPatches(trainer, data, self)
        if self._run.resumed:
            trainer.num_sanity_val_steps = 0  # it would reset the metrics that are back

    def begin(self, trainer: Any) -> None:
        """Begin the run before the first step of this process."""
        assert self._run is not None
        assert self._deferred is not None
        for deferred in self._deferred:
            deferred.restore()
        self._last_metrics = dict(trainer.callback_metrics)
        if threading.current_thread() is threading.main_thread():
            # Lightning's own would end fit in front of the boundary, with nothing saved.
            signal.signal(signal.SIGTERM, self._handler)
        self._run.begin(*lightning_loop_hooks.lengths(trainer, self._run.step))

    def advance(self, trainer: Any) -> None:
        """Log and count one step, after everything that Lightning does for it."""
        assert self._run is not None
        metrics = trainer.callback_metrics
        # A value that is still the same object was logged with the step that made it.
        new = {name: value for name, value in metrics.items() if self._last_metrics.get(name) is not value}
        self._last_metrics = dict(metrics)
        loss, self._loss = self._loss, None
        self._run.log(**({} if loss is None else {"loss": loss}) | new)
        self._run.advance()

    def end(self, trainer: Any) -> None:
        """End the run; warn if an epoch was cut short and nothing asked for it."""
        assert self._run is not None
        assert self._patches is not None
        early = bool(trainer.should_stop or not self._patches.cut_detector.is_unexplained)
        total = self._run.unreached_total
        if total is not None and not early:
            trainer_context.current().send(TrainerNote("warning", ended_short_message(self._run.step, total)))
        self._run.end(early=early)

    @property
    def resumed(self) -> bool:
        """A checkpoint was restored."""
        return self._run is not None and self._run.resumed

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        self._loss = outputs.get("loss") if isinstance(outputs, dict) else outputs

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002  # Lightning's signature
        if self._run is not None and trainer.state.fn == "fit":
            self._run.enter_section("eval")

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002  # Lightning's signature
        if self._run is not None and trainer.state.fn == "fit":
            self._run.leave_section()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:  # noqa: ARG002
        # Whatever ended fit, it was not between two steps, or all is saved: nothing is saved at exit.
        trainer_context.current().failed = True
        self._undo_patches()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:  # noqa: ARG002  # Lightning's signature
        self._undo_patches()

    def _undo_patches(self) -> None:
        patches, self._patches = self._patches, None
        if patches is not None:
            patches.undo()


def require_supported(trainer: Any) -> None:
    """Raise UsageError for a Trainer whose state would not come back exactly."""
    if trainer.world_size > 1:
        raise UsageError(
            f"supervisor.LightningCallback keeps one process, and this trainer has {trainer.world_size}",
            "use Trainer(devices=1, num_nodes=1), or keep Lightning's own checkpoints with start --watch-dir",
        )
    lightning_loop_hooks.require_known_version(trainer)
    if any(type(callback).__name__ == "StochasticWeightAveraging" for callback in trainer.callbacks):
        message = "StochasticWeightAveraging puts its schedule back in part only: a resumed run may end otherwise"
        trainer_context.current().send(TrainerNote("warning", f"{message}; EMAWeightAveraging goes on exactly"))
