"""The old place of ``supervisor.trainer.save.checkpoint_folder``, for scripts that import it from here."""

from supervisor.trainer.save.checkpoint_folder import read

__all__ = ["read"]
