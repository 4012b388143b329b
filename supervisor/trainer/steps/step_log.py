"""The step log: one row for each step that logged values, kept lazily and written with the next checkpoint."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from supervisor.core.errors import UsageError
from supervisor.trainer import adapters

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from supervisor.trainer.adapters.port import FrameworkAdapter, Scalar

MONITORED_FLUSH_ROWS = 32  # where anomalies are handled: steps after an anomaly are wasted
FLUSH_ROWS = 1024  # lazily kept values become numbers after so many rows at the latest, to bound their memory

_PLAIN = frozenset({int, float, str, bool, type(None)})
_INT_BITS_MAX = 4096  # Python neither writes nor reads numbers of many thousand digits


class StepLogRows:
    """``add`` never waits for a device; ``unsaved_rows`` does.

    Values that are not finite are written as text, because JSON has none.
    """

    def __init__(
        self,
        on_nonfinite: Callable[[int, str, str], None],
        observe: Callable[[int, Mapping[str, Any]], None] | None = None,
        *,
        flush_rows: int = FLUSH_ROWS,
        on_text: Callable[[str, str], None] = lambda _name, _what: None,
    ) -> None:
        self.newest: dict[str, Any] = {}
        self._rows: list[tuple[int, dict[str, Any]]] = []
        self._flushed = 0
        self._frameworks: list[FrameworkAdapter] = []
        self._on_nonfinite = on_nonfinite
        self._observe = observe
        self._flush_rows = flush_rows
        self._on_text = on_text
        self._as_text: set[str] = set()

    def add(self, step: int, values: dict[str, Any]) -> None:
        """Keep values of the step with this index; a later value of the same name replaces the earlier one."""
        if "step" in values:
            raise UsageError("run.log(step=…): the step is noted by itself", "give the value another name")
        for name, value in values.items():
            if type(value) not in _PLAIN:
                values[name] = self._deferred(name, value)
        if self._rows and self._rows[-1][0] == step:
            values = {**self._rows.pop()[1], **values}
            self._flushed = min(self._flushed, len(self._rows))
        self._rows.append((step, values))
        # of each name the newest: what is logged at few steps only must not be gone from sight at the next
        self.newest = {**self.newest, **values}
        if len(self._rows) - self._flushed > self._flush_rows:
            self.flush()

    def is_skipped_row(self, step: int) -> bool:
        """Return whether the step with this index is recorded as skipped."""
        return self.has_row(step) and "skipped" in self._rows[-1][1]

    def skip_step(self, step: int) -> None:
        """Record that the step with this index is skipped, so that the log has no gap."""
        self._rows.append((step, {"skipped": True}))

    def has_row(self, step: int) -> bool:
        """Return whether the step with this index has logged values."""
        return bool(self._rows) and self._rows[-1][0] == step

    def unsaved_rows(self, before: int) -> list[dict[str, Scalar]]:
        """Return the rows of steps below ``before`` that no staged checkpoint holds yet."""
        self.flush()
        return [{"step": step, **values} for step, values in self._rows if step < before]

    def drop_saved(self, before: int) -> None:
        """Drop the rows of steps below ``before``: a staged checkpoint holds them."""
        remaining = [row for row in self._rows if row[0] >= before]
        self._flushed = max(0, self._flushed - (len(self._rows) - len(remaining)))
        self._rows = remaining

    def metrics(self) -> dict[str, Scalar]:
        """Return the newest values as numbers. Any thread may call this; only the caller waits for the device."""
        newest = dict(self.newest)
        _to_scalars(self._frameworks, [newest])
        return {_utf8_text(name): _json_float(_json_scalar(value)) for name, value in newest.items()}

    def metrics_or_empty(self) -> dict[str, Scalar]:
        """Return the newest values, or nothing if the device failed.

        The script meets that error itself; a heartbeat must survive it.
        """
        try:
            return self.metrics()
        except RuntimeError:
            return {}

    def _deferred(self, name: str, value: Any) -> Any:
        for base in (bool, int, float, str):
            if isinstance(value, base) and type(value).__module__ != "numpy":
                return base(value)  # of a class of its own, as an IntEnum's
        if not self._frameworks:
            self._frameworks = adapters.loaded()
        for framework in self._frameworks:
            lazy = framework.loggable(value)
            if lazy is not None:
                return lazy
        raise UsageError(
            f"run.log({name}=…) was given a {type(value).__name__}",
            "log numbers, words, True/False/None or tensors with one element",
        )

    def flush(self) -> None:
        """Convert lazily kept values to numbers; may wait for a device."""
        fresh = self._rows[self._flushed :]
        self._flushed = len(self._rows)
        _to_scalars(self._frameworks, [values for _, values in fresh])
        for step, values in fresh:
            if self._observe is not None:
                self._observe(step, values)
            self._make_writable(values)
            for name, value in values.items():
                if type(value) is float and not math.isfinite(value):
                    values[name] = _json_float(value)
                    self._on_nonfinite(step, name, str(value))

    def _make_writable(self, values: dict[str, Any]) -> None:
        """Replace values that JSON cannot hold by text, and report each name once."""
        for name in list(values):
            before, value = values[name], _json_scalar(values[name])
            if value is not before:
                values[name] = value
                self._warn_as_text(name, type(before).__name__, value)
            if not name.isascii() and (text := _utf8_text(name)) != name:
                values[text] = values.pop(name)
                self._warn_as_text(text, "name with lone surrogates", text)

    def _warn_as_text(self, name: str, what: str, value: Any) -> None:
        if type(value) is str and name not in self._as_text:
            self._as_text.add(name)
            self._on_text(_utf8_text(name), what)


def _to_scalars(loaded: list[FrameworkAdapter], rows: list[dict[str, Any]]) -> None:
    """Convert the lazily kept values of the rows to numbers, in place: one transfer for each framework."""
    lazy = [(row, name, value) for row in rows for name, value in row.items() if type(value) not in _PLAIN]
    for framework in loaded:
        mine = [item for item in lazy if framework.loggable(item[2]) is not None] if lazy else []
        numbers = _numbers(framework, [value for _, _, value in mine]) if mine else []
        for (row, name, _), number in zip(mine, numbers, strict=True):
            row[name] = number


def _numbers(framework: FrameworkAdapter, lazy: list[Any]) -> list[Any]:
    """Return the numbers; a text for a value without one, such as a tensor without memory."""
    try:
        return list(framework.scalars(lazy) or [])
    except (NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        if framework.is_device_oom(error):
            raise
        if len(lazy) == 1:
            return [f"{type(lazy[0]).__name__} that cannot be read"]
        return [number for each in lazy for number in _numbers(framework, [each])]


def _json_scalar(value: Any) -> Any:
    """Return the value if JSON can hold it, else a number or text with the same meaning."""
    kind = type(value)
    if kind is int:
        return value if value.bit_length() <= _INT_BITS_MAX else hex(value)
    if kind is str:
        return value if value.isascii() else _utf8_text(value)
    if kind in _PLAIN:
        return value
    try:
        return str(value) if isinstance(value, complex) else float(value)  # a longdouble is rounded
    except (OverflowError, TypeError, ValueError):
        return _utf8_text(str(value))


def _utf8_text(text: str) -> str:
    """Return the text with lone surrogates escaped, which UTF-8 does not have."""
    if text.isascii():
        return text
    written = text.encode("utf-8", "backslashreplace").decode()
    return text if written == text else written


def _json_float(value: Scalar) -> Scalar:
    if type(value) is float and not math.isfinite(value):
        return {True: "Infinity", False: "-Infinity"}[value > 0] if math.isinf(value) else "NaN"
    return value


def exact_row(row: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Return the row with the words for infinite and NaN values converted back to floats."""
    words = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
    return {name: words.get(value, value) if isinstance(value, str) else value for name, value in row.items()}
