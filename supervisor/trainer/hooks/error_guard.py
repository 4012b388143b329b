"""Guards hooks, which run inside the framework's functions: an error is reported once, and training continues."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

from supervisor.core.wire.messages import TrainerNote

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.trainer.hooks.unmodified_script import UnmodifiedScript

Kind = TypeVar("Kind", bound=type)
Result = TypeVar("Result")


def guarded(script: UnmodifiedScript, name: str, function: Callable[..., Result]) -> Callable[..., Result | None]:
    """Return ``function`` as one that returns None instead of raising. SystemExit passes: hooks end a script with it.

    Args:
        script: sends the warning.
        name: the framework's function that the hook wraps, as the warning shows it.
        function: the hook.
    """
    reported = False

    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Result | None:
        nonlocal reported
        try:
            return function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001  # the script must not fail by an error of a hook
            if not reported:
                reported = True
                first_line = str(error).partition("\n")[0]
                message = f"{name} cannot be followed here ({type(error).__name__}: {first_line}); training goes on"
                script.send(TrainerNote("warning", f"{message}, steps and saves may be missing in what is shown"))
            return None

    return wrapper


def guard_methods(script: UnmodifiedScript, kind: Kind) -> Kind:
    """Guard all methods of a callback class that the framework calls (``on_…``), and return the class."""
    for name, method in list(vars(kind).items()):
        if name.startswith("on_"):
            setattr(kind, name, guarded(script, f"the Trainer's {name}", method))
    return kind
