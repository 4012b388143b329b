"""Checks framework versions against ``supported_versions`` when the script first needs one of them."""

from __future__ import annotations

import importlib.metadata
import sys
from typing import TYPE_CHECKING

from supervisor.core.errors import SetupError
from supervisor.trainer.process import supported_versions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_checked: set[str] = set()


def check(names: Iterable[str], warn: Callable[[str, str], None]) -> None:
    """Warn once of each untested version. A framework that is not installed is ignored.

    Args:
        names: the frameworks.
        warn: gets the problem and the hint.

    Raises:
        SetupError: a version is known not to work.
    """
    for name in names:
        if name in _checked:
            continue
        version = _version(name)
        if version is None:
            continue
        _checked.add(name)
        support = supported_versions.judge(name, version)
        if support.fit == "broken":
            _checked.discard(name)
            raise SetupError(support.what, support.hint)
        if support.fit == "untested":
            warn(support.what, support.hint)


def check_loaded(warn: Callable[[str, str], None]) -> None:
    """Check every framework that the script has imported."""
    check([row.name for row in supported_versions.ROWS.values() if row.module in sys.modules], warn)


def _version(name: str) -> str | None:
    module = sys.modules.get(supported_versions.ROWS[name].module)
    version = getattr(module, "__version__", None)
    if isinstance(version, str):
        return version
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
