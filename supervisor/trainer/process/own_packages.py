"""Makes xxhash importable in a training process whose interpreter has none: that one package of the supervisor's, and no other.

The package's folder never comes onto ``sys.path``, because its other packages would replace the script's own.
"""

from __future__ import annotations

import sys

NAME = "xxhash"


def make_xxhash_importable(folder: str) -> None:
    """Load xxhash from ``folder`` unless it is importable already.

    A build for another Python, or a missing one, changes nothing.
    """
    try:
        import xxhash  # noqa: F401  # a check only
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
    except Exception:  # noqa: BLE001  # digests are then made without it
        for name in [each for each in sys.modules if each == NAME or each.startswith(f"{NAME}.")]:
            del sys.modules[name]
