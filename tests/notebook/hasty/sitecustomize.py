"""Python imports this by itself where this folder is on its path: what waits for seconds waits for tenths of them."""

import importlib.abc
import importlib.util
import sys

CONFIRM_EVERY_S = 0.15
PAUSE_S = 0.2  # between two tries to mount


def _mounted(module):
    module.MountedStore.__init__.__kwdefaults__["confirm_every_s"] = CONFIRM_EVERY_S


def _colab_drive(module):
    module.PAUSE_S = PAUSE_S


MEANT = {"supervisor.stores.mounted": _mounted, "supervisor.platforms.colab_drive": _colab_drive}


class Hurry(importlib.abc.MetaPathFinder):
    """Finds as the others do, and changes figures of what was found."""

    def find_spec(self, name, path=None, target=None):
        change = MEANT.pop(name, None)
        if change is None:
            return None
        spec = importlib.util.find_spec(name)
        whole = spec.loader.exec_module

        def executed(module):
            whole(module)
            change(module)

        spec.loader.exec_module = executed
        return spec


sys.meta_path.insert(0, Hurry())
