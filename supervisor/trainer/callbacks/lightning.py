"""Lightning: one callback keeps and restores a whole fit; ``Trainer(callbacks=[supervisor.LightningCallback()])``."""

from __future__ import annotations

import signal
import sys
import threading
from importlib import import_module
from typing import TYPE_CHECKING, Any

from supervisor.core.errors import UsageError
from supervisor.core.messages import Note
from supervisor.trainer import life
from supervisor.trainer.attach import attach
from supervisor.trainer.callbacks import best_files, lightning_loops
from supervisor.trainer.callbacks.lightning_data import Data
from supervisor.trainer.callbacks.lightning_late import Gradients, Metrics
from supervisor.trainer.callbacks.lightning_state import Dump
from supervisor.trainer.hooks.lightning import cut_short

if TYPE_CHECKING:
    from supervisor.trainer.callbacks.lightning_loops import Seams
    from supervisor.trainer.run import Run

PACKAGES = ("lightning.pytorch", "pytorch_lightning")
SECOND_FIT = "supervisor.LightningCallback keeps one fit of a script, and this is its second"


def _package() -> Any:
    """Return Lightning under the name by which the script has imported it."""
    return import_module(next((name for name in PACKAGES if name in sys.modules), PACKAGES[0]))


class LightningCallback(_package().Callback):  # type: ignore[misc]  # Lightning may be absent where types are checked
    """Restores when fit begins, and has a boundary after every optimizer step, validation and epoch's end included.

    With manual optimization a step is a batch. One process and one fit.
    """

    def __init__(self) -> None:
        self._run: Run | None = None
        self._seams: Seams | None = None
        self._late: tuple[Metrics, Gradients] | None = None
        self._handler: Any = None
        self._loss: Any = None
        self._shown: dict[str, Any] = {}

    @property
    def state_key(self) -> str:
        """A word that says whose it is, whatever package Lightning bears."""
        return "supervisor.LightningCallback"

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:  # noqa: ARG002  # Lightning's signature
        if stage == "fit":
            refuse_what_cannot_be_kept(trainer)
            if self._run is not None:
                raise UsageError(SECOND_FIT, "give each fit() a script of its own; validate, test and predict are free")

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        dump = Dump(trainer)
        metrics, gradients = Metrics(trainer), Gradients(pl_module)
        data = Data(trainer, lambda: self._seams is not None and self._seams.mid_epoch)
        self._late = metrics, gradients
        # The model comes last, because what does not fit is told under the name of the part that completes the rest.
        parts = {"metrics": metrics, "data": data, "gradients": gradients, **dump.parts}
        self._run = attach(**parts)
        self._run.companions.add(lambda: best_files.of_lightning(trainer))
        self._handler = signal.getsignal(signal.SIGTERM)
        self._seams = lightning_loops.Seams(trainer, data, self)
        if self._run.resumed:
            trainer.num_sanity_val_steps = 0  # it would reset the metrics that are back

    def begin(self, trainer: Any) -> None:
        """The first step of this process comes next."""
        assert self._run is not None
        assert self._late is not None
        for late in self._late:
            late.put_back()
        self._shown = dict(trainer.callback_metrics)
        if threading.current_thread() is threading.main_thread():
            # Lightning's own would end fit in front of the boundary, with nothing saved.
            signal.signal(signal.SIGTERM, self._handler)
        self._run.begin(*lightning_loops.lengths(trainer, self._run.step))

    def advance(self, trainer: Any) -> None:
        """One step is done, and all that Lightning does after it."""
        assert self._run is not None
        metrics = trainer.callback_metrics
        # A value that is still the same object was logged with the step that made it.
        new = {name: value for name, value in metrics.items() if self._shown.get(name) is not value}
        self._shown = dict(metrics)
        loss, self._loss = self._loss, None
        self._run.log(**({} if loss is None else {"loss": loss}) | new)
        self._run.advance()

    def end(self, trainer: Any) -> None:
        """No step is left; or an epoch was cut short, and neither ``should_stop`` nor a hook of the script asked for it."""
        assert self._run is not None
        assert self._seams is not None
        early = bool(trainer.should_stop or not self._seams.cut.is_silent)
        total = self._run.short_of
        if total is not None and not early:
            life.here().say(Note("warning", cut_short(self._run.step, total)))
        self._run.end(early=early)

    @property
    def resumed(self) -> bool:
        """A checkpoint was put back."""
        return self._run is not None and self._run.resumed

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        self._loss = outputs.get("loss") if isinstance(outputs, dict) else outputs

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002  # Lightning's signature
        if self._run is not None and trainer.state.fn == "fit":
            self._run.enter("eval")

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002  # Lightning's signature
        if self._run is not None and trainer.state.fn == "fit":
            self._run.leave()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:  # noqa: ARG002
        # Whatever ended fit, it was not between two steps, or all is saved: nothing is saved at exit.
        life.here().failed = True
        self._give_back()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:  # noqa: ARG002  # Lightning's signature
        self._give_back()

    def _give_back(self) -> None:
        seams, self._seams = self._seams, None
        if seams is not None:
            seams.undo()


def refuse_what_cannot_be_kept(trainer: Any) -> None:
    """Raise UsageError for a Trainer whose state would not come back exactly."""
    if trainer.world_size > 1:
        raise UsageError(
            f"supervisor.LightningCallback keeps one process, and this trainer has {trainer.world_size}",
            "use Trainer(devices=1, num_nodes=1), or keep Lightning's own checkpoints with start --watch",
        )
    lightning_loops.refuse_unknown(trainer)
    if any(type(callback).__name__ == "StochasticWeightAveraging" for callback in trainer.callbacks):
        words = "StochasticWeightAveraging puts its schedule back in part only: a resumed run may end otherwise"
        life.here().say(Note("warning", f"{words}; EMAWeightAveraging goes on exactly"))
