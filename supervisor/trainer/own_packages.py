"""xxhash for a training process whose interpreter has none: that one package of the supervisor's own, and no other.

The folder it lies in never comes onto ``sys.path``, because what else lies there would take the place of the script's own.
"""

from __future__ import annotations

import sys

NAME = "xxhash"


def make_xxhash_importable(folder: str) -> None:
    """Load xxhash from ``folder`` if nothing else provides it. Made for another Python, or not there: all stays as it was."""
    try:
        import xxhash  # noqa: F401  # only asked for
    except ImportError:
        if folder:
            _load(f"{folder}/{NAME}")


def _load(package: str) -> None:
    from importlib.util import module_from_spec, spec_from_file_location  # 1 ms that most processes need not spend

    spec = spec_from_file_location(NAME, f"{package}/__init__.py", submodule_search_locations=[package])
    if spec is None or spec.loader is None:
        return
    sys.modules[NAME] = module_from_spec(spec)
    try:
        spec.loader.exec_module(sys.modules[NAME])
    except Exception:  # noqa: BLE001  # whatever is wrong with it, digests are then made without it
        for name in [each for each in sys.modules if each == NAME or each.startswith(f"{NAME}.")]:
            del sys.modules[name]
