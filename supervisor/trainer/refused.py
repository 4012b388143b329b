"""The error for a state that cannot be kept exactly: it names the place in the state and what to do there."""

from __future__ import annotations

from supervisor.core.errors import SetupError


class RefusedError(SetupError):
    """``path`` (``scheduler.lr_lambdas.0``) holds something that would not come back as it was; a restart will not help."""

    def __init__(self, path: str, why: str, hint: str) -> None:
        super().__init__(f"{path}: {why}", hint)
        self.path = path


def cannot_keep(path: str, value: object) -> RefusedError:
    """Return the refusal of a value whose type has no exact form in a checkpoint."""
    noun = _NOUNS.get(type(value).__name__, f"a value of type {type(value).__module__}.{type(value).__qualname__}")
    return RefusedError(
        path,
        f"{noun} cannot be kept in a checkpoint",
        "leave it out of state_dict() and make it again when the script starts, "
        "or return numbers, strings, bytes, lists, tuples, dicts or tensors that it can be made from",
    )


def first_lines(error: BaseException, lines: int) -> str:
    """Return what went wrong, with the first lines of its words: torch's go on with every tensor there is."""
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
