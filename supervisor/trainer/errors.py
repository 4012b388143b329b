"""The error for a state that cannot be saved exactly: it names the path in the state and the remedy."""

from __future__ import annotations

from supervisor.core.errors import SetupError


class UnsupportedStateError(SetupError):
    """``path`` (``scheduler.lr_lambdas.0``) holds a value that would not come back unchanged.

    A restart will not help.
    """

    def __init__(self, path: str, why: str, hint: str) -> None:
        super().__init__(f"{path}: {why}", hint)
        self.path = path


def unsupported(path: str, value: object) -> UnsupportedStateError:
    """Return the error for a value whose type has no exact form in a checkpoint."""
    noun = _NOUNS.get(type(value).__name__, f"a value of type {type(value).__module__}.{type(value).__qualname__}")
    return UnsupportedStateError(
        path,
        f"{noun} cannot be kept in a checkpoint",
        "leave it out of state_dict() and make it again when the script starts, "
        "or return numbers, strings, bytes, lists, tuples, dicts or tensors that it can be made from",
    )


def first_lines(error: BaseException, lines: int) -> str:
    """Return the error's type with the first lines of its message, because torch's go on with every tensor."""
    shown = [line.strip() for line in str(error).splitlines() if line.strip()][:lines]
    return f"{type(error).__name__}: {' '.join(shown)}"


_NOUNS = {
    "function": "a function",
    "builtin_function_or_method": "a function",
    "method": "a bound method",
    "type": "a class",
    "generator": "a generator",
    "module": "a module",
    "defaultdict": "a defaultdict whose factory is no built-in type",
}
