"""Checks the frameworks that a script uses against ``core.supported``, when the script first needs one of them."""

from __future__ import annotations

import importlib.metadata
import sys
from typing import TYPE_CHECKING

from supervisor.core import supported
from supervisor.core.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_checked: set[str] = set()


def check(names: Iterable[str], warn: Callable[[str, str], None]) -> None:
    """Warn once of each version that is not tested. Raises SetupError for one that is known not to work.

    ``warn`` is told what there is and what to do. A framework that is not installed is none of our concern.
    """
    for name in names:
        if name in _checked:
            continue
        version = _version(name)
        if version is None:
            continue
        _checked.add(name)
        judgement = supported.judge(name, version)
        if judgement.fit == "broken":
            _checked.discard(name)
            raise SetupError(judgement.what, judgement.hint)
        if judgement.fit == "untested":
            warn(judgement.what, judgement.hint)


def check_loaded(warn: Callable[[str, str], None]) -> None:
    """Check every framework that the script has imported."""
    check([row.name for row in supported.ROWS.values() if row.module in sys.modules], warn)


def _version(name: str) -> str | None:
    module = sys.modules.get(supported.ROWS[name].module)
    told = getattr(module, "__version__", None)
    if isinstance(told, str):
        return told
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
