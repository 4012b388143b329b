"""The old place of ``supervisor.trainer.steps.sampler``, for scripts that import it from here."""

from supervisor.trainer.steps.sampler import Order

__all__ = ["Order"]
