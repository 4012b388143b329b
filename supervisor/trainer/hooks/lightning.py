"""Lightning: a callback that ``Trainer.fit`` gets beside the script's own; it hears of steps and can have one saved."""

from __future__ import annotations

import sys
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.core.messages import Note
from supervisor.trainer.hooks import attaching
from supervisor.trainer.hooks.asked import Asked
from supervisor.trainer.hooks.guard import guard_methods
from supervisor.trainer.hooks.saves import tell_after
from supervisor.trainer.hooks.unattached import LOSS
from supervisor.trainer.hooks.writers import by_argument

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from supervisor.trainer.hooks.unattached import Unattached

EPOCH_LOOP_FILE = "training_epoch_loop.py"
SHARE_OF_GRACE = 0.5  # of the time that is left, for the rest of an epoch and its save


def install(module: ModuleType, script: Unattached) -> None:
    """Follow ``fit`` and ``save_checkpoint``."""
    trainer = module.Trainer
    base = sys.modules[module.__name__.removesuffix("trainer.trainer") + "callbacks"].Callback
    watching = _callback(base, script)
    fit = trainer.fit

    @wraps(fit)
    def watched(self: Any, *given: Any, **named: Any) -> Any:
        if not script.silent and not any(isinstance(each, watching) for each in self.callbacks):
            self.callbacks.insert(0, watching())  # because checkpoints are to be the last
        return fit(self, *given, **named)

    trainer.fit = watched
    attaching.into_lightning(module, script)
    tell_after(script, trainer, "save_checkpoint", by_argument("filepath"))


class Cut:
    """Whether an epoch was ended by a StopIteration that is none of Lightning's own."""

    is_silent = False

    def watch(self, advance: Callable[[], Any]) -> Any:
        """Do one batch. Lightning takes a StopIteration for the end of the epoch, wherever it comes from.

        Its own means that ``on_train_batch_start`` returned -1, which is how a script asks for that.
        """
        try:
            return advance()
        except StopIteration as error:
            trace = error.__traceback__
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            code = None if trace is None else trace.tb_frame.f_code
            asked = code is not None and code.co_name == "advance" and code.co_filename.endswith(EPOCH_LOOP_FILE)
            self.is_silent = self.is_silent or not asked
            raise


def cut_short(step: int, total: int) -> str:
    """Return the words for a fit that came to its end too early."""
    return (
        f"fit() ended at step {step:,} of {total:,}, and nothing asked for that (trainer.should_stop is not set): "
        "the data ran out, or a StopIteration came out of the script's own code"
    )


class _Training:
    """A call of ``fit``; steps are the Trainer's own ``global_step``."""

    def __init__(self, script: Unattached, trainer: Any) -> None:
        self._script, self._trainer = script, trainer
        self._asked = Asked()
        self._ends_with_epoch = False
        total = trainer.estimated_stepping_batches
        script.loop_began(self, trainer.global_step, total if isinstance(total, int) and total > 0 else None)
        self._cut = Cut()
        epoch_loop = trainer.fit_loop.epoch_loop
        usual = epoch_loop.advance
        epoch_loop.advance = lambda *given: self._cut.watch(lambda: usual(*given))

    def stepped(self, loss: Any, batch_index: int) -> None:
        """A batch is done, and with it a step, unless gradients are still gathered."""
        script, trainer = self._script, self._trainer
        if loss is not None:
            script.values[LOSS] = loss
        batches = trainer.num_training_batches
        script.epoch = trainer.current_epoch + (batch_index + 1) / batches if batches else None
        if trainer.global_step > script.step:
            script.stepped(trainer.global_step)
        if (self._asked.save or self._asked.end) and not self._ends_with_epoch:
            self._save()

    def ended(self) -> None:
        """``fit`` is over; where an epoch was cut short without a word, and steps are left, this is said."""
        vars(self._trainer.fit_loop.epoch_loop).pop("advance", None)
        step, total = self._script.step, self._script.total_steps
        asked = self._trainer.should_stop or not self._cut.is_silent
        if total is not None and step < total and not asked and not self._script.silent:
            self._script.say(Note("warning", cut_short(step, total)))
        self._script.loop_ended()

    def epoch_began(self) -> None:
        """What saves at the end of an epoch has saved."""
        if self._ends_with_epoch:
            self._script.stop_here()

    @property
    def saves_when_asked(self) -> bool:
        """Only where the data can go on from within an epoch; otherwise Lightning's own saves are the better ones."""
        return self._folder is not None and self._goes_on_within_an_epoch

    def save_soon(self) -> None:
        """Save after this batch, where that is worth it."""
        self._asked.save = self.saves_when_asked

    def end_soon(self, grace_s: float) -> bool:
        """Save and end: at the end of the epoch if that comes in time, else after this batch."""
        if self._folder is None:
            return False
        self._ends_with_epoch = not self._goes_on_within_an_epoch and self._rest_s < SHARE_OF_GRACE * grace_s
        self._asked.end = True
        return True

    @property
    def _folder(self) -> str | None:
        checkpoint = self._trainer.checkpoint_callback
        return None if checkpoint is None else checkpoint.dirpath

    @property
    def _goes_on_within_an_epoch(self) -> bool:
        return hasattr(self._trainer.train_dataloader, "load_state_dict")

    @property
    def _rest_s(self) -> float:
        progress, step_s = self._trainer.fit_loop.epoch_loop.batch_progress, self._script.step_s
        batches = self._trainer.num_training_batches - progress.current.ready
        return batches * step_s / max(1, self._trainer.accumulate_grad_batches) if step_s is not None else float("inf")

    def _save(self) -> None:
        trainer, asked, folder = self._trainer, self._asked, self._folder
        if folder is None:
            return
        path = str(Path(folder, f"asked-epoch={trainer.current_epoch}-step={trainer.global_step}.ckpt"))
        trainer.save_checkpoint(path)
        asked.save = False
        asked.done(path, asked=True)
        if asked.end:
            if not self._goes_on_within_an_epoch:
                words = (
                    "Lightning goes on after this step, but its data loader cannot: it begins the epoch's data again"
                )
                self._script.say(Note("warning", words))
            self._script.stop_here()


def _callback(base: Any, script: Unattached) -> Any:
    """Return a callback class over the script's own ``Callback``, of ``lightning`` or of ``pytorch_lightning``."""

    class Watching(base):
        """Sends on what the Trainer tells; it has no state, so that checkpoints are as without it."""

        training: _Training

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
            self.training = _Training(script, trainer)

        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
            self.training.epoch_began()

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
            if not script.silent:
                self.training.stepped(outputs.get("loss") if isinstance(outputs, dict) else outputs, batch_idx)

        def on_validation_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
            script.enter("eval")

        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
            script.enter("step" if script.driver is not None else "start")

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
            self.training.ended()

    return guard_methods(script, Watching)
