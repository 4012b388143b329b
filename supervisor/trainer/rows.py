"""The step log: one row for each step that logged something, kept lazily and written with the next checkpoint."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from supervisor.core.errors import UsageError
from supervisor.trainer import frameworks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from supervisor.trainer.frameworks.framework import Framework, Scalar

WATCHED_ROWS = 32  # where somebody acts on what the rows show: what is done after it is done in vain
FLUSH_ROWS = 1024  # lazily kept values are turned into numbers at the latest after so many rows, to bound their memory

_PLAIN = frozenset({int, float, str, bool, type(None)})
_INT_BITS_MAX = 4096  # Python neither writes nor reads numbers of many thousand digits


class Rows:
    """``add`` never waits for a device; ``taken`` does. Values that are not finite are written as words: JSON has none."""

    def __init__(
        self,
        on_nonfinite: Callable[[int, str, str], None],
        watch: Callable[[int, Mapping[str, Any]], None] | None = None,
        *,
        flush_rows: int = FLUSH_ROWS,
        on_text: Callable[[str, str], None] = lambda _name, _what: None,
    ) -> None:
        self.newest: dict[str, Any] = {}
        self._rows: list[tuple[int, dict[str, Any]]] = []
        self._flushed = 0
        self._frameworks: list[Framework] = []
        self._on_nonfinite = on_nonfinite
        self._watch = watch
        self._flush_rows = flush_rows
        self._on_text = on_text
        self._as_text: set[str] = set()

    def add(self, step: int, values: dict[str, Any]) -> None:
        """Keep values of the step whose index is ``step``; a later value of the same name replaces the earlier one."""
        if "step" in values:
            raise UsageError("run.log(step=…): the step is noted by itself", "give the value another name")
        for name, value in values.items():
            if type(value) not in _PLAIN:
                values[name] = self._lazy(name, value)
        if self._rows and self._rows[-1][0] == step:
            values = {**self._rows.pop()[1], **values}
            self._flushed = min(self._flushed, len(self._rows))
        self._rows.append((step, values))
        # of each name the newest: what is logged at few steps only must not be gone from sight at the next
        self.newest = {**self.newest, **values}
        if len(self._rows) - self._flushed > self._flush_rows:
            self.flush()

    def holds_passed(self, step: int) -> bool:
        """Say whether the step with this index is noted as left out."""
        return self.holds(step) and "skipped" in self._rows[-1][1]

    def pass_over(self, step: int) -> None:
        """Note that the step with this index is left out, so that the log has no gap."""
        self._rows.append((step, {"skipped": True}))

    def holds(self, step: int) -> bool:
        """Say whether the step with this index has logged something."""
        return bool(self._rows) and self._rows[-1][0] == step

    def taken(self, before: int) -> list[dict[str, Scalar]]:
        """Return the rows of steps under ``before`` that no staged checkpoint holds yet."""
        self.flush()
        return [{"step": step, **values} for step, values in self._rows if step < before]

    def forget(self, before: int) -> None:
        """The rows of steps under ``before`` are in a staged checkpoint."""
        kept = [row for row in self._rows if row[0] >= before]
        self._flushed = max(0, self._flushed - (len(self._rows) - len(kept)))
        self._rows = kept

    def metrics(self) -> dict[str, Scalar]:
        """Return the newest values as numbers; for any thread. It may wait for the device, but only the caller waits."""
        kept = dict(self.newest)
        _to_scalars(self._frameworks, [kept])
        return {_text(name): _spoken(_scalar(value)) for name, value in kept.items()}

    def metrics_if_any(self) -> dict[str, Scalar]:
        """Return the same, or nothing if the device failed: the script meets that error itself, a beat must outlive it."""
        try:
            return self.metrics()
        except RuntimeError:
            return {}

    def _lazy(self, name: str, value: Any) -> Any:
        for base in (bool, int, float, str):
            if isinstance(value, base) and type(value).__module__ != "numpy":
                return base(value)  # of a class of its own, as an IntEnum's
        if not self._frameworks:
            self._frameworks = frameworks.loaded()
        for framework in self._frameworks:
            kept = framework.logged(value)
            if kept is not None:
                return kept
        raise UsageError(
            f"run.log({name}=…) was given a {type(value).__name__}",
            "log numbers, words, True/False/None or tensors with one element",
        )

    def flush(self) -> None:
        """Turn what is kept lazily into numbers; it may wait for a device."""
        fresh = self._rows[self._flushed :]
        self._flushed = len(self._rows)
        _to_scalars(self._frameworks, [values for _, values in fresh])
        for step, values in fresh:
            if self._watch is not None:
                self._watch(step, values)
            self._make_writable(values)
            for name, value in values.items():
                if type(value) is float and not math.isfinite(value):
                    values[name] = _spoken(value)
                    self._on_nonfinite(step, name, str(value))

    def _make_writable(self, values: dict[str, Any]) -> None:
        """Put a text in the place of what JSON cannot hold, and tell of each name once."""
        for name in list(values):
            before, value = values[name], _scalar(values[name])
            if value is not before:
                values[name] = value
                self._tell(name, type(before).__name__, value)
            if not name.isascii() and (text := _text(name)) != name:
                values[text] = values.pop(name)
                self._tell(text, "name with lone surrogates", text)

    def _tell(self, name: str, what: str, value: Any) -> None:
        if type(value) is str and name not in self._as_text:
            self._as_text.add(name)
            self._on_text(_text(name), what)


def _to_scalars(loaded: list[Framework], rows: list[dict[str, Any]]) -> None:
    """Turn the lazily kept values of the rows into numbers, in place: one transfer for each framework."""
    lazy = [(row, name, value) for row in rows for name, value in row.items() if type(value) not in _PLAIN]
    for framework in loaded:
        mine = [item for item in lazy if framework.logged(item[2]) is not None] if lazy else []
        numbers = _numbers(framework, [value for _, _, value in mine]) if mine else []
        for (row, name, _), number in zip(mine, numbers, strict=True):
            row[name] = number


def _numbers(framework: Framework, kept: list[Any]) -> list[Any]:
    """Return the numbers; of a value that has none, as a tensor without memory, a text."""
    try:
        return list(framework.scalars(kept) or [])
    except (NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        if framework.is_device_oom(error):
            raise
        if len(kept) == 1:
            return [f"{type(kept[0]).__name__} that cannot be read"]
        return [number for each in kept for number in _numbers(framework, [each])]


def _scalar(value: Any) -> Any:
    """Return the value if JSON can hold it, else a number or a text that says the same."""
    kind = type(value)
    if kind is int:
        return value if value.bit_length() <= _INT_BITS_MAX else hex(value)
    if kind is str:
        return value if value.isascii() else _text(value)
    if kind in _PLAIN:
        return value
    try:
        return str(value) if isinstance(value, complex) else float(value)  # a longdouble is rounded
    except (OverflowError, TypeError, ValueError):
        return _text(str(value))


def _text(text: str) -> str:
    """Return the text with lone surrogates, which UTF-8 does not have, written out."""
    if text.isascii():
        return text
    written = text.encode("utf-8", "backslashreplace").decode()
    return text if written == text else written


def _spoken(value: Scalar) -> Scalar:
    if type(value) is float and not math.isfinite(value):
        return {True: "Infinity", False: "-Infinity"}[value > 0] if math.isinf(value) else "NaN"
    return value


def exact_row(row: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Return the row with words turned back into the floats that they stand for."""
    words = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
    return {name: words.get(value, value) if isinstance(value, str) else value for name, value in row.items()}
