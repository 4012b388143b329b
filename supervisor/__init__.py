"""training-supervisor: a long training run outlives the machines it runs on.

A training script needs one name from here: :func:`attach`, or the callback of its framework. Everything else is behind
``python -m supervisor``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from supervisor import namesake

if TYPE_CHECKING:
    from supervisor.trainer.attach import Run, attach, resume_step
    from supervisor.trainer.folder import read as read_checkpoint
    from supervisor.trainer.order import Order, ResumableShuffleSampler
    from supervisor.trainer.trained import load_model_state

__version__ = "0.1.0"
__all__ = [
    "Order",
    "ResumableShuffleSampler",
    "Run",
    "__version__",
    "attach",
    "load_model_state",
    "read_checkpoint",
    "resume_step",
]


def __getattr__(name: str) -> Any:
    """Load the script's side only when a script asks for it: the command line must start without it."""
    if name in {"attach", "Run", "resume_step"}:
        from supervisor.trainer import attach as module

        return getattr(module, name)
    if name == "load_model_state":
        from supervisor.trainer.trained import load_model_state

        return load_model_state
    if name == "read_checkpoint":
        from supervisor.trainer.folder import read

        return read
    if name in {"Order", "ResumableShuffleSampler"}:
        from supervisor.trainer.order import ResumableShuffleSampler

        return ResumableShuffleSampler
    if name[0].isupper():  # a class; `from supervisor import room` asks here too, before it looks for the room
        from supervisor.trainer import callbacks

        if name in callbacks.ROWS:
            return callbacks.named(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load_ipython_extension(shell: Any) -> None:
    """Give a notebook its magics: ``%load_ext supervisor``, then ``%supervise SCRIPT`` and ``%supervisor VERB``."""
    from supervisor.cli.magics import load

    load(shell)


namesake.say_at_import()
