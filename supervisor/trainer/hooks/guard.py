"""A function of a hook runs inside the framework's own: an error of the hook is told once, and training goes on."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

from supervisor.core.messages import Note

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.trainer.hooks.unattached import Unattached

Kind = TypeVar("Kind", bound=type)
Result = TypeVar("Result")


def guarded(script: Unattached, name: str, function: Callable[..., Result]) -> Callable[..., Result | None]:
    """Return ``function`` as one that returns None instead of raising. SystemExit passes: it is how a hook ends a script.

    ``name`` is the framework's function that the hook sits in, as the warning shows it.
    """
    told = False

    @wraps(function)
    def calls(*given: Any, **named: Any) -> Result | None:
        nonlocal told
        try:
            return function(*given, **named)
        except Exception as error:  # noqa: BLE001  # whatever the hook did not foresee, the script is right without it
            if not told:
                told = True
                first_line = str(error).partition("\n")[0]
                words = f"{name} cannot be followed here ({type(error).__name__}: {first_line}); training goes on"
                script.say(Note("warning", f"{words}, steps and saves may be missing in what is shown"))
            return None

    return calls


def guard_methods(script: Unattached, kind: Kind) -> Kind:
    """Guard all methods of a callback class that the framework calls (``on_…``), and return the class."""
    for name, method in list(vars(kind).items()):
        if name.startswith("on_"):
            setattr(kind, name, guarded(script, f"the Trainer's {name}", method))
    return kind
