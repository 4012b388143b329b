"""The distribution ``supervisor`` of the Python Package Index (supervisord) has a package of the same name as ours.

Installed into one environment, both write the same ``supervisor/__init__.py``. Whichever is installed last has it, and
uninstalling either removes it. Nothing here can prevent that, so it is noticed and said: at the import, by ``doctor``, and
by every command whose ``__init__.py`` is not ours any more.
"""

from __future__ import annotations

import os
import shlex
import sys

PACKAGE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120  imported by every script: pathlib is slow
FILE = "supervisord.py"
_CHILD = ("SUPERVISOR_RUN_CALLED_AS", "SUPERVISOR_RUN_ID")  # a process of ours: the one that started it has said it


def shared(package: str = PACKAGE) -> tuple[str, str] | None:
    """Say in two lines that supervisord's files lie among ours; None where they do not."""
    if not _is_there(os.path.join(package, FILE)):  # noqa: PTH118
        return None
    what = f"{_called(package)} is installed into the same folder as training-supervisor: removing or updating either one breaks the other"
    return what, f"install training-supervisor into an environment of its own; where it broke: {_repair(package)}"


def broken(ours: bool, package: str = PACKAGE) -> tuple[str, str] | None:
    """Say in two lines that ``supervisor/__init__.py`` is not ``ours``: replaced, or removed; None where it is."""
    if ours:
        return None
    init = os.path.join(package, "__init__.py")  # noqa: PTH118
    if _is_there(init):
        happened = f"was replaced by {_called(package)}"
    else:
        happened = "is gone: uninstalling the package supervisor (supervisord) removes it"
    return f"{init} {happened}, so scripts that import supervisor fail", _repair(package)


def elsewhere(path: list[str], package: str = PACKAGE) -> tuple[str, str] | None:
    """Say in two lines that another folder of ``path`` has supervisord; None where none has."""
    home = os.path.dirname(package)  # noqa: PTH120
    for entry in path:
        folder = os.path.abspath(entry or ".")  # noqa: PTH100
        if folder != home and _is_there(os.path.join(folder, "supervisor", FILE)):  # noqa: PTH118
            what = f"{_called(os.path.join(folder, 'supervisor'))} is in {folder}: a script that is run without `start` imports that one"  # noqa: PTH118
            return (
                what,
                f"run such a script with PYTHONPATH={shlex.quote(home)}, or remove supervisord from that Python",
            )
    return None


def say_at_import() -> None:
    """Tell on stderr, once for a command and the processes that it starts, that supervisord's files lie among ours."""
    told = shared()
    if told and sys.stderr is not None and not any(name in os.environ for name in _CHILD):
        sys.stderr.write(f"warning: {told[0]}\n  try: {told[1]}\n")


def _repair(package: str) -> str:
    """Return the command that installs our files again, from where they were installed."""
    source = "training-supervisor"
    told = _read_source(os.path.dirname(package))  # noqa: PTH120
    if told:
        source = told.removeprefix("file://")
    pip = [sys.executable or "python3", "-m", "pip", "install", "--force-reinstall", "--no-deps", source]
    return f"`{shlex.join(pip)}`"


def _read_source(folder: str) -> str:
    """Return the address that our distribution was installed from, as pip noted it; "" where it did not."""
    import json

    try:
        for name in os.listdir(folder):  # noqa: PTH208
            if name.startswith("training_supervisor-") and name.endswith(".dist-info"):
                with open(os.path.join(folder, name, "direct_url.json"), encoding="utf-8") as file:  # noqa: PTH118, PTH123
                    return str(json.load(file)["url"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""  # it came from an index, and its name is enough
    return ""


def _called(package: str) -> str:
    """Return "supervisor 4.2.5 (supervisord)", with the version where its metadata are beside it."""
    try:
        names = sorted(os.listdir(os.path.dirname(package)))  # noqa: PTH120, PTH208
    except OSError:
        names = []
    found = [name.split("-")[1] for name in names if name.startswith("supervisor-")]
    version = found[0].removesuffix(".dist").removesuffix(".egg") if found else ""
    return f"the package supervisor {version}".strip() + " (supervisord)"


def _is_there(path: str) -> bool:
    try:
        os.stat(path)  # noqa: PTH116
    except OSError:
        return False
    return True
